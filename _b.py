from benchmarks.common import in_process
from benchmarks.tables import round_trip
for n in (400_000,):
    print(n, [round(x,1) for x in in_process(round_trip, n)], flush=True)
