"""Tests of this part, as laws."""
