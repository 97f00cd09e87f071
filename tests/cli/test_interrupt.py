"""Ctrl-C and a real limit on file sizes, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")

RUNNER = """
    import contextlib, signal, sys
    from showtell.cli import console, main

    # What runs in a shell's background is started with the signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextlib.contextmanager
    def progress(title, *, as_json):
        yield lambda done, total: print("step", done, flush=True)

    console.progress = progress
    {before}
    sys.exit(main(sys.argv[1:]))
"""


def start(*args: str, before: str = "") -> subprocess.Popen[str]:
    """The command in a process that says on stdout when it has made a step."""
    code = textwrap.dedent(RUNNER).replace("{before}", before)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code, *args], stdout=pipe, stderr=pipe, text=True)


def test_ctrl_c_stops_within_a_step_and_leaves_what_was_there(folder, starters, unchanged):
    (folder / "out.png").write_bytes(b"precious")
    unchanged(begin=True)
    process = start("edit", "house.png", "make it red", "-o", "out.png", "--force", "--steps", "1000")
    try:
        assert process.stdout is not None and process.stdout.readline().startswith("step")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err == "showtell: interrupted; what was there before is unchanged\n"
    assert out.count("step") < 900
    unchanged()


def test_a_disk_that_takes_no_more_bytes(folder, starters, unchanged):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))"
    process = start("edit", "house.png", "make it red", "-o", "out.png", "--steps", "1", before=limit)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert len(err.splitlines()) == 1 and err.startswith("showtell: out.png: cannot be written")
    unchanged()
