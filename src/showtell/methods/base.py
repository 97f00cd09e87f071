"""What a method is: a frozen value that, given a context, plans a run.

A method's fields are its hyper-parameters. A field left at None takes the model card's tuned value, else the paper's
(``PAPER``); :func:`settle` fills them and says where each came from.
"""

from __future__ import annotations

import dataclasses
import numbers
import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .. import starts
from ..conditioning import Conditioning
from ..errors import MethodError
from ..guidance import Guidance, check_whole
from ..layout import lay_out
from ..sampling import ignore, keep

if TYPE_CHECKING:
    import torch

    from ..attention import BranchContext
    from ..blending import Mask
    from ..instruction import Instruction
    from ..inversion.inverted import Inverted
    from ..inversion.tuning import Tuned
    from ..keywords import Keyword
    from ..layout import Layout
    from ..networks import Network
    from ..schedule import SchedulerStep
    from ..types import LatentMask, Latents, Pixels, PromptEmbeds


def unwatched(name: str, steps: int) -> AbstractContextManager[Callable[[int, Any], None]]:
    """A phase at which nobody looks."""
    return nullcontext(ignore)


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the editor hands a method for a batch of B pictures of one size.

    ``pixels`` (B, 3, H, W) in [-1, 1]; ``instructions[b]`` the instructions for picture b, brackets read;
    ``prompt_embeds`` and ``negative_prompt_embeds`` (B, 77, d), those instructions joined and the negative
    prompt; ``mask`` the users' masks at the size of ``pixels``, or None; ``generators`` one CPU generator a
    picture; ``steps`` the scheduler of this run; ``recorded`` (B, C, h, w) noise that takes the place of the start's, or
    None; ``note(b, text)`` tells the user something about picture b.

    For methods that describe the result: ``source_embeds`` (B, 77, d) and ``sources[b]``, what the picture shows, None where the
    user did not say; ``inverted``, what an inversion of these pictures has found before, or None; ``tuned``, a tuning to go on
    with and to fill, or None; ``sequential``, whether branches run one by one. ``phase(name, steps)`` is
    entered around a long part of the planning, and gives the observer of its loop.

    For methods with ``regions``: ``layouts[b]`` says which token is which word of which instruction, ``weights[b]`` has the
    weight of each instruction, and ``own_masks[b]`` the user's mask (H, W) of each, float32 in [0, 1], or None.
    """

    pipe: Any
    pixels: Pixels
    instructions: Sequence[Sequence[Instruction]]
    prompt_embeds: PromptEmbeds
    negative_prompt_embeds: PromptEmbeds
    generators: Sequence[Any]
    steps: SchedulerStep
    recorded: Latents | None = None
    mask: Mask | None = None
    layouts: Sequence[Layout] = ()
    weights: Sequence[Sequence[float]] = ()
    own_masks: Sequence[Sequence[Any]] = ()
    source_embeds: PromptEmbeds | None = None
    sources: Sequence[Instruction | None] = ()
    inverted: Inverted | None = None
    tuned: Tuned | None = None
    sequential: bool = False
    phase: Callable[[str, int], AbstractContextManager[Callable[[int, Any], None]]] = unwatched
    note: Callable[[int, str], None] = lambda b, text: None

    def noise(self, shape: Sequence[int], *, device: Any) -> Latents:
        """The start's noise (B, C, h, w) for latents of ``shape`` (C, h, w): recorded, else from the generators."""
        if self.recorded is not None:
            return self.recorded.to(device)
        return starts.noise(shape, self.generators, device=device)

    @property
    def shown_embeds(self) -> PromptEmbeds:
        """What the pictures show, (B, 77, d), where that was told; else what they are to become."""
        return self.prompt_embeds if self.source_embeds is None else self.source_embeds

    def layout(self, b: int) -> Layout:
        """Which token is which word of what picture b is to become. Raises ``TextError`` if it is too long."""
        return lay_out(self.pipe, self.instructions[b])


