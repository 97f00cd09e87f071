"""Measurements that anyone can run again: `showtell bench`."""
