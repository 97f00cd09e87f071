"""Recipes in PNG files, replaying, and files that are whole or not there."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import showtell
from showtell import files, recipe
from showtell.errors import FileFormatError, ImageError, OutputError, ShowtellWarning

STEPS = {"num_inference_steps": 2}


@pytest.fixture
def saved(starters, picture, tmp_path):
    """(editor, input, output) of an edit from a file to a file, with a mask."""
    editor = showtell.load("starter", device="cpu")
    picture(40, 24).save(tmp_path / "in.png")
    mask = np.zeros((24, 40), np.uint8)
    mask[4:20, 4:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    edit = editor.edit(
        tmp_path / "in.png", ["make it [red]", "add a star"], mask=tmp_path / "mask.png", negative_prompt="blue",
        seed=5, fit="pad", scheduler="dpm++", **STEPS,
    )  # fmt: skip
    return editor, tmp_path / "in.png", edit.save(tmp_path / "out.png")


def test_the_recipe_is_in_the_file(saved, tmp_path):
    _, source, out = saved
    found = recipe.read(out)
    assert found.input.path == str(source) and len(found.input.sha256) == 64
    assert found.instructions == ("make it [red]", "add a star") and found.negative_prompt == "blue"
    assert found.seed == 5 and found.fit == "pad" and found.mask.path.endswith("mask.png")
    assert found.scheduler["_class_name"] == "DPMSolverMultistepScheduler"
    assert found.method.parameters["num_inference_steps"] == 2 and found.method.origin["guidance_scale"] == "card"
    assert {"python", "showtell", "torch", "diffusers", "transformers"} <= set(found.versions)
    assert found.size == (40, 24) and found.model.id == "starter"
    assert json.loads(Image.open(out).text["showtell"])["seed"] == 5


def test_replaying_gives_the_same_pixels(saved, tmp_path):
    _, _, out = saved
    again = showtell.replay(out, device="cpu")
    assert np.array_equal(np.asarray(again.image), np.asarray(Image.open(out)))
    assert again.notes[0].startswith("the pixels are the same")
    twice = showtell.replay(again.save(tmp_path / "again.png"))
    assert np.array_equal(np.asarray(twice.image), np.asarray(again.image))


def test_the_input_is_found_beside_the_file(saved, tmp_path):
    _, source, out = saved
    elsewhere = tmp_path / "moved"
    elsewhere.mkdir()
    for name in ("in.png", "mask.png", "out.png"):
        (tmp_path / name).rename(elsewhere / name)
    assert "same" in showtell.replay(elsewhere / "out.png").notes[0]
    (elsewhere / "in.png").rename(tmp_path / "renamed.png")
    with pytest.raises(ImageError, match="in.png: the input .* is not there any more: give it with --input"):
        showtell.replay(elsewhere / "out.png")
    assert "same" in showtell.replay(elsewhere / "out.png", tmp_path / "renamed.png").notes[0]


def test_what_differs_is_said(saved, picture, instruct_pipe):
    _, source, out = saved
    picture(40, 24, seed=9).save(source)
    notes = showtell.replay(out, editor=showtell.Editor(instruct_pipe)).notes
    assert any("is not the picture that was edited" in note for note in notes)
    assert any("weights are not those" in note for note in notes)
    assert any("pixels differ from" in note for note in notes)
    assert recipe.differences({"torch": "1.0"}, {"torch": "2.0"}) == ["torch: the file was made with 1.0, this is 2.0"]


def test_a_picture_in_memory_must_be_given_again(editor, picture, tmp_path):
    out = editor.edit(picture(), "red", seed=0, **STEPS).save(tmp_path / "out.png")
    with pytest.raises(ImageError, match="in memory: give it with --input"):
        showtell.replay(out, editor=editor)
    assert "same" in showtell.replay(out, picture(), editor=editor).notes[0]


def with_chunk(path, text):
    chunks = PngInfo()
    chunks.add_itxt("showtell", text)
    Image.new("RGB", (4, 4)).save(path, pnginfo=chunks)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "damaged"), ("[]", "no format number"), ('{"format": 99}', "update showtell"),
        ('{"format": 1}', "damaged"), ('{"format": "one"}', "no format number"),
        ('{"format": -3}', "no format number"), ('{"format": true}', "no format number"),
        ("[" * 100_000, "damaged"),
    ],
)  # fmt: skip
def test_damaged_recipes(tmp_path, text, words):
    with pytest.raises(FileFormatError, match=words) as caught:
        showtell.replay(with_chunk(tmp_path / "a.png", text))
    assert "\n" not in str(caught.value) and "a.png" in str(caught.value)


def test_wrong_types_in_a_recipe_are_named(saved, tmp_path):
    data = recipe.read(saved[2]).to_dict()
    for key, value in (("seed", "five"), ("size", [1]), ("method", {"name": "ip2p"}), ("instructions", 3)):
        with pytest.raises(FileFormatError, match=f"damaged.*{key}"):
            recipe.read(with_chunk(tmp_path / "b.png", json.dumps({**data, key: value})))


@pytest.mark.parametrize("parts", [[], [{"sha256": "x", "weight": 11}], [{"sha256": "x", "weight": float("nan")}]])
def test_a_learned_instruction_in_a_recipe_has_parts_of_some_weight(saved, tmp_path, parts):
    data = {**recipe.read(saved[2]).to_dict(), "learned": [{"name": "night", "parts": parts}]}
    with pytest.raises(FileFormatError, match=r"b.png: its recipe is damaged \(learned.0.parts: "):
        showtell.replay(with_chunk(tmp_path / "b.png", json.dumps(data)), saved[1], editor=saved[0])


def test_pairs_that_no_method_was_shown(saved, picture):
    from showtell.errors import MethodError

    with pytest.raises(MethodError, match="out.png: its method, 'ip2p', was shown no pair"):
        showtell.replay(saved[2], editor=saved[0], pairs=[(picture(), picture(seed=1))])


def test_a_recipe_sets_hyper_parameters_and_nothing_else(saved, tmp_path):
    from showtell.errors import MethodError

    data = recipe.read(saved[2]).to_dict()
    for name in ("callback", "seed", "image"):
        data["method"]["parameters"] = {name: 3}
        with pytest.raises(MethodError, match=f"'{name}' is not a hyper-parameter"):
            showtell.replay(with_chunk(tmp_path / "b.png", json.dumps(data)), saved[1], editor=saved[0])


def test_a_recipe_names_every_hyper_parameter(saved, tmp_path):
    data = recipe.read(saved[2]).to_dict()
    del data["method"]["parameters"]["guidance_scale"]
    with pytest.raises(FileFormatError, match="b.png: its recipe is damaged .*guidance_scale is missing"):
        showtell.replay(with_chunk(tmp_path / "b.png", json.dumps(data)), saved[1], editor=saved[0])


def test_the_threads_and_the_batch_are_recorded_and_compared(saved, picture, tmp_path):
    import torch

    editor, source, out = saved
    found = recipe.read(out)
    assert found.threads == torch.get_num_threads() and found.batch == 1
    data = {**found.to_dict(), "threads": found.threads + 3}
    notes = showtell.replay(with_chunk(tmp_path / "b.png", json.dumps(data)), source, editor=editor).notes
    assert f"threads: the file was made with {found.threads + 3}, this is {found.threads}" in notes
    del data["threads"], data["batch"]
    assert recipe.read(with_chunk(tmp_path / "c.png", json.dumps(data))).threads is None
    two = editor.edit([source, source], ["red", "blue"], seed=0, **STEPS)
    notes = showtell.replay(two[1].save(tmp_path / "two.png"), editor=editor).notes
    assert "edited in a batch of 2" in notes[0] and "1/255" in notes[0]


def test_names_that_no_file_can_have(saved, tmp_path):
    long = "x" * 300 + ".png"
    with pytest.raises(OutputError, match="name is too long") as caught:
        files.check_output(tmp_path / long, force=True)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    with pytest.raises(OutputError, match="name is too long"), files.folder_atomic(tmp_path / long, marker="m"):
        pass
    with pytest.raises(OutputError, match="null"):
        files.check_output("a\0b.png")
    data = recipe.read(saved[2]).to_dict()
    data["input"]["path"] = long
    with pytest.raises(ImageError, match="is not there any more"):
        showtell.replay(with_chunk(tmp_path / "b.png", json.dumps(data)), editor=saved[0])
    with pytest.raises(showtell.errors.ModelError, match="no such model"):
        showtell.load(long)
    assert files.write_atomic(tmp_path / ("y" * 255), b"as long as a name can be").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="links and pipes are POSIX")
def test_only_regular_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("/dev/null")
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere")
    for name in ("pipe.png", "link.png"):
        with pytest.raises(OutputError, match="is not a regular file"):
            files.check_output(tmp_path / name, force=True)
    with pytest.raises(OutputError, match="exists already"):
        files.check_output(tmp_path / "lost.png")


@pytest.mark.parametrize(("name", "size"), [("a.webp", (16_384, 1)), ("a.jpg", (1, 65_501))])
def test_a_picture_that_a_format_cannot_hold_is_refused(name, size, tmp_path):
    edit = showtell.Edit(image=Image.new("RGB", size), recipe=None)
    with pytest.raises(OutputError, match=f"{name}: .* holds at most .* save as .png"):
        edit.save(tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="other systems keep names as text")
def test_a_path_in_no_encoding_is_recorded_readably(editor, picture, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    picture().save(path)
    edit = editor.edit(path, "red", seed=0, **STEPS)
    assert recipe.read(edit.save(tmp_path / "a.png")).input.path.endswith("caf\N{REPLACEMENT CHARACTER}.png")


def test_files_without_a_recipe(picture, tmp_path):
    picture().save(tmp_path / "a.png")
    picture().save(tmp_path / "a.jpg")
    with pytest.raises(FileFormatError, match="carries no recipe"):
        recipe.read(tmp_path / "a.png")
    with pytest.raises(FileFormatError, match="is not a PNG"):
        recipe.read(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="no such file"):
        recipe.read(tmp_path / "none.png")


def test_a_used_generator_cannot_be_replayed(editor, picture, tmp_path):
    import torch

    used = torch.Generator()
    torch.rand(1, generator=used)
    with pytest.warns(ShowtellWarning):
        out = editor.edit(picture(), "red", generator=used, **STEPS).save(tmp_path / "out.png")
    with pytest.raises(FileFormatError, match="seed is not known"):
        showtell.replay(out, picture(), editor=editor)


def test_nothing_is_overwritten_without_force(editor, picture, tmp_path):
    edit = editor.edit(picture(), "red", seed=0, **STEPS)
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already; use --force") as caught:
        edit.save(path)
    assert caught.value.exit_code == 2 and path.read_bytes() == b"precious"
    edit.save(path, force=True)
    assert Image.open(path).size == (32, 32) and os.listdir(tmp_path) == ["a.png"]


def test_only_png_keeps_the_recipe_and_that_is_said(editor, picture, tmp_path):
    edit = editor.edit(picture().convert("RGBA"), "red", seed=0, **STEPS)
    edit.save(tmp_path / "a.webp")
    edit.save(tmp_path / "a.JPG")
    assert [note.split(": ")[1].split(";")[0] for note in edit.notes] == [
        "WEBP files carry no recipe", "JPEG files carry no recipe", "JPEG has no transparency",
    ]  # fmt: skip
    for name in ("a.gif", "a", "a.bmp"):
        with pytest.raises(OutputError, match="must end in"):
            edit.save(tmp_path / name)


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EROFS, 2), (errno.EACCES, 2)]
)
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, number, code):
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")

    def fail(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OutputError, match="a.png: cannot be written") as caught:
        files.write_atomic(path, b"new", force=True)
    assert caught.value.exit_code == code and path.read_bytes() == b"precious" and os.listdir(tmp_path) == ["a.png"]


def test_paths_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for path, words in (
        (tmp_path / "no" / "a.png", "does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "a.png", "does not exist"),
    ):
        with pytest.raises(OutputError, match=words):
            files.write_atomic(path, b"new")


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    real = os.fsync

    def meanwhile(handle):
        path.write_bytes(b"another's")
        real(handle)

    monkeypatch.setattr(files.os, "fsync", meanwhile)
    with pytest.raises(OutputError, match="exists already"):
        files.write_atomic(path, b"mine")
    assert path.read_bytes() == b"another's" and os.listdir(tmp_path) == ["a.png"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(ZeroDivisionError), files.folder_atomic(tmp_path / "f", marker="m") as temporary:
        (temporary / "a").touch()
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_masks_are_saved_on_request(saved, tmp_path):
    editor, source, _ = saved
    edit = editor.edit(source, "red", mask=tmp_path / "mask.png", seed=0, **STEPS)
    path, overlay = edit.save_masks(tmp_path / "out")
    assert (path.name, overlay.name) == ("out.mask1.png", "out.overlay.png")
    assert np.array_equal(np.asarray(Image.open(path)) > 0, edit.masks[0])
