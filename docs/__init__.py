"""Pages of the documentation, and the programs that make their figures."""
