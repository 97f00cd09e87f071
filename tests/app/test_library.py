"""The library: what goes in comes out, nothing gets past the folder, and a file is read once."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from showtell import learned_file
from showtell.app.library import Library, clean_name
from showtell.errors import FileFormatError, OutputError, ShowtellError, TextError
from showtell.learned import NAME
from tests.helpers.looks import made

OUTSIDE = ["../x", "../../x", "/etc/passwd", "..\\x", "a/b", "\0", "x\0y", "..", ".", "", "C:\\x", "~", "x/../../x"]


@pytest.fixture(scope="module")
def pipe():
    from tests.helpers import tiny

    return tiny.pipeline("instruct")


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path / "kept" / "looks")


@pytest.fixture
def three(library, pipe):
    """Three looks, an hour between each and the next."""
    for number, name in enumerate(("night", "sepia", "mosaic")):
        library.add(made(pipe, seed=number, thumbnails=True), name)
        when = time.time() - 3600 * (3 - number)
        os.utime(library.folder / f"{name}.safetensors", (when, when))
    return library


def one_line(caught) -> str:
    text = str(caught.value)
    assert "\n" not in text and isinstance(caught.value, ShowtellError)
    return text


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("night", "night"), ("  my  look ", "my-look"), ("../x", "x"), ("..\\x", "x"), ("/etc/passwd", "passwd"),
        ("a/b", "b"), ("look.safetensors", "look"), ("LOOK.SAFETENSORS", "LOOK"), ("v1.5", "v15"), (".hidden", "hidden"),
        ("a<b>:[c]", "abc"), ("nächtlich 夜", "nächtlich-夜"), ("a\u0308", "ä"), ("con", "con_"), ("LPT1", "LPT1_"),
        ("CON.safetensors", "CON_"), ("console", "console"), ("x\0y\n", "xy"), ("\udce9x", "x"), ("a／b", "b"),
        ("夜" * 80, "夜" * 33), ("x" * 300, "x" * 100), ("-x-", "x"), ("_", "_"), ("½ 🎨 x", "12--x"),
    ],
)  # fmt: skip
def test_names_are_cleaned(text, name):
    assert clean_name(text) == name == clean_name(name)


@pytest.mark.parametrize(
    "text", ["", " ", "..", ".", "/", "a/", "\0", "🎨", "<>", ".safetensors", "---", "\u3164", "\udce9"]
)
def test_a_name_of_nothing(text):
    with pytest.raises(TextError, match="a name is made of letters, digits, - and _") as caught:
        clean_name(text)
    one_line(caught)


@given(st.text(max_size=120))
def test_a_clean_name_is_one_and_stays_as_it_is(text):
    try:
        name = clean_name(text)
    except TextError:
        return
    assert clean_name(name) == name and NAME.fullmatch(name) and len(name.encode()) <= 100
    assert os.path.basename(name) == name and learned_file.name_of(f"{name}.safetensors") == name


# --- in and out ----------------------------------------------------------------------------------------------------


def test_what_is_kept_comes_back(library, pipe):
    look = made(pipe, seed=1, noise=True, thumbnails=True)
    assert library.list() == [] and not library.folder.exists()
    entry = library.add(look, "my night")
    assert stat.S_IMODE(library.folder.stat().st_mode) == 0o700
    assert (entry.name, entry.tokens, entry.model, entry.sha256) == ("my-night", 4, "tiny", look.sha256)
    assert entry.path == library.folder / "my-night.safetensors" == library.export("my night")
    assert entry.thumbnails[0][0].size == (12, 8) and abs(entry.learned.timestamp() - time.time()) < 60
    back = library.load("my-night")
    assert back.name == "my-night" and back.sha256 == look.sha256 and torch.equal(back.embeds, look.embeds)
    assert sorted(os.listdir(library.folder)) == ["my-night.safetensors"]


def test_what_was_learned_is_told(library, editor, picture):
    from PIL import ImageOps

    options = {"steps": 2, "clip_weight": 0, "check_timesteps": 2, "init": "make the circle red"}
    look = editor.learn([(picture(), ImageOps.invert(picture()))], **options)
    entry = library.add(look, "inverted")
    assert (entry.words, entry.steps, entry.loss) == ("make the circle red", 2, look.how["kept_loss"])
    assert [e.name for e in library.list("CIRCLE invert")] == ["inverted"]


@pytest.mark.parametrize(
    "how", [{"init_words": 5, "steps_done": "x", "kept_loss": 10**400}, {"kept_loss": float("nan")}]
)
def test_what_a_file_says_is_not_believed(library, pipe, how):
    import dataclasses

    entry = library.add(dataclasses.replace(made(pipe), how=how), "night")
    assert (entry.words, entry.steps, entry.loss) == ("", None, None)


def test_the_newest_come_first_and_are_found_by_name(three):
    assert [entry.name for entry in three.list()] == ["mosaic", "sepia", "night"]
    assert [entry.name for entry in three.list("SEP")] == ["sepia"]
    assert [entry.name for entry in three.list(" i ")] == ["mosaic", "sepia", "night"]
    assert three.list("sep night") == []


def test_a_name_is_given_once_unless_it_is_forced(three, pipe):
    with pytest.raises(OutputError, match="<night> is there already: choose another name") as caught:
        three.add(made(pipe, seed=9), "night")
    one_line(caught)
    assert three.load("night").sha256 == made(pipe, seed=0).sha256
    assert three.add(made(pipe, seed=9), "night", force=True).sha256 == made(pipe, seed=9).sha256
    assert three.list()[0].name == "night"


def test_numbers_that_are_none_are_not_kept(three, pipe):
    import dataclasses

    broken = dataclasses.replace(made(pipe), embeds=torch.full((77, 16), float("nan")))
    with pytest.raises(FileFormatError, match="<night>: is damaged") as caught:
        three.add(broken, "night", force=True)
    one_line(caught)
    assert three.load("night").sha256 == made(pipe, seed=0).sha256


def test_renamed_and_deleted(three, pipe):
    learned = three.list()[-1].learned
    entry = three.rename("night", "late evening")
    assert entry.name == "late-evening" and entry.learned == learned
    assert three.load("late-evening").name == "late-evening"
    assert three.rename("late-evening", " late evening ").name == "late-evening"
    with pytest.raises(OutputError, match="<sepia> is there already"):
        three.rename("late-evening", "sepia")
    with pytest.raises(TextError, match="a name is made of"):
        three.rename("late-evening", "..")
    three.delete("late-evening")
    for call in (three.load, three.delete, three.export, lambda name: three.rename(name, "x")):
        with pytest.raises(TextError, match="<late-evening> names no learned edit: there is <") as caught:
            call("late-evening")
        one_line(caught)
    assert [entry.name for entry in three.list()] == ["mosaic", "sepia"]


def test_those_that_words_call(three):
    looks = three.looks("make it <night:0.5> and <sepia>, <night>")
    assert list(looks) == ["night", "sepia"] and looks["night"].name == "night"
    assert three.looks("plain words") == {}
    with pytest.raises(TextError, match=r"^<nigth> names no learned edit: there is <night>, <") as caught:
        three.looks("<sepia> <nigth>")
    one_line(caught)


def test_a_name_is_found_however_its_letters_are_spelled(library, pipe):
    library.add(made(pipe), "ä")
    assert list(library.looks("<a\u0308>")) == ["a\u0308"]


def test_no_more_than_five_are_offered(library, pipe):
    with pytest.raises(TextError, match="<x> names no learned edit: the library is empty"):
        library.looks("<x>")
    for number in range(7):
        library.add(made(pipe, seed=number), f"look{number}")
    with pytest.raises(TextError) as caught:
        library.looks(f"<{'x' * 5000}>")
    assert one_line(caught).count("<look") == 5 and len(one_line(caught)) < 300


def test_found_by_what_it_holds(three, pipe):
    assert three.by_sha(made(pipe, seed=1).sha256).name == "sepia"
    assert three.by_sha("0" * 64) is None
    three.rename("sepia", "brown")
    assert three.by_sha(made(pipe, seed=1).sha256).name == "brown"


# --- files from elsewhere ------------------------------------------------------------------------------------------


def test_a_file_is_taken_byte_for_byte_and_its_name_if_that_is_free(three, pipe, tmp_path):
    path = made(pipe, seed=5, noise=True).save(tmp_path / "night.safetensors")
    assert [three.import_file(path).name for _ in range(3)] == ["night-2", "night-3", "night-4"]
    assert three.import_file(path, "a/New one").name == "New-one"
    assert three.export("night-3").read_bytes() == path.read_bytes()
    three.delete("night-2")
    assert three.import_file(path).name == "night-2"
    long = [three.import_file(path, "夜" * 50).name for _ in range(2)]
    assert long == ["夜" * 33, "夜" * 32 + "-2"] and three.broken() == []


@pytest.mark.parametrize("kind", ["text", "cut", "other", "png", "missing", "folder", "large", "pipe", "null"])
def test_what_is_no_learned_edit_is_refused(three, pipe, tmp_path, kind):
    from PIL import Image
    from safetensors.torch import save_file

    good, path = made(pipe).save(tmp_path / "good.safetensors"), tmp_path / "bad.safetensors"
    if kind == "text":
        path.write_text("no")
    elif kind == "cut":
        path.write_bytes(good.read_bytes()[:-10])
    elif kind == "other":
        save_file({"x": torch.zeros(3)}, path)
    elif kind == "png":
        path = tmp_path / "bad.png"
        Image.new("RGB", (8, 8)).save(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_bytes(good.read_bytes())
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "null":
        path = Path("bad\0.safetensors")
    with pytest.raises(FileFormatError, match="bad") as caught:
        three.import_file(path, "bad", max_bytes=100 if kind == "large" else 2**20)
    assert str(tmp_path) not in one_line(caught) and "/tmp" not in one_line(caught)
    assert len(three.list()) == 3 and len(os.listdir(three.folder)) == 3


def test_what_lies_in_the_folder_and_is_none_is_skipped_and_named(three, pipe, tmp_path):
    (three.folder / "text.safetensors").write_text("no")
    (three.folder / "notes.txt").write_text("no")
    (three.folder / "folder.safetensors").mkdir()
    made(pipe, seed=7).save(three.folder / "my look.safetensors")
    content = (three.folder / "night.safetensors").read_bytes()
    (three.folder / "half.safetensors").write_bytes(content[:-20])
    (three.folder / ".showtell.x.safetensors").write_bytes(content)
    assert len(three.list()) == 3
    assert three.broken() == [f"{n}.safetensors" for n in ("folder", "half", "my look", "text")]
    with pytest.raises(FileFormatError, match="^half.safetensors: cannot be read") as caught:
        three.load("half")
    one_line(caught)
    with pytest.raises(OutputError, match="is there already"):
        three.add(made(pipe), "half")
    three.delete("half")
    assert "half.safetensors" not in three.broken()


# --- the folder's walls --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out(three, pipe, tmp_path, name):
    made(pipe, seed=8).save(tmp_path / "x.safetensors")
    made(pipe, seed=8).save(tmp_path / "kept" / "x.safetensors")
    (three.folder / "a").mkdir()
    made(pipe, seed=8).save(three.folder / "a" / "b.safetensors")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for call in (three.load, three.delete, three.export, lambda name: three.rename(name, "y")):
        with pytest.raises(TextError) as caught:
            call(name)
        one_line(caught)
    with contextlib.suppress(TextError):
        assert three.looks(f"<{name}>") == {}  # what holds nothing calls nothing
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    for call in (three.add, lambda look, name: three.rename("night", name)):
        try:
            entry = call(made(pipe, seed=8), name)
        except ShowtellError:
            continue
        assert entry.path.parent == three.folder
        three.delete(entry.name)
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in before if path.parent != three.folder} == {p for p in after if p.parent != three.folder}


def test_links_are_not_followed(three, pipe, tmp_path):
    outside = made(pipe, seed=8).save(tmp_path / "outside.safetensors")
    content = outside.read_bytes()
    (three.folder / "link.safetensors").symlink_to(outside)
    (three.folder / "nowhere.safetensors").symlink_to(tmp_path / "new.safetensors")
    assert len(three.list()) == 3 and three.broken() == ["link.safetensors", "nowhere.safetensors"]
    assert three.by_sha(made(pipe, seed=8).sha256) is None
    for name in ("link", "nowhere"):
        for call in (
            three.load,
            three.delete,
            three.export,
            lambda name: three.rename(name, "y"),
            lambda n: three.looks(f"<{n}>"),
        ):
            with pytest.raises(TextError, match="names no learned edit"):
                call(name)
        with pytest.raises(OutputError, match="is there already"):
            three.add(made(pipe), name)
        with pytest.raises(OutputError, match="is there already"):
            three.rename("night", name)
        three.add(made(pipe, seed=4), name, force=True)
        assert not (three.folder / f"{name}.safetensors").is_symlink()
    assert three.import_file(outside, "link").name == "link-2"
    assert outside.read_bytes() == content and not (tmp_path / "new.safetensors").exists()


# --- once, and together --------------------------------------------------------------------------------------------


def test_a_file_is_read_once_as_long_as_it_stays_as_it_is(three, pipe, monkeypatch):
    (three.folder / "text.safetensors").write_text("no")
    real, read = learned_file.load, []
    monkeypatch.setattr(learned_file, "load", lambda path: read.append(Path(path).name) or real(path))
    fresh = Library(three.folder)
    for _ in range(3):
        assert len(fresh.list()) == 3 and fresh.broken() == ["text.safetensors"]
        assert fresh.by_sha("0" * 64) is None
    assert sorted(read) == [f"{name}.safetensors" for name in ("mosaic", "night", "sepia", "text")]
    read.clear()
    made(pipe, seed=6).save(three.folder / "night.safetensors", force=True)
    assert fresh.list()[0].sha256 == made(pipe, seed=6).sha256 and read == ["night.safetensors"]


def test_a_folder_that_cannot_be_made_or_read(tmp_path, pipe):
    (tmp_path / "file").write_text("")
    library = Library(tmp_path / "file")
    assert library.list() == []
    with pytest.raises(OutputError, match="file: is a file"):
        library.add(made(pipe), "night")


def test_many_threads_at_once(library, pipe, tmp_path):
    path = made(pipe).save(tmp_path / "night.safetensors")
    look, failures = made(pipe, seed=1), []

    def work(number: int) -> None:
        try:
            library.import_file(path)
            library.add(look, f"own{number}")
            library.list("night")
            library.looks(f"<own{number}> <night>")
            library.rename(f"own{number}", f"mine{number}")
        except Exception as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    names = {entry.name for entry in library.list()}
    assert names == {"night", *(f"night-{n}" for n in range(2, 9)), *(f"mine{n}" for n in range(8))}
