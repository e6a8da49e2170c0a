"""What the examples share: images, networks, settings, figures and measures.

A module holds one thing that two programs need, or one part of a program that can be read alone, and is named for it.
To add one: write `recipe/<thing>.py`, import its siblings relatively, and read nothing from the command line in it.
Examples import `recipe.<thing>`, as Python puts their own folder on its path; studies import
`examples.recipe.<thing>` from the root of the repository.
"""
