"""A human preference study (Table 2 of Guo and Lin, "Focus on Your Instruction", CVPR 2024): which result do people choose?

``make`` turns a result folder of ``showtell evaluate`` into one web page that asks and a key that stays at home; ``tally`` counts
the files that participants hand back.
"""

from __future__ import annotations

from .counting import Cell, Tally, bootstrap, tally, wilson
from .making import Study, make
from .plan import Key

__all__ = ["Cell", "Key", "Study", "Tally", "bootstrap", "make", "tally", "wilson"]
