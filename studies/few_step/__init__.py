"""Number of model calls that each corruption and solver needs, with an exact denoiser and with a trained network.

    python -m studies.few_step --data cifar10-train.parquet --network outputs/quickstart

Results: studies/README.md; `--json FILE` writes all numbers, `--plot FILE` a plot.

- `mixture.py`: data whose exact denoiser is known, and EDM's sampler.
- `cases.py`: corruptions, solvers and peers. To add a corruption, extend `processes`; to add a solver or a grid, extend
  `settings`; to add a peer, extend `diffusers_peers`.
- `network.py`: the part with a trained network.
- `report.py`: tables, summary and plot.
"""
