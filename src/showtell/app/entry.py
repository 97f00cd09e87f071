"""Who may come in: accounts, and from where the studio can be reached."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from unicodedata import category

from ..errors import UsageError

#: The names of this very machine.
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
#: Characters that a password has at least.
SHORTEST = 8
_USER = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_FILE_BYTES = 2**20


def accounts(told: Sequence[str]) -> list[tuple[str, str]]:
    """Users and passwords out of the values of ``--auth``: ``user:password``, or ``@FILE`` with one a line, # before a comment.

    Raises ``UsageError``, which says where and never what: any part of a value may be a password.
    """
    found: dict[str, str] = {}
    for place, line in _lines(told):
        user, colon, password = line.partition(":")
        if not colon:
            raise UsageError(f"{place}: is not user:password")
        if not _USER.fullmatch(user):
            raise UsageError(f"{place}: a user is named with 1 to 40 letters, digits, '_', '.' or '-'")
        if len(password) < SHORTEST:
            raise UsageError(f"{place}: the password is too short; take at least {SHORTEST} characters")
        if any(category(letter) in ("Cc", "Cs") for letter in password):
            raise UsageError(f"{place}: the password has a character that cannot be typed; take another")
        if user in found:
            raise UsageError(f"{place}: that user has an account already; give each one once")
        found[user] = password
    return list(found.items())


def _lines(told: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Where each account is told, and the account."""
    for number, value in enumerate(told, 1):
        place = f"--auth ({number})" if len(told) > 1 else "--auth"
        if not value.startswith("@"):
            yield place, value
            continue
        lines = [line.strip() for line in _read(value[1:], place).splitlines()]
        kept = [(at, line) for at, line in enumerate(lines, 1) if line and not line.startswith("#")]
        if not kept:
            raise UsageError(f"{place}: the file has no account in it; write user:password, one a line")
        for at, line in kept:
            yield f"{place}: line {at} of the file", line


def _read(path: str, place: str) -> str:
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        # What follows the @ is not repeated: whoever forgets the file writes a password there.
        raise UsageError(f"{place}: the file after @ cannot be read ({reason})") from None
    if len(data) > _FILE_BYTES:
        raise UsageError(f"{place}: the file after @ is over 1 MiB; it should hold user:password, one a line")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{place}: the file after @ is not text in UTF-8") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server at ``host``."""
    return host.lower() in (*LOOPBACK, "::1")


def check_reach(host: str, share: bool, accounts: Sequence[tuple[str, str]]) -> None:
    """Raise ``UsageError`` if others than this machine's users could come in without a password."""
    if accounts:
        return
    if share:
        raise UsageError("--share opens the studio to everybody who has the link: give --auth user:password too")
    if not is_loopback(host):
        raise UsageError(
            f"--host {host or repr(host)} opens the studio to other machines: give --auth user:password too, or --host 127.0.0.1"
        )


def hosts_for(host: str, share: bool) -> tuple[str, ...]:
    """The names that requests may call the server by.

    Those of this machine, so that a stranger's name that leads here (DNS rebinding) is turned away. A server that others may
    reach has names that nobody here knows. It may go by any: it asks for a password, and a browser gives one name's to no other.
    """
    return LOOPBACK if is_loopback(host) and not share else ("*",)
