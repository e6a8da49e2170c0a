"""Speed and memory of the library, measured on the user's machine, also against the reference code and diffusers.

    pytest benchmarks/test_speed.py
    python -m benchmarks.compare_reference --reference PATH
    python -m benchmarks.alternatives
    python -m benchmarks.trainer_overhead

Results: README.md; `--json FILE` writes all numbers. Accuracy and quality are measured by `studies`.

A module with a command line is one comparison. To add one: write `benchmarks/<name>.py` with `main()`, time the
contenders with `timing.interleaved`, and print the rows with `timing.print_report`. A part of the library is added to
`test_speed.py`.
"""
