"""Comparison of corruptions, predictions and solvers with trained networks: same network, images, noise and budget.

    python -m studies.trained_networks.classifier --data TRAIN --test TEST --size 16 --out classifier
    python -m studies.trained_networks --data TRAIN --held-out TEST --classifier classifier

Results: `results/` has the reports (.md) and all numbers (.json) of finished studies; docs/results.md explains them.

- `cases.py`: corruptions, solvers, predictions and sizes. To add a corruption, extend `CASES`; a solver, `SOLVERS`; a
  size, `PRESETS`.
- `runs.py`: one training, its samples and their measures.
- `tuning.py`: the choice of a prediction for each family of corruptions.
- `measures.py`: distances of samples from real images. To add a measure, return it from `Measures` and name it in
  `report.py`.
- `classifier.py`: the classifier in whose features images are compared.
- `report.py`, `plots.py`: tables, and plots.
"""
