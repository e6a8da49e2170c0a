"""Faults that a training must survive: kills, full disks and damaged files.

    python -m studies.faults --out outputs/soak

Results: `results.jsonl` in the folder `--out`, a table at the end of the output, and docs/reliability.md.

- `training.py`: the small training that the faults strike.
- `lives.py`, `disk.py`, `damage.py`: the faults. To add one, write a module that injects it and returns a line with
  `part` and `problems`, call it in `__main__.py`, and add its row to `results.py`.
- `files.py`, `mutations.py`: image files, and random damage.
- `children.py`: the processes that die.
"""
