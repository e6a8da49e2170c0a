"""Programs that use the library, and `recipe`, the parts that they share.

A program is one file, `examples/<name>.py`, that a user runs. It imports the library and `recipe`, never another
program. To add one: write the file, give it `main(argv)`, `parse(argv)` and a docstring with its commands, list it in
README.md, and test its command line in tests/examples.
"""
