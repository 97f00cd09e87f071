"""Many pictures: a folder, a manifest or WebDataset shards in, the same out; resumable, here or on Ray.

:func:`run` is ``showtell batch`` in Python.
"""

from .asked import Asked
from .running import Summary, run

__all__ = ["Asked", "Summary", "run"]
