"""Learned words: what textual inversion finds, their files in the format that diffusers loads, and their use.

``toy`` stands for a word and the vectors that the text encoder's table holds for it. Its file works with every diffusers
pipeline of the same text encoder: ``pipe.load_textual_inversion("toy.safetensors")``.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import files, instruction, models
from .errors import FileFormatError, ModelError, OutputError, ShowtellWarning, TextError
from .inversion.textual import LARGEST
from .recipe import readable, versions

if TYPE_CHECKING:
    import torch

    from .editor import Editor

SUFFIX = ".safetensors"
_KEY = "showtell-token"
#: What files of other programs hold their vectors under; their word is the file's name.
_NAMELESS = ("emb_params", "*", "embedding")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_MOST_VECTORS, _MAX_BYTES = 75, 64 * 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedToken:
    """A word that was learned from pictures (textual inversion): ``word``, such as ``<toy>``, and its ``vectors`` (n, d)
    float32, n from 1 to 75. ``how`` says how it was learned, as JSON; of a file from elsewhere that is not known.

    Raises ``TextError`` for a word that cannot stand in a text, ``ModelError`` for vectors of another shape, or with numbers
    that are not finite.
    """

    word: str
    vectors: torch.Tensor
    how: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import torch

        check_word(self.word)
        shape = tuple(self.vectors.shape)
        if len(shape) != 2 or not 1 <= shape[0] <= _MOST_VECTORS or not shape[1]:
            raise ModelError(
                f"{self.word}: vectors of the shape {shape} are no word: 1 to {_MOST_VECTORS} rows are needed"
            )
        if not torch.isfinite(self.vectors).all() or self.vectors.abs().max() > LARGEST:
            raise ModelError(f"{self.word}: its vectors hold numbers that are not finite, or beyond {LARGEST:g}")

    def __repr__(self) -> str:
        return f"LearnedToken({self.word!r}, {len(self.vectors)} x {self.vectors.shape[1]})"

    @property
    def said(self) -> str:
        """The word as prompts must have it."""
        return self.word.lower()

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write it so that the file is either whole or as it was before. Raises ``OutputError``, also for a name that does
        not end in ``.safetensors``.
        """
        from safetensors.torch import save as encode

        path = check_path(path, force=force)
        told = json.dumps({"how": self.how, "versions": versions()}, ensure_ascii=False)
        data = encode({self.word: self.vectors.detach().float().cpu().contiguous()}, metadata={_KEY: told})
        return files.write_atomic(path, data, force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LearnedToken:
        """Read a file of ours, or one that people share for diffusers or the web interfaces, in safetensors.

        Raises ``FileFormatError``, one line, if it is not there, is a pickle, is truncated, holds no word's vectors, or
        numbers that are not finite.
        """
        path = Path(path)
        tensors, metadata = _read(path)
        if {"clip_l", "clip_g"} & set(tensors):
            raise FileFormatError(
                f"{path}: is a word for SDXL, which has two text encoders; one for SD 1.x or 2.x is needed"
            )
        if len(tensors) != 1:
            held = ", ".join(list(tensors)[:4]) or "nothing"
            raise FileFormatError(f"{path}: is no learned word: it should hold one tensor, and holds {held:.100}")
        ((key, vectors),) = tensors.items()
        if not vectors.is_floating_point():
            raise FileFormatError(f"{path}: is damaged (its vectors are {vectors.dtype})")
        word = re.sub(r"[\s\[\]]+", "-", readable(path.stem)) if key in _NAMELESS else key
        try:
            rows = vectors[None] if vectors.ndim == 1 else vectors
            return cls(word=word, vectors=rows.float(), how=_how(metadata))
        except (TextError, ModelError) as error:
            raise FileFormatError(f"{path}: is damaged ({error})") from error

    def install(self, pipe: Any) -> None:
        """Give the word to a pipeline: its tokenizer and its text encoder's table grow, as ``load_textual_inversion`` has it.

        Tokenizers of CLIP make no difference between capitals and others: what they are given is all lower case, and so
        must be the word in prompts (``said``). ``pipe.unload_textual_inversion`` takes it out again.

        Raises ``ModelError`` for a text encoder of another width, or a pipeline that cannot have words; ``TextError`` for a
        word that it knows.
        """
        import torch

        load = getattr(pipe, "load_textual_inversion", None)
        if load is None:
            raise ModelError(f"{models.name_of(pipe)}: is no pipeline that learned words can be loaded into")
        width = pipe.text_encoder.get_input_embeddings().weight.shape[-1]
        if width != self.vectors.shape[1]:
            raise ModelError(
                f"{self.word}: its vectors are {self.vectors.shape[1]} wide, and the text encoder of {models.name_of(pipe)} is "
                f"{width} wide; it was learned for another model"
            )
        check_unknown(pipe, self.said)
        # Growing the table draws random numbers for the new rows, which are then filled; nobody else is to feel it.
        with torch.random.fork_rng(devices=[]):
            load({self.said: self.vectors})


def installed(editor: Editor, paths: Sequence[str | os.PathLike[str]]) -> list[LearnedToken]:
    """Read learned words, all of them, and then give them to an editor's pipeline. Raises as ``load`` and ``install`` do."""
    found = [LearnedToken.load(path) for path in paths]
    words = [token.said for token in found]
    if twice := next((word for word in words if words.count(word) > 1), None):
        raise TextError(f"two files hold the word {twice}: leave one out")
    for token in found:
        check_unknown(editor.pipe, token.said)
    for token in found:
        token.install(editor.pipe)
    return found


def learn_token(editor: Editor, images: Any, word: str = "<toy>", **options: Any) -> LearnedToken:
    """A word for what pictures show, learned from three to five of them (textual inversion).

    Takes what :func:`showtell.teaching.teach` takes, and returns its word; the notes become warnings, and a ``checkpoint`` is
    removed.
    """
    from .teaching import teach

    found, notes = teach(editor, images, word, **options)
    if (checkpoint := options.get("checkpoint")) is not None:
        Path(checkpoint).unlink(missing_ok=True)
    for note in notes:
        warnings.warn(note, ShowtellWarning, stacklevel=3)
    return found


def check_word(word: Any) -> str:
    """The word, if it can stand in a text. Raises ``TextError``."""
    if not isinstance(word, str) or not word or len(word) > 100:
        raise TextError(f"word={word!r:.60} cannot name what is learned: give a word such as <toy>")
    if re.search(r"[\s\[\]{}]", word) or not word.isprintable() or word.startswith("<|"):
        raise TextError(f"word {word!r} cannot stand in a text: leave out spaces and brackets, as in <toy>")
    return word


def check_unknown(pipe: Any, word: str) -> None:
    """Raise ``TextError`` for a word that a pipeline's tokenizer has, as a word of its own or as a learned one."""
    tokenizer = pipe.tokenizer
    vocabulary = tokenizer.get_vocab()
    parts = instruction.tokenize(pipe, word)
    if word in vocabulary or f"{word}_1" in vocabulary or (len(parts) == 1 and parts[0] != tokenizer.unk_token_id):
        raise TextError(
            f"{word!r} is a word that the model has already: choose another, such as <my-{word.strip('<>')}>"
        )


def check_path(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """The path, if a learned word can be written there. Raises ``OutputError``."""
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        raise OutputError(f"{path}: the name of a learned word's file must end in {SUFFIX}")
    return files.check_output(path, force=force)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        if not os.path.isfile(path):
            raise FileFormatError(f"{path!s:.200}: no such file")
        if path.suffix.lower() in _PICKLES:
            raise FileFormatError(f"{path}: is a pickle, which can run any program: only {SUFFIX} files are read")
        if os.path.getsize(path) > _MAX_BYTES:
            raise FileFormatError(f"{path}: is too large for a learned word")
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            return {key: file.get_tensor(key) for key in keys[:8]}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileFormatError(
            f"{path}: cannot be read as a learned word: it is truncated or no safetensors file ({text:.200})"
        ) from error


def _how(metadata: dict[str, str]) -> dict[str, Any]:
    """What our own files say of the learning; whatever else is there says nothing to us."""
    try:
        how = json.loads(metadata.get(_KEY, "{}")).get("how", {})
    except (ValueError, AttributeError, RecursionError):
        return {}
    return how if isinstance(how, dict) else {}
