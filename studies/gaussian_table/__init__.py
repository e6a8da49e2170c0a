"""Exact Fisher length of each corruption's path, and exact KL divergence of its samples, for Gaussian data.

    python -m studies.gaussian_table --data cifar10-train.parquet

Results: studies/README.md; `--json FILE` writes all numbers.

`cases.py` has the corruptions and the deviations from the measured spectrum. To add a row, extend `corruptions` or
`deviating`.
"""
