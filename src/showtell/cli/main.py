"""Entry point: runs a command, and turns whatever goes wrong into one line on stderr and an exit code.

0 is success, 1 a failure that is not the user's doing, 2 wrong use, 130 an interruption.
"""

from __future__ import annotations

import functools
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from showtell import __version__
from showtell.errors import ShowtellError

DEBUG = "SHOWTELL_DEBUG"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. ``argv`` leaves out the program's name."""
    args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if args == ["--version"]:
        print(f"showtell {__version__}")  # noqa: T201 - as typer would, without the time that it takes to import
        return 0
    _prepare_terminal()
    try:
        with warnings.catch_warnings():
            if not os.environ.get(DEBUG):
                # What a user must know is said in notes.
                warnings.simplefilter("ignore")
            return _run(args)
    except KeyboardInterrupt:
        return _fail("interrupted; what was there before is unchanged", 130)
    except ShowtellError as error:
        return _fail(str(error) or type(error).__name__, error.exit_code)
    except BrokenPipeError:
        # The reader (head, less) has gone: say nothing, and keep the interpreter from complaining at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return _fail(
            "not enough memory; try a smaller --batch-size, --sequential, a smaller picture or --vae-tiling", 1
        )
    except Exception as error:  # noqa: BLE001 - the last line of defence: a user never meets a traceback
        return _unexpected(error)


def _run(args: list[str]) -> int:
    from typer.exceptions import Abort, Exit, TyperException

    from showtell.cli.app import named

    try:
        result = _command(named(args)).main(args=args, prog_name="showtell", standalone_mode=False)
    except Exit as stop:
        result = stop.exit_code
    except Abort:
        raise KeyboardInterrupt from None
    except TyperException as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "showtell"
        message = error.format_message().rstrip(".").replace("Value error, ", "")
        return _fail(f"{message} (see '{where} --help')", 2)
    if result == 130:
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


@functools.cache
def _command(name: str | None) -> Any:
    """A command and its options, made out of the function's annotations once a process; for None the list of all commands."""
    from typer.main import get_command

    from showtell.cli.app import application

    return get_command(application(name))


def _fail(message: str, code: int) -> int:
    from showtell.cli import console

    print(f"showtell: {console.one_line(message)}", file=sys.stderr)  # noqa: T201
    return code


def _unexpected(error: Exception) -> int:
    if os.environ.get(DEBUG):
        raise error
    if type(error).__name__ == "OutOfMemoryError":
        return _fail(
            "the device has not enough memory; try --sequential, --dtype float16, --offload model or a smaller --batch-size",
            1,
        )
    return _fail(f"unexpected {type(error).__name__}: {error} (set {DEBUG}=1 to see where)", 1)


def _prepare_terminal() -> None:
    """Keep other libraries' logs and bars off the terminal (a variable that the user has set wins), and print whatever can be."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # or it tells of every retry without a network
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a letter is no reason to stop
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
