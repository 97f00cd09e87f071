"""Accounts, and from where the studio can be reached: nobody else comes in without a password, and no error tells one."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.app import entry
from showtell.errors import UsageError


def test_accounts_are_told_one_by_one():
    assert entry.accounts([]) == []
    assert entry.accounts(["alice:wonder:land", "b.o-b_1: eight ch "]) == [
        ("alice", "wonder:land"),
        ("b.o-b_1", " eight ch "),
    ]
    assert entry.accounts([f"{'a' * 40}:pässwörd"])[0][1] == "pässwörd"


def test_accounts_out_of_a_file(tmp_path):
    file = tmp_path / "accounts"
    file.write_bytes("\ufeff# who may come in\r\n\r\nalice:wonderland\r\n  bob:builder:# 1 \n".encode())
    assert entry.accounts([f"@{file}", "carol:christmas"]) == [
        ("alice", "wonderland"), ("bob", "builder:# 1"), ("carol", "christmas"),
    ]  # fmt: skip


WRONG = {
    "hunter2hunter2": "is not user:password",
    "": "is not user:password",
    ":hunter2hunter2": "a user is named with",
    "al ice:hunter2hunter2": "a user is named with",
    "älice:hunter2hunter2": "a user is named with",
    "alice\n:hunter2hunter2": "a user is named with",
    f"{'a' * 41}:hunter2hunter2": "a user is named with",
    "alice:hunter2": "the password is too short; take at least 8 characters",
    "alice:": "the password is too short",
    "alice:hunter2\thunter2": "the password has a character that cannot be typed",
    "alice:hunter2\udcff\udcfe": "the password has a character that cannot be typed",
}


@pytest.mark.parametrize("value", WRONG)
def test_a_wrong_account(value):
    with pytest.raises(UsageError, match=f"^--auth: {WRONG[value]}") as caught:
        entry.accounts([value])
    assert "hunter2" not in str(caught.value) and "alice" not in str(caught.value)
    with pytest.raises(UsageError, match=r"^--auth \(2\): "):
        entry.accounts(["carol:christmas", value])


def test_a_wrong_line_of_a_file(tmp_path):
    file = tmp_path / "accounts"
    file.write_text("# mine\nalice:wonderland\nhunter2hunter2\n")
    with pytest.raises(UsageError, match=r"^--auth: line 3 of the file: is not user:password$"):
        entry.accounts([f"@{file}"])


def test_a_user_has_one_account(tmp_path):
    file = tmp_path / "accounts"
    file.write_text("alice:wonderland\n")
    with pytest.raises(UsageError, match=r"^--auth \(2\): that user has an account already"):
        entry.accounts([f"@{file}", "alice:wonderland2"])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda file: None, "cannot be read"),
        (lambda file: file.mkdir(), "cannot be read"),
        (lambda file: file.write_text("# nobody\n"), "has no account in it"),
        (lambda file: file.write_bytes(b"alice:\xff\xfewonderland"), "is not text in UTF-8"),
        (lambda file: file.write_bytes(b"#" * 2**20 + b"\n"), "over 1 MiB"),
    ],
)
def test_a_wrong_file(tmp_path, make, said):
    file = tmp_path / "hunter2"
    make(file)
    with pytest.raises(UsageError, match=said) as caught:
        entry.accounts([f"@{file}"])
    assert "hunter2" not in str(caught.value)


@given(st.text())
def test_no_error_tells_what_was_typed(secret):
    for value in (f"alice:{secret}"[:13], f"{secret}:zzzzzzzzzz", f"@{os.sep}{secret}"):
        try:
            found = entry.accounts([value])
        except UsageError as error:
            said = str(error)
            assert len(secret) < 4 or secret not in said
        else:
            assert found[0][0] + ":" + found[0][1] == value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "LocalHost"])
def test_this_machine_needs_no_account(host):
    entry.check_reach(host, False, [])
    assert entry.hosts_for(host, False) == ("localhost", "127.0.0.1", "[::1]")
    with pytest.raises(UsageError, match="^--share opens .*give --auth"):
        entry.check_reach(host, True, [])


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.5", "studio.example.org", "localhost.example.org", "127.0.0.1.nip.io"]
)
@pytest.mark.parametrize("share", [False, True])
def test_others_need_one(host, share):
    with pytest.raises(UsageError, match="give --auth user:password too"):
        entry.check_reach(host, share, [])
    entry.check_reach(host, share, [("alice", "wonderland")])
    assert entry.hosts_for(host, share) == ("*",)


def test_a_shared_studio_goes_by_any_name():
    assert entry.hosts_for("127.0.0.1", True) == ("*",)
