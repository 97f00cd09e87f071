"""What the papers report, as far as it stands in our sources; of everything else tables say ``NONE``.

Every value was copied from the paper's text. None of them is comparable with figures of the starters on scenes: ``setting``
says on what it was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NONE = "not in our source"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a paper: ``source`` names both, ``setting`` what it was measured on; ``rows`` hold a value a column, in order,
    None where the paper has a dash.
    """

    source: str
    setting: str
    columns: tuple[str, ...]
    rows: Mapping[str, Sequence[float | None]]
    digits: int = 3

    def value(self, row: str, column: str) -> float | None:
        """A value, or None where the paper has none."""
        if row not in self.rows or column not in self.columns:
            return None
        return self.rows[row][self.columns.index(column)]

    def text(self, row: str, column: str) -> str:
        """A value as tables print it: a dash where the paper has one, ``NONE`` where it has no such row or column."""
        if row not in self.rows or column not in self.columns:
            return NONE
        value = self.value(row, column)
        return "–" if value is None else f"{value:.{self.digits}f}"


VISII_1 = Table(
    source="Visual Instruction Inversion (Nguyen, Li, Ojha and Lee 2023), Table 1",
    setting="InstructPix2Pix's weights, 100 edits and 400 pairs of Clean-InstructPix2Pix",
    columns=("image", "directional", "visual", "image, fixed", "directional, fixed", "visual, fixed"),
    rows={
        "words-untrained": (0.824, 0.196, 0.301, None, None, None),
        "caption-untrained": (0.866, 0.090, 0.199, None, None, None),
        "words-mse": (0.841, 0.120, 0.247, 0.854, 0.105, 0.223),
        "caption-mse": (0.845, 0.115, 0.254, 0.861, 0.110, 0.225),
        "words-both": (0.838, 0.131, 0.231, 0.852, 0.102, 0.236),
        "caption-both-1": (0.823, 0.126, 0.299, 0.847, 0.113, 0.251),
        "caption-both-2": (0.791, 0.141, 0.292, 0.826, 0.117, 0.253),
        "caption-both-3": (0.780, 0.148, 0.283, 0.805, 0.132, 0.256),
        "caption-both-4": (0.798, 0.148, 0.280, 0.812, 0.133, 0.260),
    },
)
"""Row by row in the paper's order; which losses and starts a row has, its text tells and the ticks, which our source lost."""

_FOI = "Focus on Your Instruction (Guo and Lin 2024)"
_FOI_1 = ("CLIP-I", "DINO-I", "CLIP-D", "PickScore")
FOI_1_SINGLE = Table(
    source=f"{_FOI}, Table 1, single instruction",
    setting="Stable Diffusion's weights, 5,000 local edits of InstructPix2Pix's data",
    columns=_FOI_1,
    digits=4,
    rows={
        "diffedit": (0.8627, 0.7916, 0.0844, 0.0639),
        "nti-p2p": (0.8522, 0.7928, 0.0981, 0.0951),
        "ip2p": (0.8605, 0.8264, 0.1685, 0.1353),
        "magicbrush": (0.9178, 0.8702, 0.1934, 0.1780),
        "insdiff": (0.8755, 0.8612, 0.2064, 0.1377),
        "foi": (0.9402, 0.9277, 0.1699, 0.3901),
    },
)
FOI_1_MULTI = Table(
    source=f"{_FOI}, Table 1, several instructions",
    setting="Stable Diffusion's weights, 100 real pictures with 2 to 4 instructions",
    columns=_FOI_1,
    digits=4,
    rows={
        "diffedit": (0.8505, 0.7529, 0.0629, 0.0616),
        "nti-p2p": (0.8560, 0.7526, 0.0865, 0.0332),
        "ip2p": (0.8769, 0.8369, 0.1605, 0.1059),
        "magicbrush": (0.8609, 0.8291, 0.1807, 0.1591),
        "insdiff": (0.8439, 0.7938, 0.1785, 0.1325),
        "foi": (0.9255, 0.9159, 0.1685, 0.5077),
    },
)
FOI_2 = Table(
    source=f"{_FOI}, Table 2",
    setting="60 people, 20 pictures each of single and of several instructions; per cent of the choices",
    columns=("single, instruction", "single, image", "several, instruction", "several, image"),
    digits=2,
    rows={
        "diffedit": (9.42, 10.42, 0.75, 3.08),
        "nti-p2p": (9.5, 16.58, 0.42, 4.25),
        "ip2p": (12.83, 10.92, 3.08, 3.92),
        "magicbrush": (23.17, 22.83, 9.42, 4.75),
        "insdiff": (21.92, 11.75, 5.50, 2.67),
        "foi": (23.17, 27.5, 80.83, 81.33),
    },
)
_STUDY = "Stable Diffusion's weights, 40 real pictures with 1 to 4 instructions, 80 steps"
FOI_3 = Table(
    source=f"{_FOI}, Table 3",
    setting=_STUDY,
    columns=("0", "20", "40", "60", "79"),
    digits=4,
    rows={"CLIP-I": (0.9260, 0.9183, 0.9059, 0.8910, 0.8805), "CLIP-D": (0.1745, 0.1724, 0.1715, 0.1708, 0.1697)},
)
FOI_4 = Table(
    source=f"{_FOI}, Table 4",
    setting=_STUDY,
    columns=("1", "20", "40", "60", "80"),
    digits=4,
    rows={"CLIP-I": (0.9172, 0.9179, 0.9201, 0.9248, 0.9260), "CLIP-D": (0.1701, 0.1715, 0.1729, 0.1736, 0.1745)},
)
FOI_5 = Table(
    source=f"{_FOI}, Table 5",
    setting=_STUDY,
    columns=("1", "20", "40", "60", "80"),
    digits=4,
    rows={"CLIP-I": (0.9176, 0.9185, 0.9190, 0.9260, 0.9329), "CLIP-D": (0.1729, 0.1732, 0.1738, 0.1745, 0.1729)},
)
FOI_6 = Table(
    source=f"{_FOI}, Table 6",
    setting="seconds a picture on a GeForce RTX 3090, means of 200 pictures, 50 steps, of which FoI runs 40",
    columns=("seconds",),
    digits=2,
    rows={
        "diffedit": (15.60,),
        "nti-p2p": (138.20,),
        "ip2p": (7.35,),
        "magicbrush": (7.34,),
        "insdiff": (7.60,),
        "foi": (6.79,),
    },
)

PTI_2 = Table(
    source="Prompt Tuning Inversion (Dong, Xue, Duan and Han 2023), Table 2",
    setting="Stable Diffusion 1.4, 128 pictures of COCO",
    columns=("PSNR",),
    digits=2,
    rows={"ddim": (13.64,), "nti": (24.45,), "pti": (25.71,)},
)
"""Its autoencoder row, its Tables 1 and 3 and the values of its figures are not in our source; nor is InstructPix2Pix's sweep."""

TABLES = (VISII_1, FOI_1_SINGLE, FOI_1_MULTI, FOI_2, FOI_3, FOI_4, FOI_5, FOI_6, PTI_2)
