"""Speed of this library against what users would pick instead; `python -m benchmarks.alternatives`."""
