"""An inversion as a value: what a picture came out of, to be edited any number of times without inverting again."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import models
from .errors import FileFormatError, ImageError, MethodError, ModelError, TextError
from .guidance import shown
from .inversion.inverted import Inverted
from .recipe import InversionRecord, readable

if TYPE_CHECKING:
    from PIL import Image

    from .fitting import Frame
    from .images import Picture
    from .recipe import ModelRecord

#: The method that an inversion is made for.
MADE_FOR = {"ddim": "ddim-edit", "nti": "p2p", "pti": "pti"}
#: What an edit must run as its inversion did.
SHARED = ("num_inference_steps", "encoding_ratio", "inversion_guidance_scale")
#: What an edit by the method that it was made for takes over, since it is not tuned again.
TUNED = ("start", "inner_steps", "learning_rate", "early_stop")


@dataclass(kw_only=True, eq=False)
class Inversion:
    """What ``Editor.invert`` gives: ``image`` is the reconstruction at the picture's own size, ``psnr`` its distance to the
    picture in dB, in the model's frame.

    ``method`` is ``ddim``, ``nti`` or ``pti``; ``settings`` its hyper-parameters. ``target`` is the prompt whose embedding the
    tuning started from, which it then belongs to; None where it serves any target. ``source`` is what the picture was said to
    show, ``negative_prompt`` what it should not; ``scheduler`` is the
    configuration of its DDIM scheduler. ``model`` and ``picture`` are those that it was made with, ``data`` what was
    found of this one picture.
    """

    image: Image.Image
    psnr: float
    method: str
    settings: dict[str, Any]
    target: str | None
    source: str | None
    model: ModelRecord
    picture: Picture
    fit: str
    frame: tuple[int, int]
    data: Inverted
    scheduler: dict[str, Any] = field(default_factory=dict)
    negative_prompt: str = ""
    seed: int | None = None
    notes: list[str] = field(default_factory=list)
    path: str | None = None

    @property
    def serves(self) -> str:
        """Which targets it may be edited to, in words."""
        return "any target" if self.target is None else f"the target {self.target!r} only"

    @property
    def sha256(self) -> str:
        """A hash of what was found."""
        digest = hashlib.sha256()
        for value in (self.data.trajectory, self.data.tuned):
            if value is not None:
                digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def record(self) -> InversionRecord:
        """As recipes name it, with what it takes to make it again."""
        return InversionRecord(
            sha256=self.sha256, path=None if self.path is None else readable(self.path), method=self.method,
            settings=self.settings, scheduler=self.scheduler, target=self.target, source=self.source,
            negative_prompt=self.negative_prompt,
        )  # fmt: skip

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write it as one ``.safetensors``, whole or not at all; the picture is inside. Raises ``OutputError``."""
        from .inversion_file import save

        return save(self, path, force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Inversion:
        """Read one. Raises ``FileFormatError`` for what is no such file, is damaged or newer."""
        from .inversion_file import load

        return load(path)

    def check(
        self,
        pipe: Any,
        weights: Callable[[], str],
        *,
        picture: Picture,
        frame: Frame,
        told: str,
        source: Any,
        negative: str | None = None,
    ) -> None:
        """Raise unless an edit of ``picture`` to ``told`` may go out from it: ``ModelError`` for another model, ``ImageError``
        for another picture, ``MethodError`` for another frame, ``TextError`` for words that it does not belong to.
        """
        self.check_request(
            picture=picture, told=told, source=None if source is None else source.text, negative=negative
        )
        name = self.path or "the inversion"
        if not models.offloaded(pipe) and self.model.weights != weights():
            raise ModelError(
                f"{name}: was made with other weights, or in another precision ({self.model.id:.60}, {self.model.dtype}): "
                "invert the picture again with this model"
            )
        if (frame.frame, frame.fit) != (self.frame, self.fit):
            raise MethodError(f"{name}: was made with fit {self.fit!r}: use the same fit")
        factor, (width, height) = models.latent_factor(pipe), frame.frame
        latents = (pipe.vae.config.latent_channels, height // factor, width // factor)
        words = (pipe.tokenizer.model_max_length, pipe.unet.config.cross_attention_dim)
        found = self.data.trajectory.shape[2:], words if self.data.tuned is None else self.data.tuned.shape[2:]
        if (latents, words) != (tuple(found[0]), tuple(found[1])):
            raise FileFormatError(
                f"{name}: is damaged (its latents or embeddings are of another shape than the model's)"
            )

    def check_request(self, *, picture: Picture, told: str, source: str | None, negative: str | None = None) -> None:
        """The part of :meth:`check` that needs no model."""
        name = self.path or "the inversion"
        if picture.pixels_sha256 != self.picture.pixels_sha256:
            raise ImageError(
                f"{name}: is of another picture ({self.picture.path or 'one in memory'}), not of "
                f"{picture.path or 'this one'}: invert this one"
            )
        if self.target is not None and _plain(told) != _plain(self.target):
            raise TextError(
                f"{name}: its tuning started from the target {self.target!r} and belongs to it: invert the picture again for "
                f"{told!r}, or without a target, which then serves any"
            )
        if self.data.of is not None and negative not in (None, self.negative_prompt):
            raise TextError(
                f"{name}: was tuned beside the negative prompt {self.negative_prompt!r}: leave negative_prompt out, or "
                "invert again"
            )
        if source is not None and self.method == "nti" and _plain(source) != _plain(self.source or ""):
            raise TextError(
                f"{name}: was tuned beside the source prompt {self.source!r}: leave source out, or invert again with "
                f"{source!r}"
            )


def _plain(text: str) -> str:
    return " ".join(text.replace("[", "").replace("]", "").split())


def of(images: Any, inversion: Any) -> list[Inversion | None]:
    """The inversions of a request, read where they are files: one for each picture, None where there is none.

    Raises ``MethodError`` for another number of them, or for two of one picture.
    """
    several = isinstance(images, (list, tuple))
    pictures = list(images) if several else [images]
    beside = (
        list(inversion) if isinstance(inversion, (list, tuple)) else [inversion] * (1 if inversion else len(pictures))
    )
    if len(beside) != len(pictures):
        raise MethodError(f"inversion has {len(beside)} items for {len(pictures)} pictures: give one for each")
    found: list[Inversion | None] = []
    for picture, one in zip(pictures, beside, strict=True):
        if isinstance(picture, Inversion) and one is not None:
            raise MethodError("the picture is an inversion already: leave inversion out")
        if one is not None and not isinstance(one, Inversion):
            one = Inversion.load(one)
        found.append(picture if isinstance(picture, Inversion) else one)
    return found


def followed(held: Sequence[Inversion | None], given: Mapping[str, Any], method: Any) -> dict[str, Any]:
    """The hyper-parameters that an edit takes over from its inversions, where neither ``given`` nor the ``method``'s own
    values say anything.

    Raises ``MethodError`` where they say otherwise, where the inversions differ among each other, and for a method that does
    not go out from an inversion.
    """
    fields = [f.name for f in dataclasses.fields(method)]
    kept = [one for one in held if one is not None]
    if kept and len(kept) != len(held):
        raise MethodError("some of the pictures have an inversion and others do not: edit them in two calls")
    if kept and "encoding_ratio" not in fields:
        raise MethodError(f"method {method.name!r} does not go out from an inversion: give it the picture itself")
    found: dict[str, Any] = {}
    for one in kept:
        tuned = TUNED if MADE_FOR[one.method] == method.name else ()
        for name in (*SHARED, *tuned):
            value = one.settings.get(name)
            if name not in fields or value is None:
                continue
            asked = given.get(name) if given.get(name) is not None else getattr(method, name)
            if (asked if asked is not None else found.get(name)) not in (None, value):
                other = f"{name}={shown(asked)}" if asked is not None else "another inversion"
                raise MethodError(
                    f"{one.path or 'the inversion'}: was made with {name}={shown(value)}, not as {other} says: leave it out, "
                    "or invert again"
                )
            found[name] = value
        if tuned and one.data.of is not None and given.get("guidance_scale") is None and method.guidance_scale is None:
            found["guidance_scale"] = one.settings.get("guidance_scale")  # at another one it would not reconstruct
    return found


def scheduled(held: Sequence[Inversion | None], scheduler: dict[str, Any], *, given: bool) -> dict[str, Any] | None:
    """The scheduler of the inversions, where they say; ``scheduler`` is what the edit would have, as recipes record it.

    Raises ``MethodError`` where that one was ``given`` and is another, or where the inversions differ among each other.
    """
    kept = [one for one in held if one is not None and one.scheduler]
    for one in kept:
        other = scheduler if given else kept[0].scheduler
        if other != one.scheduler:
            raise MethodError(
                f"{one.path or 'the inversion'}: was made with another scheduler: leave scheduler out, or invert again"
            )
    return kept[0].scheduler if kept else None


def default_method(held: Sequence[Inversion | None]) -> str | None:
    """The method that these inversions were made for; None without any."""
    kept = {MADE_FOR[one.method] for one in held if one is not None}
    return kept.pop() if len(kept) == 1 else None


def check_method(name: str, path: str) -> None:
    """Raise ``FileFormatError`` unless a file's method is known."""
    if name not in MADE_FOR:
        raise FileFormatError(f"{path}: is damaged (method {name!r:.40} is not known)")
