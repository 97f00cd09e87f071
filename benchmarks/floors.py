"""What the machine allows: counted operations and bytes of the UNet, measured ceilings, and the share of them that is reached.

python benchmarks/floors.py [-o benchmarks/results/floors.json]
python benchmarks/floors.py --device cuda --full-size [-o benchmarks/results/floors-cuda.json]

Counted, on shapes alone, for the starter and for Stable Diffusion 1.5 at 512 pixels: the multiply-adds of a forward pass on one
row, and the bytes that its layers read and write if none keeps anything for the next (weights, inputs, outputs). Measured: the
best of some multiplications of large matrices, of some convolutions and of some copies. Then a step of an edit (three rows)
and a step of learning (VISII; its backward pass is counted as it runs): the least time that the ceilings leave for their
operations and bytes, as a share of the time that they take. Above the share of the operations lies what is not a matrix.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import common
import foi_speed
import full_size
import visii_speed

ROWS = 3
"""Of an edit's step with both scales."""


@contextlib.contextmanager
def counting() -> Iterator[Any]:
    """Counts operations, two of them a multiply-add; attention as two multiplications, whatever kernel would run it."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
        yield counted


def forward(unet: Any, rows: int = 1) -> dict[str, float]:
    """Multiply-adds and bytes of a forward pass; the network is put on the meta device."""
    import torch

    unet = unet.to("meta")
    side, width = unet.config.sample_size, unet.config.cross_attention_dim
    size = torch.finfo(unet.dtype).bits // 8
    moved = 0

    def hook(module: Any, inputs: Any, output: Any) -> None:
        nonlocal moved
        tensors = [each for each in (*inputs, output, *module.parameters()) if isinstance(each, torch.Tensor)]
        moved += sum(each.numel() for each in tensors) * size

    hooks = [each.register_forward_hook(hook) for each in unet.modules() if not list(each.children())]
    with torch.no_grad(), counting() as counted:
        unet(
            torch.empty(rows, unet.config.in_channels, side, side, dtype=unet.dtype, device="meta"),
            torch.empty(rows, device="meta"),
            torch.empty(rows, 77, width, dtype=unet.dtype, device="meta"),
        )
    for each in hooks:
        each.remove()
    weights = sum(p.numel() for p in unet.parameters())
    return {
        "parameters": weights,
        "multiply_adds": counted.get_total_flops() // 2,
        "weight_bytes": weights * size,
        "moved_bytes": moved,
    }


def best(run: Callable[[], Any], now: Callable[[], float], repeats: int) -> float:
    """The least seconds of a run, after one that warms up."""
    run()
    found = math.inf
    for _ in range(repeats):
        start = now()
        run()
        found = min(found, now() - start)
    return found


def ceilings(device: str, dtype: Any, now: Callable[[], float], *, quick: bool) -> dict[str, float]:
    """Operations a second of multiplications and convolutions, bytes a second of copies."""
    import torch

    large = device == "cuda"
    n, repeats = (8192, 30) if large else (256, 2) if quick else (2048, 7)
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    channels, side, rows = (320, 64, 16) if large else (64, 32, 1) if quick else (320, 64, 1)
    x = torch.randn(rows, channels, side, side, device=device, dtype=dtype)
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype)
    source = torch.empty((2**30 if large else 2**22 if quick else 2**27) // 4, device=device).zero_()
    target = torch.empty_like(source)
    with torch.no_grad():
        return {
            "matmul": 2 * n**3 / best(lambda: a @ b, now, repeats),
            "convolution": 2 * 9 * channels**2 * side**2 * rows / best(lambda: layer(x), now, repeats),
            "copy": 2 * source.numel() * 4 / best(lambda: target.copy_(source), now, repeats),
        }


def measured(args: Any) -> dict[str, dict[str, float]]:
    """The ceilings by threads and number format."""
    import torch

    if args.device == "cuda":
        now = common.clock("cuda")
        return {
            name: ceilings("cuda", getattr(torch, name), now, quick=args.quick)
            for name in ("float32", "float16", "bfloat16")
        }
    found = {"float32, one thread": ceilings("cpu", torch.float32, time.process_time, quick=args.quick)}
    torch.set_num_threads(os.cpu_count() or 1)
    found[f"float32, {os.cpu_count()} threads"] = ceilings("cpu", torch.float32, time.perf_counter, quick=args.quick)
    torch.set_num_threads(1)
    return found


def edit_step(editor: Any, args: Any) -> dict[str, float]:
    """Operations, bytes and seconds of a step of an edit."""
    now = common.clock(args.device)
    picture = full_size.pictures(editor, 1)
    times = [
        foi_speed.timed(editor, picture, foi_speed.TOLD[:1], now, 3 if args.quick else 10, method="ip2p")[0]
        for _ in range(args.repeats + 1)
    ]
    rows = forward(shape_of(editor), ROWS)
    return {
        "operations": 2 * rows["multiply_adds"],
        "bytes": rows["moved_bytes"],
        "seconds": common.spread(times[1:])["median"],
    }


def shape_of(editor: Any) -> Any:
    """The editor's UNet again, without its weights."""
    import torch

    with torch.device("meta"):
        return type(editor.pipe.unet).from_config(editor.pipe.unet.config).to(editor.pipe.unet.dtype)


