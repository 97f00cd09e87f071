"""What will fit into memory: counted from a model's configurations, before anything is loaded."""

from .estimating import Estimate, Way, estimate
from .free import free_memory, gib

__all__ = ["Estimate", "Way", "estimate", "free_memory", "gib"]
