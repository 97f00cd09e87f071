"""The report of a result folder: one HTML file to look through, and its charts as pictures."""

from .charts import plots
from .page import html

__all__ = ["html", "plots"]
