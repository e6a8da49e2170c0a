"""Cost of a deviation from the shortest path: the same training for each of several paths.

    python -m studies.deviation --config examples/configs/small.yaml --data PATH

Results: the folder `--out` receives `deviation.md`, `deviation.png` and `deviation.json`.

`measures.py` has the measures: to add one, return it from `measure` and name it in `MEASURES` of `report.py`. To add a
path, extend `make_paths` in `__main__.py`.
"""
