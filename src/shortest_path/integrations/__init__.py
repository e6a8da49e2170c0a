"""How does the library work with another one? A module for each, optional, imported by name: nothing else imports them.

To add one: a file named for the package, an extra in pyproject.toml, and its name in `OPTIONAL` of
tests/test_layers.py.
"""
