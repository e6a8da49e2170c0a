"""Tests of the examples, through their command lines; what they read and measure, by import as well."""
