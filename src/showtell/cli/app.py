"""The typer application: which commands there are."""

from __future__ import annotations

from typing import Annotated

import typer

from showtell.cli import (
    attend,
    batch,
    bench,
    caption,
    dataset,
    demo,
    doctor,
    edit,
    evaluate,
    invert,
    learn,
    models,
    replay,
    scenes,
    studio,
    study,
    token,
    train,
)

app = typer.Typer(
    help="Edit pictures by showing or by telling.",
    epilog='Example: showtell edit house.png "make the house blue" -o blue.png',
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from showtell import __version__

        typer.echo(f"showtell {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Edit pictures by showing or by telling."""


edit.register(app)
batch.register(app)
studio.register(app)
invert.register(app)
learn.register(app)
token.register(app)
caption.register(app)
attend.register(app)
replay.register(app)
scenes.register(app)
dataset.register(app)
train.register(app)
bench.register(app)
study.register(app)
evaluate.register(app)
models.register(app)
doctor.register(app)
demo.register(app)
