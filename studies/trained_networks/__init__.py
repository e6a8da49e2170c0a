"""Comparison of corruptions with trained networks: same network, images, noise and budget, two primary measures.

    python -m studies.trained_networks.classifier --data TRAIN --test TEST --size 8 --average-from 32 --out classifier8
    python -m studies.trained_networks --data TRAIN --held-out TEST --classifier classifier8

Results: `results/` has the report (.md) and all numbers (.json); docs/results.md explains them. Files that are called
earlier are of an earlier study, by code of that time.

- `cases.py`: corruptions, outputs of networks, and sizes. To add a corruption, extend `CASES`; a size, `PRESETS`.
- `images.py`, `networks.py`: what is trained, and with what.
- `tuning.py`: the learning rate of each corruption and output.
- `runs.py`: one training and its measures. To add a measure, name it in `_wanted` and in `report.py`.
- `measures.py`: likelihood, and distances of samples.
- `classifier.py`: the classifier in whose features samples are compared.
- `statistics.py`, `report.py`, `samples.py`: intervals, tables, and samples side by side.
"""
