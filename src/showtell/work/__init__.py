"""Rows of work: each is made once, kept whole at once, and found again after a kill; here or on Ray.

``run`` takes items, a factory of the worker that makes something of them, and a store. ``ShardStore`` packs results into
WebDataset or Hugging Face shards with a manifest of hashes.
"""

from .alone import alone
from .rows import Done, Factory, Item, Report, Store, Tick, Worker, attempt
from .running import run, run_in_parts
from .shards import ShardStore

__all__ = [
    "Done",
    "Factory",
    "Item",
    "Report",
    "ShardStore",
    "Store",
    "Tick",
    "Worker",
    "alone",
    "attempt",
    "run",
    "run_in_parts",
]
