"""Tests of the library; of the examples and the studies, in folders of their own."""
