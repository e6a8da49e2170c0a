"""The family of corruptions on one measured spectrum: lengths, divergences, and the rotation of the channels."""
