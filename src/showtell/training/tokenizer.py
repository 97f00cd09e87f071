"""A byte-pair tokenizer in CLIP's format, small, in which every word of the world is one token."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from showtell.scenes.draw import draw_plan
from showtell.scenes.edits import ACTIONS

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
POSITIONS = 77
VOCABULARY = 1024

_EVERYDAY = """
the quick brown fox jumps over the lazy dog while a small squirrel watches from an old oak and a girl in a hat reads a book
make it look like a watercolor painting of mountains with snow and a river at sunset turn the cat into a dog add fireworks
to the sky change the car to a bus what would it look like if it were winter spring summer or autumn remove the person in
the background replace the flowers with roses give her a scarf and sunglasses put a boat on the lake let it rain show a
street in paris by van gogh oil on canvas black orange brown golden silver glass wooden metal round long short tall old new
"""


def corpus(cases: int = 4000) -> list[str]:
    """Captions and instructions of the training split's own stream, and some everyday words."""
    rng = Random("showtell-tokenizer-1")
    lines: list[str] = []
    for i in range(cases):
        plan = draw_plan(rng, actions=[ACTIONS[i % len(ACTIONS)]])
        lines += [p.text for p in (*plan.phrases, *plan.captions)]
    return lines + ["a big, small thing in the top left, bottom right", *_EVERYDAY.strip().splitlines()]


def make_tokenizer() -> CLIPTokenizer:
    """Train it: deterministic, a second on one core."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    alphabet = {c: i for i, c in enumerate([*letters, *(f"{c}</w>" for c in letters), START, END])}
    blank = CLIPTokenizer(vocab=alphabet, merges=[], model_max_length=POSITIONS)
    merges = _learn_merges(blank, VOCABULARY - len(alphabet))
    vocabulary = [*letters, *(f"{c}</w>" for c in letters), *("".join(m) for m in merges), START, END]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(vocabulary)}, merges=merges, model_max_length=POSITIONS
    )


def _learn_merges(blank: CLIPTokenizer, most: int) -> list[tuple[str, str]]:
    """Plain byte-pair encoding over word counts, ties broken by spelling so that the result is the same everywhere."""
    split = blank.backend_tokenizer.pre_tokenizer.pre_tokenize_str
    counts: dict[tuple[str, ...], int] = {}
    for line in corpus():
        for word, _ in split(line.lower()):
            key = (*word[:-1], f"{word[-1]}</w>")
            counts[key] = counts.get(key, 0) + 1
    merges: list[tuple[str, str]] = []
    while len(merges) < most:
        pairs: dict[tuple[str, str], int] = {}
        for word, n in counts.items():
            for pair in zip(word, word[1:], strict=False):
                pairs[pair] = pairs.get(pair, 0) + n
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        counts = {_merge(word, best): n for word, n in counts.items()}
    return merges


def _merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out, i = [], 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append("".join(pair))
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def save_tokenizer(folder: Path) -> None:
    """Write it both ways: `tokenizer.json`, and the `vocab.json` and `merges.txt` that older tools read."""
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
