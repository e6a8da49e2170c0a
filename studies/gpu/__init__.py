"""A kit for a lent GPU: what has to be checked and measured on one, in calls of a few minutes that continue each other.

    python -m studies.gpu check --out FOLDER
    python -m studies.gpu speed --out FOLDER
    python -m studies.gpu compare --data TRAIN --held-out TEST --out FOLDER
    python -m studies.gpu winner --data TRAIN --held-out TEST --out FOLDER
    python -m studies.gpu report --out FOLDER

README.md says what to carry to the machine, what to type in which order, and how to read the report.

- `check.py`: the checks, each a line; `agreement.py` (results equal to the CPU's), `steps.py` (precisions, compilation,
  waits for the device) and `continuing.py` (checkpoints, processes) hold them.
- `speed.py`: images per second, memory and overhead.
- `compare.py`: five cases in equal minutes, and the winner; `cases.py`, `training.py` and `measures.py` are its parts.
- `report.py`: tables.
- `limit.py`, `records.py`, `parts.py`: the time of a call, its results, and files that are too large for one transfer.
"""
