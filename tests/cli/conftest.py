"""Running the command line in a folder of its own, on random starters that take milliseconds."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from showtell.cli import main


@dataclass(frozen=True)
class Result:
    """What a command left: exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def refused(self, culprit: str, *, code: int = 2) -> None:
        """Assert one clear line that names the culprit, and nothing on stdout."""
        assert self.code == code, self.err
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("showtell: "), self.err
        assert culprit in lines[0], lines[0]
        assert "Traceback" not in self.err and "unexpected" not in self.err


Cli = Callable[..., Result]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory of the test, with one picture in it, ``house.png``."""
    from tests.cli.pictures import plain

    monkeypatch.chdir(tmp_path)
    plain().save("house.png")
    return tmp_path


@pytest.fixture
def cli(folder, starters, capfd) -> Cli:
    """``cli("edit", "house.png", ...)`` runs a command on the random starters."""

    def run(*args: object) -> Result:
        capfd.readouterr()
        code = main([str(arg) for arg in args])
        sys.stdout.flush()
        sys.stderr.flush()
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture
def on_terminal(folder, starters, monkeypatch) -> Callable[..., str]:
    """``on_terminal("scenes", ...)`` runs a command whose stderr is a terminal, and gives what is seen there."""

    def run(*args: object) -> str:
        import pty

        seen: list[bytes] = []
        master, slave = pty.openpty()
        reader = threading.Thread(target=_read_all, args=(master, seen))
        reader.start()
        with os.fdopen(slave, "w") as terminal, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            patch.setenv("TERM", "xterm")
            code = main([str(arg) for arg in args])
        reader.join()
        os.close(master)
        text = b"".join(seen).decode()
        assert code == 0, text
        return text

    return run


def _read_all(terminal: int, seen: list[bytes]) -> None:
    """What is written to a terminal until its other end is closed, which is an end or, on Linux, an error."""
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 4096):
            seen.append(part)


@pytest.fixture
def unchanged(folder) -> Callable[[], None]:
    """Call it at the end: every file is as it was when it was last called with ``begin``, and there is no other."""

    def everything() -> dict[str, bytes]:
        paths = [Path(root) / name for root, _, names in os.walk(folder) for name in names]
        return {str(path): path.read_bytes() for path in paths}

    before: dict[str, bytes] = {}

    def check(*, begin: bool = False) -> None:
        if begin:
            before.clear()
            before.update(everything())
        else:
            assert everything() == before

    check(begin=True)
    return check
