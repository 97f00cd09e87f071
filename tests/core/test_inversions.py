"""Inversions as values and as files: what they give back, which edits go out from them, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from safetensors.torch import load as decode
from safetensors.torch import save as encode

import showtell
from showtell import inversion_file, inverting, recipe
from showtell.errors import Cancelled, FileFormatError, ImageError, MethodError, ModelError, OutputError, TextError
from showtell.inversion import tuning
from showtell.inversions import Inversion
from tests.helpers import tiny

STEPS = {"num_inference_steps": 4}
TARGET, SOURCE = "a blue [star] to the tree", "a red star to the tree"

pytestmark = pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")


@pytest.fixture(scope="module")
def base():
    return showtell.Editor(tiny.pipeline("base"))


@pytest.fixture(scope="module")
def house():
    from tests.cli.pictures import plain

    return plain()


@pytest.fixture(scope="module")
def found(base, house):
    """An inversion of each kind, and one that belongs to a target."""
    inverted = {name: base.invert(house, method=name, source=SOURCE, **STEPS) for name in ("ddim", "nti", "pti")}
    return {**inverted, "target": base.invert(house, TARGET, **STEPS)}


def gap(a, b):
    return float((a.latents - b.latents).abs().max())


def test_it_says_what_it_is(found, house):
    for name in ("ddim", "nti", "pti"):
        back = found[name]
        assert back.method == name and back.image.size == house.size and math.isfinite(back.psnr)
        assert (back.target, back.source, back.serves) == (None, SOURCE, "any target")
        assert (back.data.tuned is None) == (name == "ddim")
    assert found["pti"].settings["start"] == "source" and found["target"].settings["start"] == "target"
    assert found["target"].target == TARGET and found["target"].serves == f"the target {TARGET!r} only"
    assert len({back.sha256 for back in found.values()}) == 4


@pytest.mark.parametrize("name", ["ddim", "nti", "pti", "target"])
def test_a_file_gives_back_what_was_found(found, name, base, tmp_path):
    back = found[name]
    path = back.save(tmp_path / "x.safetensors")
    again = Inversion.load(path)
    assert again.path == str(path) and again.sha256 == back.sha256
    assert path.read_bytes() == inversion_file.to_bytes(again), "saving again writes the same bytes"
    for field in dataclasses.fields(back.data):
        ours, theirs = getattr(again.data, field.name), getattr(back.data, field.name)
        assert torch.equal(ours, theirs) if isinstance(theirs, torch.Tensor) else ours == theirs
    for own in ("method", "settings", "target", "source", "negative_prompt", "model", "fit", "frame", "seed"):
        assert getattr(again, own) == getattr(back, own), own
    assert again.image.tobytes() == back.image.tobytes() and again.picture.rgb.tobytes() == back.picture.rgb.tobytes()
    with pytest.raises(OutputError, match="exists already"):
        back.save(path)


def test_an_edit_from_an_inversion_is_the_edit_without_one(base, house, found, tmp_path):
    alone = base.edit(house, TARGET, method="pti", seed=0, **STEPS)
    path = found["target"].save(tmp_path / "x.safetensors")
    for image, more in ((found["target"], {}), (house, {"inversion": found["target"]}), (house, {"inversion": path})):
        assert gap(base.edit(image, TARGET, seed=0, **more), alone) < 1e-5
    told = base.edit(found["ddim"], TARGET, seed=0)
    assert gap(told, base.edit(house, TARGET, method="ddim-edit", source=SOURCE, seed=0, **STEPS)) < 1e-5
    assert told.recipe.method.name == "ddim-edit" and told.recipe.source == SOURCE


def test_one_inversion_serves_many_methods_and_targets(base, found):
    for target in (TARGET, "a green [tree]"):
        for method in ("pti", "ddim-edit"):
            edit = base.edit(found["pti"], target, method=method, seed=0)
            assert edit.recipe.inversion.sha256 == found["pti"].sha256
    two = base.edit([found["pti"], found["pti"]], [TARGET, "a green [tree]"], seed=0)
    assert gap(two[1], base.edit(found["pti"], "a green [tree]", seed=0)) < 1e-3
    row = inverting.etas(base, found["pti"], TARGET, (0, 1), seed=0)
    assert [edit.recipe.method.parameters["eta"] for edit in row] == [0.0, 1.0] and gap(*row) > 1e-3


def test_an_edit_takes_over_how_its_inversion_was_tuned(base, house):
    back = base.invert(house, TARGET, inner_steps=2, learning_rate=0.05, **STEPS)
    made = base.edit(back, TARGET, seed=0).recipe
    told = made.method.parameters
    assert (told["inner_steps"], told["learning_rate"], told["start"]) == (2, 0.05, "target")
    kept = made.inversion
    assert (kept.sha256, kept.method, kept.settings, kept.target) == (back.sha256, "pti", back.settings, TARGET)
    assert recipe.from_json(made.to_json(), name="x") == made


@pytest.mark.parametrize(
    ("kind", "told", "error", "said"),
    [
        ("target", {"target": "a green tree"}, TextError, "belongs to it"),
        ("pti", {"num_inference_steps": 30}, MethodError, "num_inference_steps=4, not as num_inference_steps=30 says"),
        ("pti", {"inner_steps": 7}, MethodError, "inner_steps=1, not as inner_steps=7 says"),
        ("ddim", {"encoding_ratio": 0.5}, MethodError, "encoding_ratio=0.8, not as"),
        ("pti", {"fit": "pad"}, MethodError, "was made with fit 'fit'"),
        ("pti", {"picture": "other"}, ImageError, "is of another picture"),
    ],
)
def test_it_refuses_what_it_does_not_serve(base, found, house, kind, told, error, said):
    told = dict(told)
    target, other = told.pop("target", TARGET), told.pop("picture", None)
    picture = house.rotate(180) if other else house
    with pytest.raises(error, match=said):
        base.edit(picture, target, inversion=found[kind], **{"seed": 0, **told})


def test_another_model_is_refused(found, house):
    other = showtell.Editor(tiny.pipeline("base"))
    with torch.no_grad():
        other.pipe.unet.conv_in.weight += 0.1
    with pytest.raises(ModelError, match="was made with other weights"):
        other.edit(found["pti"], TARGET)


def test_inversions_of_some_pictures_only_are_refused(base, found, house):
    with pytest.raises(MethodError, match="some of the pictures have an inversion"):
        base.edit([found["pti"], house], [TARGET, TARGET], method="pti")


@pytest.mark.parametrize(
    ("told", "error", "said"),
    [
        ({"method": "magic"}, MethodError, "'magic' is not known: choose one of ddim, nti, pti"),
        ({"method": "nti", "target": TARGET}, MethodError, "target is for inversion 'pti'"),
        ({"method": "ddim", "start": "empty"}, MethodError, "start is for inversion 'pti'"),
        ({"start": "target"}, TextError, "needs a target"),
        ({"start": "empty", "target": TARGET}, MethodError, "serves any target: leave the target out"),
        ({"start": "source"}, MethodError, "needs source="),
        ({"encoding_ratio": 0}, MethodError, "encoding_ratio=0 is out of range"),
        ({"encoding_ratio": 1.5}, MethodError, "encoding_ratio=1.5 is out of range"),
        ({"inner_steps": -1}, MethodError, "inner_steps=-1"),
        ({"eta": 0.5}, MethodError, "'eta' is not a hyper-parameter"),
        ({"target": "tree " * 100}, TextError, "does not fit"),
        ({"target": ""}, TextError, "empty"),
        ({"fit": "squeeze"}, MethodError, "fit='squeeze'"),
    ],
)
def test_what_cannot_be_inverted_is_one_clear_line(base, house, told, error, said):
    with pytest.raises(error, match=said):
        base.invert(house, **{**STEPS, **told})


# Stopping, breaking, going on.


def test_a_stopped_tuning_goes_on_to_the_same_result(base, house, tmp_path):
    whole, kept, seen = base.invert(house, num_inference_steps=6), tmp_path / "kept.safetensors", []
    with pytest.raises(Cancelled, match="stopped while tuning"):
        base.invert(
            house, num_inference_steps=6, checkpoint=kept, cancel=lambda: seen.count("tuning") == 2,
            on_phase=lambda name, i, n: seen.append(name),
        )  # fmt: skip
    with pytest.raises(OutputError, match="holds an unfinished inversion"):
        base.invert(house, num_inference_steps=6, checkpoint=kept)
    with pytest.raises(FileFormatError, match="belongs to another inversion"):
        base.invert(house, num_inference_steps=7, checkpoint=kept, resume=True)
    seen.clear()
    again = base.invert(
        house, num_inference_steps=6, checkpoint=kept, resume=True, on_phase=lambda name, i, n: seen.append(name)
    )
    assert again.sha256 == whole.sha256 and again.image.tobytes() == whole.image.tobytes()
    assert seen == ["tuning"] * 2, "four steps in all, of which two were done"


def test_a_tuning_that_breaks_says_where_and_keeps_what_was_good(base, house, tmp_path):
    kept = tmp_path / "kept.safetensors"
    with pytest.raises(tuning.NotFinite, match=r"the tuning broke at step \d of 4 .*smaller learning_rate") as caught:
        base.invert(house, num_inference_steps=5, learning_rate=1e30, checkpoint=kept)
    good = caught.value.tuned
    assert all(torch.isfinite(one).all() for one in (*good.embeds, *good.latents)) and kept.is_file()
    assert len(decode(kept.read_bytes())["trajectory"]) == 5


# Files that are none.


def changed(content, *, header=None, **tensors):
    """The bytes of a file with some of its tensors, or of its header's entries, replaced; None leaves a tensor out."""
    import struct

    length = struct.unpack("<Q", content[:8])[0]
    told = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["showtell"])
    held = {k: v for k, v in {**decode(content), **tensors}.items() if v is not None}
    return encode(held, metadata={"showtell": json.dumps({**told, **(header or {})})})


