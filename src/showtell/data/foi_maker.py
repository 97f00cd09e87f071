"""Making a file of several instructions a picture by asking a vision-language model, as Focus on Your Instruction did for its
100 pictures. The wording of the question is ours: the paper does not tell its own.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import files
from ..errors import FileFormatError, OutputError, UsageError
from ..images import open_picture
from . import foi
from .asking import Endpoint, Refused, Unanswered
from .reading import Unusable
from .rows import Problem

SIDE = 1024
"""Longest side of the picture that the model is shown, in pixels."""
FEWEST = 2
"""Instructions that are asked for at least; at most ``foi.MOST``."""
LONGEST = 300
"""Longest text that is taken from an answer, in characters."""
QUESTION = """You write test cases for a program that edits photographs by instructions.

Look at the picture and think of {count} changes to it. Each change concerns one thing that can clearly be seen, and each
concerns another thing, so that the changed regions do not overlap. Mix kinds of change: a colour, a material, one object
instead of another, an object added on or beside something that is there, the background.

For each change give
- "text": the instruction, in plain words, at most twelve of them;
- "keyword": the words of that instruction, copied from it letter by letter, that name the thing in the picture which changes.
Also describe
- "source_caption": the picture as it is, in one sentence that names every thing which will change;
- "target_caption": the picture after all of the changes, in one sentence of the same form.

Answer with one JSON object and nothing else:
{{"instructions": [{{"text": "...", "keyword": "..."}}], "source_caption": "...", "target_caption": "..."}}"""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What the asking came to: the entries of the file, which pictures failed, and how many were there before."""

    entries: tuple[foi.Entry, ...]
    problems: tuple[Problem, ...]
    kept: int


def make(
    pictures: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    endpoint: Endpoint,
    *,
    attempts: int = 3,
    resume: bool = False,
    force: bool = False,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Made:
    """Ask for 2 to 4 instructions, their keywords and two captions of each picture, and write them to ``out``.

    ``out`` is a ``.json`` list or ``.jsonl`` lines, above or beside the pictures, whose paths in it are relative. It is written
    whole after each picture; with ``resume``, pictures that are in it already are not asked about again. An answer that is not
    what was asked for is given back with what is wrong, up to ``attempts`` questions a picture. A picture that fails is a
    problem, and the rest goes on; an endpoint that refuses everything ends it (``Refused``), with what was answered kept.

    Raises ``OutputError`` for an ``out`` that exists or cannot be written, ``UsageError`` for pictures that lie elsewhere.
    """
    out = Path(out)
    names = _names(pictures, out)
    entries = _begun(out, resume=resume, force=force)
    known = {entry.image for entry in entries}
    todo = [(name, path) for name, path in names.items() if name not in known]
    kept, problems = len(names) - len(todo), []
    for done, (name, path) in enumerate(todo, start=kept):
        told(done, len(names))
        try:
            entries.append(ask(endpoint, path, name, attempts=attempts))
        except Refused:
            raise
        except (Unanswered, UsageError) as error:
            kind = "answer" if isinstance(error, (Unanswered, Unusable)) else "picture"
            problems.append(Problem(id=name, kind=kind, what=str(error)))
            continue
        files.write_atomic(out, foi.written(entries, lines=out.suffix.lower() == ".jsonl"), force=True)
    told(len(names), len(names))
    return Made(entries=tuple(entries), problems=tuple(problems), kept=kept)


def _names(pictures: Sequence[str | os.PathLike[str]], out: Path) -> dict[str, Path]:
    """The pictures by their paths relative to the file's folder, each once."""
    if out.suffix.lower() not in (".json", ".jsonl"):
        raise OutputError(f"{out}: the file is .json or .jsonl")
    root = out.absolute().parent
    names: dict[str, Path] = {}
    for picture in map(Path, pictures):
        relative = os.path.relpath(picture.absolute(), root)
        if relative.split(os.sep)[0] == os.pardir or os.path.isabs(relative):
            raise UsageError(f"{picture}: lies outside {root}: write {out.name} into a folder that holds the pictures")
        names[Path(relative).as_posix()] = picture
    return names


def _begun(out: Path, *, resume: bool, force: bool) -> list[foi.Entry]:
    """What is answered already. Raises ``OutputError``, or ``FileFormatError`` for a file that is not one of these."""
    if resume and out.exists():
        files.check_output(out, force=True)
        return [_kept(out, label, value) for label, value in foi.entries(out)]
    try:
        files.check_output(out, force=force)
    except OutputError as error:
        if out.is_file():
            raise OutputError(f"{out}: exists already; go on with --resume, or use --force to begin anew") from error
        raise
    return []


def _kept(out: Path, label: str, value: Any) -> foi.Entry:
    try:
        return foi.parse(value)
    except Unusable as error:
        raise FileFormatError(f"{out}: {label}: {error}: mend or remove that entry before going on") from error


def ask(endpoint: Endpoint, picture: str | os.PathLike[str], name: str, *, attempts: int = 3) -> foi.Entry:
    """One picture's entry. Raises ``ImageError`` for the picture, ``Refused`` or ``Unanswered`` for the endpoint, ``Unusable``
    where no answer was as it should be.
    """
    question = QUESTION.format(count=f"{FEWEST} to {foi.MOST}")
    shown = {"type": "image_url", "image_url": {"url": data_url(picture)}}
    talk: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": question}, shown]}]
    wrong = ""
    for _ in range(attempts):
        answer = endpoint.ask(talk)
        try:
            return replace(understood(answer), image=name)
        except Unusable as error:
            wrong = str(error)
            again = f"That cannot be used: {wrong}. Answer again, with the JSON object alone."
            talk = [talk[0], {"role": "assistant", "content": answer[:4000]}, {"role": "user", "content": again}]
    raise Unusable("answer", f"no answer could be used after {attempts} questions: {wrong}")


def understood(answer: str) -> foi.Entry:
    """An answer as an entry without its picture's name. Raises ``Unusable`` for what was not asked for."""
    start, end = answer.find("{"), answer.rfind("}")
    if start < 0 or end < start:
        raise Unusable("answer", "there is no JSON object in it")
    try:
        value = json.loads(answer[start : end + 1])
    except (ValueError, RecursionError) as error:
        raise Unusable("answer", f"it is not JSON ({error})") from error
    wanted = ("instructions", "source_caption", "target_caption")
    entry = foi.parse({"image": "?", **{key: value[key] for key in wanted if key in value}})
    if len(entry.instructions) < FEWEST:
        raise Unusable("answer", f"has {len(entry.instructions)} instructions, not {FEWEST} to {foi.MOST}")
    texts = [entry.source_caption, entry.target_caption, *(told.text for told in entry.instructions)]
    if any(len(text) > LONGEST or not text.isprintable() for text in texts):
        raise Unusable("answer", f"a text in it has several lines or is longer than {LONGEST} characters")
    if any(not told.keyword.strip() for told in entry.instructions):
        raise Unusable("answer", "an instruction has no keyword")
    if entry.source_caption.strip() == entry.target_caption.strip():
        raise Unusable("answer", "source_caption and target_caption are the same")
    return entry


def data_url(picture: str | os.PathLike[str]) -> str:
    """A picture as a model is shown it: a JPEG of at most ``SIDE`` pixels a side, in base64. Raises ``ImageError``."""
    rgb = open_picture(picture).rgb
    rgb.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