def unchanged(rows: Any) -> Any:
    """Latents or decoded pixels as they are."""
    return rows


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where instruction number ``part`` of a picture was followed: ``mask`` (h, w) float32 in [0, 1] on the grid of the
    attention maps. ``keyword`` is None where the mask was the user's ``own``.
    """

    part: int
    mask: torch.Tensor
    keyword: Keyword | None = None
    own: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The five choices of a run, and the part of the schedule that is run.

    ``attention`` is entered around the whole run; ``attend`` and ``text_mask`` are those of ``GuidedDenoiser``.
    ``step`` and ``network`` take the place of the scheduler's step (the latents are then not scaled for the network) and of
    the pipeline's own network. A run may have more rows than there are pictures: ``latents`` takes the pictures' out of the
    last ones. ``inverted`` is what an inversion of the pictures found on the way.
    ``picture`` takes the result out of the decoded pixels, (B, 3, H, W) both; ``regions``, called after the run, says
    where each instruction of each picture was followed.
    """

    start: Latents
    conditioning: Conditioning
    guidance: Guidance
    blend: Callable[[Latents, int], Latents] = keep
    attention: AbstractContextManager[Any] = field(default_factory=nullcontext)
    attend: Callable[[BranchContext], None] | None = None
    text_mask: Callable[[int], LatentMask | None] | None = None
    schedule: Sequence[tuple[Any, Any]]
    step: Callable[[Any, Any, Any, Any], Any] | None = None
    network: Network | None = None
    latents: Callable[[Latents], Latents] = unchanged
    inverted: Inverted | None = None
    picture: Callable[[Pixels], Pixels] = unchanged
    regions: Callable[[], Sequence[Sequence[Region]]] | None = None


class Method(Protocol):
    """A method as a value.

    One that keeps each instruction of a list in a region of its own says so with ``regions = True``. One that is told what
    the result shows, and may be told what the picture shows, says so with ``describes = True``. One that can only do one
    picture at a time says so with ``alone = True``.
    """

    #: Its name on the command line and in recipes.
    name: ClassVar[str]
    #: The kinds of model that it takes (``models.kind``), the one that it is made for first.
    kinds: ClassVar[tuple[str, ...]]
    #: Whether it needs an instruction: ``"required"`` or ``"optional"``.
    words: ClassVar[str]
    #: The paper's value of each hyper-parameter. A method may have ``PAPER_FOR``: kind -> values that differ for it; and
    #: ``SINCE``: of what it has got since, the format of recipes from which on they hold it. Older files mean the paper's.
    PAPER: ClassVar[Mapping[str, Any]]

    def plan(self, context: Context) -> Plan:
        """The run for a batch. Called with every field settled."""
        ...


def paper(method: Any, kind: str | None = None) -> dict[str, Any]:
    """The paper's value of each hyper-parameter, for a model of a kind where the method makes a difference."""
    return {**method.PAPER, **getattr(method, "PAPER_FOR", {}).get(kind, {})}


def settle(
    method: Any, *, given: Mapping[str, Any], card: Mapping[str, Any], kind: str | None = None
) -> tuple[Any, dict[str, str]]:
    """Fill a method's hyper-parameters: the caller's, else the method value's own, else the card's, else the paper's.

    ``kind`` is the model's, for :func:`paper`. Returns the method and name -> ``"given"``, ``"card"`` or ``"paper"``.
    Raises ``MethodError`` for a hyper-parameter that the method does not have.
    """
    fields = [f.name for f in dataclasses.fields(method)]
    for name, value in given.items():
        if value is not None and name not in fields:
            raise MethodError(
                f"{name!r} is not a hyper-parameter of method {method.name!r}, which has: {', '.join(fields)}"
            )
    values, origin, published = {}, {}, paper(method, kind)
    for name in fields:
        choices = {"given": given.get(name), "card": card.get(name), "paper": published[name]}
        if choices["given"] is None:
            choices["given"] = getattr(method, name)
        origin[name] = next((source for source, value in choices.items() if value is not None), "paper")
        values[name] = _plain(choices[origin[name]])
    return dataclasses.replace(method, **values), origin


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's own number, also inside a mapping, so that recipes can hold it."""
    if isinstance(value, Mapping):
        return {str(name): _plain(number) for name, number in value.items()}
    if isinstance(value, (bool, int, float)) or not isinstance(value, numbers.Real):
        return value
    return operator.index(value) if isinstance(value, numbers.Integral) else float(value)


def check_steps(value: int | None) -> None:
    """Raise ``MethodError`` unless ``value`` is None or a number of steps from 1 to 1000."""
    check_whole("num_inference_steps", value, 1, 1000)
