"""Studies of the library: what corruptions, solvers and trainings achieve, and the faults that a training survives.

    python -m studies.gaussian_table
    python -m studies.few_step
    python -m studies.trained_networks
    python -m studies.gpu
    python -m studies.faults

Results: README.md, and `results/` in the folder of a study. Speed and memory are measured by `benchmarks`.

A folder is one study, run from the root of the repository with `python -m studies.<name>`. To add one: write
`studies/<name>/__init__.py` with a docstring as this one, `__main__.py` with the command line and `main(argv)`, and one
module for each other part; test it in tests/studies at toy size.
"""
