"""The report of a result folder: one HTML file to look through, and its charts as pictures."""

from .charts import plots
from .page import html, page

__all__ = ["html", "page", "plots"]
