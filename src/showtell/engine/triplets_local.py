"""Triplets from a causal language model in this process, or in Ray's: batched, each row with draws of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..data.reading import Unusable
from ..errors import ModelError, ShowtellError, UsageError
from ..loading import load_language
from ..work import Done, Item, Worker
from . import triplets_prompt as prompt

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How answers are drawn: ``temperature`` (0 takes the likeliest token), ``top_p`` (of the likeliest tokens that together have
    that probability), at most ``max_tokens`` tokens. A row's draws follow from ``seed``, its id and the number of the attempt.
    """

    seed: int = 0
    temperature: float = 0.7
    top_p: float = 0.95
    max_tokens: int = 256

    def __post_init__(self) -> None:
        if not (0 <= self.temperature <= 10 and 0 < self.top_p <= 1 and self.max_tokens >= 1):
            raise UsageError("temperature is 0 to 10, top_p above 0 and at most 1, max_tokens at least 1")


def build(
    model: str, *, device: str = "auto", dtype: str | None = None, count: int = 1, attempts: int = 3, drawing: Drawing
) -> Worker:
    """The worker that asks a model, loaded here. Raises ``ModelError``, also for a context that has no room for the question."""
    network, words = load_language(model, device=device, dtype=dtype)
    speaker = _Speaker(network=network, words=words, drawing=drawing)
    if not speaker.fits(prompt.conversation("", count, examples=0)):
        raise ModelError(
            f"{model}: its context has no room for the question and --max-tokens: lower that, or take another"
        )
    return lambda items: _ask(speaker, items, count, attempts)


def _ask(speaker: _Speaker, items: Sequence[Item], count: int, attempts: int) -> list[Done]:
    """Each row's edits. Rows whose answers cannot be used are asked again, together, with what was wrong."""
    talks = {item.id: _fitting(speaker, item.told["caption"], count) for item in items}
    first = dict(talks)
    edits: dict[str, list[dict[str, str]]] = {}
    wrong: dict[str, str] = {}
    tokens = {item.id: [0, 0] for item in items}
    for attempt in range(attempts):
        todo = [item.id for item in items if item.id not in edits]
        if not todo or (attempt and not speaker.differs):
            break
        for label, said in zip(todo, speaker(todo, [talks[label] for label in todo], attempt), strict=True):
            tokens[label] = [a + b for a, b in zip(tokens[label], (said.read, said.written), strict=True)]
            try:
                edits[label] = [vars(edit) for edit in prompt.understood(said.text, count)]
            except Unusable as error:
                wrong[label] = str(error)
                if speaker.talks:
                    talks[label] = prompt.again(first[label], said.text, wrong[label])
    return [_done(item.id, edits.get(item.id), wrong.get(item.id, ""), tokens[item.id]) for item in items]


def _done(label: str, edits: list[dict[str, str]] | None, wrong: str, tokens: Sequence[int]) -> Done:
    usage = {"read": tokens[0], "written": tokens[1], "rough": 0}
    found = {"edits": edits} if edits is not None else {"unusable": wrong}
    return Done(id=label, record={**found, "usage": usage})


def _fitting(speaker: _Speaker, caption: str, count: int) -> list[dict[str, Any]]:
    """The question with as many examples as the model's context has room for. Raises ``ShowtellError`` where it has none."""
    for examples in (len(prompt.EXAMPLES), 8, 4, 2, 1, 0):
        talk = prompt.conversation(caption, count, examples=examples)
        if speaker.fits(talk):
            return talk
    raise ShowtellError("the question is longer than the model's context")


@dataclass(frozen=True, kw_only=True)
class _Said:
    text: str
    read: int
    written: int


