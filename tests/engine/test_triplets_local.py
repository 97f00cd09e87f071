"""Triplets from a language model in this process: one that answers as it should, one that does not, and what cannot be loaded."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext

import pytest

from showtell import loading
from showtell.engine import triplets_captions, triplets_local, triplets_making
from showtell.engine.triplets_checks import Checks
from showtell.engine.triplets_journal import Journal
from showtell.engine.triplets_local import Drawing
from showtell.errors import ModelError, UsageError
from showtell.work import Item
from tests.helpers import language

CAPTIONS = [f"a picture of thing {i}" for i in range(8)]
DRAWING = Drawing(seed=3, temperature=1.0, top_p=1.0, max_tokens=40)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(language.answering(tmp_path_factory.mktemp("model")))


def make(tmp_path, model, captions=CAPTIONS, *, drawing=DRAWING, resume=False, **options):
    (tmp_path / "captions.txt").write_text("".join(f"{caption}\n" for caption in captions))
    items, _ = triplets_captions.read(tmp_path / "captions.txt", Checks())
    job = triplets_making.Job(out=tmp_path / "t.jsonl", items=items)
    begun = triplets_making.start_of(job, {"model": model}, resume=resume)
    bars = lambda title: nullcontext(lambda done, total: None)  # noqa: E731
    return triplets_making.from_local(job, model, drawing, begun, bars, device="cpu", **options)


def told(made):
    return [(one.id, one.instruction) for one in made.triplets]


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    return make(tmp_path_factory.mktemp("made"), model, attempts=8)


def test_a_model_that_answers(made):
    assert [one.source_caption for one in made.triplets] == CAPTIONS and made.dropped == {} and made.failed == ()
    words = {one.instruction for one in made.triplets}
    assert words <= {"make it night", "make it winter", "make it foggy"} and len(words) > 1
    assert {(one.target_caption, one.origin) for one in made.triplets} == {("some other picture", "local")}
    assert made.usage["written"] >= 8 * len(CAPTIONS) and made.usage["read"] > 200 * len(CAPTIONS)


def test_the_batch_and_the_neighbours_change_nothing(made, model, tmp_path):
    again = make(tmp_path, model, ["another", *CAPTIONS[1:]], attempts=8, batch_size=3)
    assert told(again)[1:] == told(made)[1:]


def test_another_seed_draws_other_words(made, model, tmp_path):
    other = make(tmp_path, model, attempts=8, drawing=Drawing(seed=4, temperature=1.0, top_p=1.0, max_tokens=40))
    assert told(other) != told(made)


def test_draws_are_the_softmax(model):
    """Gumbel noise and the likeliest: as often as the probabilities say, whatever top_p leaves."""
    import torch

    scores = torch.tensor([[3.0, 1.0, 2.0, -50.0]]).log_softmax(-1)
    generator = torch.Generator().manual_seed(0)
    for top_p, expected in ((1.0, scores.exp()[0]), (0.7, torch.tensor([0.731, 0.0, 0.269, 0.0]))):
        draws = triplets_local._draws([generator], Drawing(temperature=1.0, top_p=top_p))
        drawn = torch.stack([draws(None, scores).argmax() for _ in range(4000)])
        shares = torch.bincount(drawn, minlength=4) / 4000
        assert torch.allclose(shares, expected, atol=0.03), (top_p, shares)


def test_an_answer_that_cannot_be_used_is_asked_for_again(model, tmp_path):
    once = make(tmp_path, model, attempts=1)
    assert 0 < once.dropped["unusable answer"] < len(CAPTIONS)
    journal = Journal(path=tmp_path / "t.journal.jsonl").records()
    bad = [label for label, record in journal.items() if "unusable" in record]
    assert "not JSON" in journal[bad[0]]["unusable"]
    assert len(once.triplets) + len(bad) == len(CAPTIONS)


@pytest.mark.parametrize("template", [language.TEMPLATE, language.NO_SYSTEM])
def test_a_model_that_knows_conversations(template, tmp_path):
    folder = str(language.answering(tmp_path / "model", template=template))
    speaker = triplets_local._Speaker(
        network=None, words=loading.load_language(folder, device="cpu")[1], drawing=DRAWING
    )
    from showtell.engine import triplets_prompt as prompt

    first = prompt.conversation("a cat", 1)
    ids = speaker._ids(prompt.again(first, "nonsense", "no JSON object"))
    assert speaker.words.convert_ids_to_tokens(ids)[-1] == "<assistant>" and len(ids) > len(speaker._ids(first)) > 200
    greedy = Drawing(temperature=0, max_tokens=40)
    found = make(tmp_path, folder, CAPTIONS[:2], drawing=greedy)
    assert [one.instruction for one in found.triplets] == ["make it night"] * 2


def test_examples_are_left_out_where_the_context_is_short(tmp_path):
    folder = str(language.answering(tmp_path / "model", positions=300))
    worker = triplets_local.build(folder, device="cpu", drawing=Drawing(temperature=0, max_tokens=40))
    [done] = worker([Item(id="a", told={"caption": "a cat"})])
    assert done.record["edits"] and 150 < done.record["usage"]["read"] <= 260
    long = Item(id="b", told={"caption": "cat " * 300})
    with pytest.raises(Exception, match="longer than the model's context"):
        worker([long])
    with pytest.raises(ModelError, match="no room for the question"):
        triplets_local.build(folder, device="cpu", drawing=Drawing(max_tokens=290))


def test_rubbish_is_counted(tmp_path):
    noisy = str(language.noisy(tmp_path / "model"))
    found = make(tmp_path, noisy, CAPTIONS[:3], attempts=2)
    assert found.triplets == () and found.dropped == {"unusable answer": 3} and not (tmp_path / "t.jsonl").exists()


def test_a_run_that_was_stopped_goes_on(made, model, tmp_path):
    make(tmp_path, model, attempts=8)
    path = tmp_path / "t.journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]) + lines[4][:30])
    again = make(tmp_path, model, attempts=8, resume=True)
    assert again.kept == 3 and told(again) == told(made) and again.usage == made.usage


@pytest.mark.parametrize("options", [{"temperature": -1}, {"top_p": 0}, {"max_tokens": 0}])
def test_drawing_out_of_range(options):
    with pytest.raises(UsageError):
        Drawing(**options)


def test_what_is_not_loaded(model, tmp_path):
    from safetensors.torch import load_file, save_file

    def broken(name):
        return shutil.copytree(model, tmp_path / name)

    with pytest.raises(ModelError, match="nothing-here"):
        loading.load_language(tmp_path / "nothing-here")
    weights = load_file(f"{model}/model.safetensors")
    lacking = broken("lacking")
    del weights["lm_head.weight"]
    save_file(weights, lacking / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="incomplete \\(lm_head.weight is missing"):
        loading.load_language(lacking)
    pickled = broken("pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        loading.load_language(pickled)
    foreign = broken("foreign")
    config = json.loads((foreign / "config.json").read_text())
    told = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}
    (foreign / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": told}))
    (foreign / "evil.py").write_text("raise SystemExit('its code was run')")
    with pytest.raises(ModelError, match="foreign"):
        loading.load_language(foreign)