DAMAGED = {
    "newer": (lambda c, t: changed(c, header={"format": 99}), "newer than 1"),
    "another kind": (lambda c, t: changed(c, header={"kind": "learned"}), "is not an inversion"),
    "unknown method": (lambda c, t: changed(c, header={"method": "magic"}), "'magic' is not known"),
    "unknown fit": (lambda c, t: changed(c, header={"fit": "x"}), "fit 'x' is not known"),
    "no header": (lambda c, t: encode(t), "is not an inversion"),
    "no trajectory": (lambda c, t: changed(c, trajectory=None), "trajectory is missing"),
    "nan": (lambda c, t: changed(c, tuned=t["tuned"] * math.nan), "tuned holds numbers"),
    "huge": (lambda c, t: changed(c, trajectory=t["trajectory"] * 1e9), "trajectory holds numbers"),
    "steps": (lambda c, t: changed(c, tuned=t["tuned"][1:].clone()), "have the shapes"),
    "flat": (lambda c, t: changed(c, trajectory=t["trajectory"][:, 0].clone()), "trajectory has the shape"),
    "another picture inside": (lambda c, t: changed(c, picture=t["picture"].roll(3, 0)), "is not the one that it names"),
    "no picture": (lambda c, t: changed(c, image=t["image"][0].clone()), "image is no picture"),
    "truncated": (lambda c, t: c[:-100], "truncated"),
    "empty": (lambda c, t: b"", "truncated"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_clear_line(name, found, tmp_path):
    content = inversion_file.to_bytes(found["pti"])
    damage, said = DAMAGED[name]
    path = tmp_path / "x.safetensors"
    path.write_bytes(damage(content, decode(content)))
    with pytest.raises(FileFormatError, match=said) as caught:
        Inversion.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_tensors_of_another_shape_than_the_models_are_refused(found, base, tmp_path):
    content = inversion_file.to_bytes(found["ddim"])
    path = tmp_path / "x.safetensors"
    path.write_bytes(changed(content, trajectory=decode(content)["trajectory"][..., :-1].clone()))
    with pytest.raises(FileFormatError, match="of another shape than the model's"):
        base.edit(Inversion.load(path), TARGET)


def test_files_that_are_not_there_or_not_ours(tmp_path):
    with pytest.raises(FileFormatError, match="no such file"):
        Inversion.load(tmp_path / "none.safetensors")
    with pytest.raises(OutputError, match="must end in .safetensors"):
        inversion_file.check_path(tmp_path / "x.pt")
