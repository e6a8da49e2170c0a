"""Checks that the installed package imports with its four dependencies alone, in under 0.3 s on top of torch."""

import statistics
import subprocess
import sys
from importlib.metadata import requires

LIMIT = 0.3
needed = sorted(line for line in requires("shortest-path") or [] if "extra ==" not in line)
if needed != ["einops", "numpy", "torch>=2.4", "typing-extensions"]:
    sys.exit(f"core dependencies are {needed}")
program = "import torch, time; s = time.perf_counter(); import shortest_path; print(time.perf_counter() - s)"
seconds = [float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(5)]
print(f"import shortest_path: median {statistics.median(seconds):.3f} s on top of import torch (limit {LIMIT} s)")
if statistics.median(seconds) > LIMIT:
    sys.exit("the import is too slow")
