"""`showtell replay` of an edit that was shown a pair."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.cli.pictures import plain


@pytest.fixture
def gridded(cli, folder):
    """An edit by a pair, ``out.png``, and the pair under other names than its recipe's."""
    plain().save("a.png")
    plain().transpose(Image.Transpose.ROTATE_180).save("b.png")
    made = cli(
        "edit", "house.png", "-o", "out.png", "--method", "grid", "--before", "a.png", "--after", "b.png",
        "--model", "starter-base", "--steps", 1, "--seed", 0,
    )  # fmt: skip
    assert made.code == 0, made.err
    (folder / "a.png").rename("c.png")
    (folder / "b.png").rename("d.png")


def test_a_pair_that_moved_is_given_by_option(gridded, cli):
    result = cli("replay", "out.png", "-o", "again.png", "--before", "c.png", "--after", "d.png")
    assert result.code == 0 and "note: the pixels are the same" in result.err, result.err


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ([], "a.png: the before of out.png is not there any more: give it with --before and --after"),
        (["--before", "c.png"], "one picture of a pair: --after is missing"),
        (["--before", "c.png", "--after", "c.png"], "are the same picture"),
        (["--before", "c.png", "--after", "none.png"], "none.png"),
    ],
)
def test_a_pair_that_is_not_whole(options, culprit, gridded, cli, unchanged):
    unchanged(begin=True)
    cli("replay", "out.png", "-o", "again.png", *options).refused(culprit)
    unchanged()


def test_a_pair_for_a_method_that_takes_none(gridded, cli):
    assert cli("edit", "house.png", "red", "-o", "told.png", "--steps", 1).code == 0
    cli("replay", "told.png", "-o", "again.png", "--before", "c.png", "--after", "d.png").refused("takes no --before")
