"""showtell edits pictures by showing or by telling."""

from __future__ import annotations

__version__ = "0.1.0"
