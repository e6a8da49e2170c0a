"""Programs that plot the figures of the documentation: `python -m docs.figures.lengths` writes lengths.svg here."""
