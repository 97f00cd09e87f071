"""The world that the starter models know: pictures of simple things, captions, edits in words, and the exact truth.

    case = showtell.scenes.sample(seed=7, edits=2)
    case.before, case.after, case.instructions, case.masks, case.captions, case.edits, case.keywords
    again = showtell.scenes.apply(case.edits, to=8)         # the same edits on another scene
    showtell.scenes.score(case, picture).success            # measured against the truth, not guessed

Every draw is keyed by its seed through Python's own generator, and the renderer uses exact shapes, so a seed gives the
same pixels (within 1/255) on every machine.
"""

from showtell.scenes.case import SUCCESS_ERROR, SUCCESS_PSNR, Case, Score, apply, edit_masks, sample, score
from showtell.scenes.draw import SHARES, Plan
from showtell.scenes.edits import ACTIONS, Edit, apply_edit
from showtell.scenes.language import Phrase, caption, join, wordings
from showtell.scenes.render import SIZE, render, silhouettes
from showtell.scenes.world import BACKDROPS, COLOURS, KINDS, PLACES, STYLES, Scene, Thing

__all__ = [
    "ACTIONS",
    "BACKDROPS",
    "COLOURS",
    "KINDS",
    "PLACES",
    "SHARES",
    "SIZE",
    "STYLES",
    "SUCCESS_ERROR",
    "SUCCESS_PSNR",
    "Case",
    "Edit",
    "Phrase",
    "Plan",
    "Scene",
    "Score",
    "Thing",
    "apply",
    "apply_edit",
    "caption",
    "edit_masks",
    "join",
    "render",
    "sample",
    "score",
    "silhouettes",
    "wordings",
]
