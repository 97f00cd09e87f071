"""`showtell app`: the studio, in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from showtell.cli import console, options

EPILOG = "Example: showtell app"


def register(app: typer.Typer) -> None:
    app.command("app", epilog=EPILOG)(studio)


def studio(
    model: options.Model = "starter",
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            help="A model of the other kind: with an instruct --model, the text-to-image model that describing needs.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Port to serve at; by default the first free one from 7860 on."),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the browser.")] = False,
    library: Annotated[
        Path | None,
        typer.Option("--library", help="Folder that keeps learned edits; by default the user's data folder."),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to serve at; another than this machine's own needs --auth.")
    ] = "127.0.0.1",
    share: Annotated[
        bool, typer.Option("--share", help="A public link through Gradio's servers; needs --auth.")
    ] = False,
    auth: Annotated[
        list[str] | None,
        typer.Option(
            "--auth",
            metavar="USER:PASSWORD",
            help="An account, or @FILE with one a line; once for each. Each has its own library.",
        ),
    ] = None,
    most_seconds: Annotated[float, typer.Option("--most-seconds", help="How long one request may run.")] = 600.0,
    most_pixels: Annotated[
        int, typer.Option("--most-pixels", help="Largest picture that is taken, in pixels.")
    ] = 16_000_000,
    most_upload: Annotated[int, typer.Option("--most-upload", help="Largest file that is taken, in MiB.")] = 32,
    most_steps: Annotated[int, typer.Option("--most-steps", help="Most denoising steps of one edit.")] = 200,
    most_waiting: Annotated[int, typer.Option("--most-waiting", help="Requests that may wait in line.")] = 32,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Serve the studio on this machine, and open it in the browser.

    It edits by telling, showing and describing, on the starters or on the models named, for everybody who can reach it: by
    default only this machine. Ctrl-C ends it. Results are gone then, unless they were downloaded; learned edits stay.
    """
    from showtell.app import entry, serving
    from showtell.app.limits import Limits

    limits = Limits(
        seconds=most_seconds, pixels=most_pixels, upload_bytes=most_upload * 2**20, steps=most_steps, queue=most_waiting
    )
    settings = serving.Settings(
        model=model, base=base, device=device, dtype=dtype, host=host, port=port, share=share,
        accounts=entry.accounts(auth or []),
        home=library or serving.default_home(), limits=limits,
    )  # fmt: skip
    with serving.served(settings) as address:
        console.finish({"url": address}, f"the studio is at {address} (Ctrl-C ends it)", as_json=as_json)
        if not no_browser:
            import webbrowser

            webbrowser.open(address)
        serving.wait()
    if not as_json:
        console.finish({}, "the studio has ended", as_json=False)