def visii_step(editor: Any, args: Any) -> dict[str, float]:
    """Operations and seconds of a step of learning."""
    now, times, state = common.clock(args.device), [], {"start": 0.0}
    for part in (editor.pipe.unet, editor.pipe.vae, editor.pipe.text_encoder):
        part.requires_grad_(False)

    def observe(done: int, *_: Any) -> None:
        if done > 1:
            times.append(now() - state["start"])
        state["start"] = now()

    visii_speed.ours(editor, args.repeats + 1, observe)
    totals: list[int] = []
    with counting() as counted:  # what lies between two steps' ends is one step
        visii_speed.ours(editor, 2, lambda *_: totals.append(counted.get_total_flops()))
    return {"operations": totals[1] - totals[0], "seconds": common.spread(times)["median"]}


def shares(step: dict[str, float], ceiling: dict[str, float]) -> dict[str, Any]:
    """The least time for the operations and for the bytes, and each as a share of the time taken."""
    least = {"operations": step["operations"] / ceiling["matmul"]}
    if "bytes" in step:
        least["bytes"] = step["bytes"] / ceiling["copy"]
    return {
        **step,
        "operations_a_second": step["operations"] / step["seconds"],
        "share": {name: round(seconds / step["seconds"], 3) for name, seconds in least.items()},
    }


def main(argv: list[str] | None = None) -> None:
    args = common.ready(common.options(__doc__), argv)
    import torch

    with torch.device("meta"):
        full = full_size.unet("instruct")
    editor = full_size.editor(args)
    counted = {
        "Stable Diffusion 1.5, instruct, 512 pixels": forward(
            full.to(torch.float16 if args.full_size else torch.float32)
        )
    }
    if not args.full_size:
        counted["starter"] = forward(shape_of(editor))
    found = measured(args)
    ceiling = found[args.dtype if args.device == "cuda" else "float32, one thread"]
    steps = {"edit": edit_step(editor, args), "VISII": visii_step(editor, args)}
    told = {name: shares(step, ceiling) for name, step in steps.items()}
    for name, each in {**counted, **found, **told}.items():
        print(name, {key: f"{value:.4g}" if isinstance(value, float | int) else value for key, value in each.items()})
    common.record(
        "floors",
        args,
        model=editor.model_id,
        dtype=args.dtype,
        counted=counted,
        ceilings=found,
        steps=told,
        rows_a_step=ROWS,
    )


if __name__ == "__main__":
    main()