@dataclass(frozen=True, kw_only=True)
class _Speaker:
    """A network that answers several conversations at once."""

    network: Any
    words: Any
    drawing: Drawing

    @property
    def talks(self) -> bool:
        """Whether the model knows conversations; else it goes on with a text."""
        return getattr(self.words, "chat_template", None) is not None

    @property
    def differs(self) -> bool:
        """Whether asking again can give another answer."""
        return self.talks or self.drawing.temperature > 0

    def fits(self, talk: Sequence[dict[str, Any]]) -> bool:
        """Whether a conversation, the complaint about an answer, and two answers find room in the context."""
        most = getattr(self.network.config, "max_position_embeddings", None)
        answers = self.drawing.max_tokens * (2 if self.talks else 1)
        return most is None or len(self._ids(talk)) + answers + (64 if self.talks else 0) <= most

    def _ids(self, talk: Sequence[dict[str, Any]]) -> list[int]:
        if not self.talks:
            return list(self.words(prompt.text(talk)).input_ids)
        try:
            told = self.words.apply_chat_template(list(talk), add_generation_prompt=True, tokenize=False)
        except Exception:  # noqa: BLE001 - a template that knows no system's part raises what it likes
            told = self.words.apply_chat_template(_without_system(talk), add_generation_prompt=True, tokenize=False)
        return list(self.words(told, add_special_tokens=False).input_ids)

    def __call__(self, labels: Sequence[str], talks: Sequence[Sequence[dict[str, Any]]], attempt: int) -> list[_Said]:
        """Each conversation's answer."""
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        asked = [self._ids(talk) for talk in talks]
        batch = self.words.pad({"input_ids": asked}, padding=True, return_tensors="pt").to(self.network.device)
        generators = [_generator(self.drawing.seed, label, attempt) for label in labels]
        drawn = [_draws(generators, self.drawing)] if self.drawing.temperature > 0 else []
        start = batch["input_ids"].shape[1]
        config = GenerationConfig(
            max_new_tokens=self.drawing.max_tokens, do_sample=False, num_beams=1, pad_token_id=self.words.pad_token_id,
            eos_token_id=self.network.generation_config.eos_token_id,
        )  # fmt: skip
        with torch.inference_mode():
            out = self.network.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                generation_config=config,
                logits_processor=LogitsProcessorList(drawn),
                stopping_criteria=StoppingCriteriaList([_whole(self.words, start)]),
            )
        answers = out[:, start:].tolist()
        texts = self.words.batch_decode(answers, skip_special_tokens=True)
        pad = self.words.pad_token_id
        return [
            _Said(text=text, read=len(ids), written=sum(token != pad for token in answer))
            for text, ids, answer in zip(texts, asked, answers, strict=True)
        ]


def _without_system(talk: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The task as the beginning of the first question."""
    task, first, *rest = talk
    return [{**first, "content": f"{task['content']}\n\n{first['content']}"}, *rest]


def _generator(seed: int, label: str, attempt: int) -> torch.Generator:
    import torch

    key = hashlib.sha256(f"triplets:{seed}:{label}:{attempt}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)


def _draws(generators: Sequence[torch.Generator], drawing: Drawing) -> Any:
    """Adds Gumbel noise out of each row's own generator: the likeliest token is then a draw from the softmax, and no row's draw
    depends on its neighbours.
    """
    import torch
    from transformers import LogitsProcessor

    class Draws(LogitsProcessor):
        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            scores = scores.float() / drawing.temperature
            if drawing.top_p < 1:
                ordered, order = scores.sort(dim=-1, descending=True)
                shares = ordered.softmax(-1)
                beyond = shares.cumsum(-1) - shares >= drawing.top_p
                scores = scores.masked_fill(beyond.scatter(-1, order, beyond), float("-inf"))
            noise = torch.stack([torch.rand(scores.shape[1], generator=one) for one in generators]).to(scores.device)
            return scores - (-noise.clamp(1e-20, 1 - 1e-7).log()).log()

    return Draws()


def _whole(words: Any, start: int) -> Any:
    """Stops a row whose answer has a whole JSON object."""
    import torch
    from transformers import StoppingCriteria

    class Whole(StoppingCriteria):
        def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
            lasts = words.batch_decode(input_ids[:, -1:])
            ended = [
                "}" in last and _is_whole(words.decode(row[start:], skip_special_tokens=True))
                for last, row in zip(lasts, input_ids, strict=True)
            ]
            return torch.tensor(ended, device=input_ids.device)

    return Whole()


def _is_whole(said: str) -> bool:
    try:
        prompt.first_object(said)
    except Unusable:
        return False
    return True
