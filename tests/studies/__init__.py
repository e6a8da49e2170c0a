"""Tests of studies and figures at toy size: their command lines, and the laws of their measures."""
