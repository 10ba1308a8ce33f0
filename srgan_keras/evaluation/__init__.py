"""Evaluation: how good enlarged pictures are, in numbers and side by side."""
