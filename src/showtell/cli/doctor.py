"""`showtell doctor`: what is installed, what is broken, and what mends it."""

from __future__ import annotations

from typing import Any

import typer

from showtell.cli import checks, console, options
from showtell.errors import ShowtellError


def register(app: typer.Typer) -> None:
    app.command("doctor", epilog="Example: showtell doctor --device cpu")(doctor)


def doctor(
    seed: options.Seed = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    as_json: options.Json = False,
) -> None:
    """Check the installation: versions, devices, memory, the starters, and one small edit on DEVICE.

    Exits with 1 if something is broken.
    """
    found = checks.run(seed=seed or 0, device=device, dtype=dtype)
    broken = [check for check in found if not check.ok]
    rows = [["ok" if check.ok else "BROKEN", check.name, check.detail] for check in found]
    result: dict[str, Any] = {
        "ok": not broken,
        "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in found],
    }
    console.finish(result, console.table(["", "what", "found"], rows), as_json=as_json)
    if broken:
        raise ShowtellError(f"broken: {', '.join(check.name for check in broken)}; see the list above for the mend")
