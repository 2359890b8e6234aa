"""What the project promises about speed and size, measured: `python -m benchmarks [--quick] [NAME …]`."""

import os

# A user's Python keeps what it has compiled; so do the processes that are measured here.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
