from benchmarks.common import in_process
from benchmarks.tables import round_trip
for n in (100_000, 600_000):
    print(n, [round(x,1) for x in in_process(round_trip, n)], flush=True)
