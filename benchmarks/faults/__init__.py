"""Faults to inject: deaths of a training process, full disks, damaged files."""
