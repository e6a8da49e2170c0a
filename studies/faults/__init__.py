"""Faults that a training must survive: kills, full disks and damaged files.

    python -m studies.faults --out outputs/soak

Results: `results.jsonl` in the folder `--out`, a table at the end of the output, and docs/reliability.md.

- `recipes.py`, `training.py`: the small trainings that the faults strike, and how they report their progress.
- `lives.py`, `disk.py`, `rivals.py`, `strays.py`, `ranks.py`, `damage.py`: the faults. To add one, write a module that
  injects it and returns a line with `part` and `problems`, call it in `__main__.py`, and add its row to `results.py`.
- `files.py`, `mutations.py`: image files, and random damage.
- `children.py`: the processes that die.
"""
