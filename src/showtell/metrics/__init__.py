"""Measures of edited pictures. Each names its model, its input size and its preprocessing."""
