"""Optimisers that return a start or a conditioning."""
