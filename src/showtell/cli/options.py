"""Options that several commands share, with the same names and help everywhere."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Literal

import typer

from showtell.errors import TextError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines, and nothing else.")]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, max=2**63 - 1, help="Random seed; drawn and printed if not given.")
]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"], typer.Option("--device", help="Where to compute; auto takes the fastest.")
]
Dtype = Annotated[
    Literal["float32", "float16", "bfloat16"] | None,
    typer.Option("--dtype", help="Number format of the networks; by default the model's own choice."),
]
Offload = Annotated[
    Literal["none", "model", "sequential"],
    typer.Option(
        "--offload", help="Keep networks, or every layer (much slower), in main memory while they are not used."
    ),
]
VaeTiling = Annotated[
    bool,
    typer.Option("--vae-tiling", help="Large pictures go through the autoencoder in tiles, which less memory holds."),
]
AttentionSlicing = Annotated[
    bool, typer.Option("--attention-slicing", help="Attention in parts, for devices without an efficient kernel.")
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the network first: minutes, which pay over many pictures.")
]
GradientCheckpointing = Annotated[
    bool,
    typer.Option(
        "--gradient-checkpointing", help="While something is learned, compute twice instead of keeping: less memory."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
Model = Annotated[
    str, typer.Option("--model", help="A starter, a hub id, a diffusers folder, or a single .safetensors file.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The picture to write.")]
Fit = Annotated[
    Literal["fit", "crop", "pad"], typer.Option("--fit", help="How to bring a picture to the model's size.")
]
Resolution = Annotated[
    int | None,
    typer.Option(
        "--resolution", help="Longer side, in pixels, at which the model sees the picture; by default its own."
    ),
]
Steps = Annotated[int | None, typer.Option("--steps", help="Denoising steps, 1 to 1000.")]
GuidanceScale = Annotated[float | None, typer.Option("--guidance-scale", help="How closely to follow the words.")]
ImageGuidanceScale = Annotated[
    float | None, typer.Option("--image-guidance-scale", help="How closely to follow the picture.")
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help="euler-ancestral, ddim, dpm++, ..., or a diffusers class.")
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Work on Ray: local starts one here, auto or an address joins one."),
]
Actors = Annotated[int, typer.Option("--actors", min=1, help="Workers on Ray.")]
Gpus = Annotated[float, typer.Option("--gpus", min=0, help="GPUs of each worker on Ray.")]
MinImage = Annotated[float | None, typer.Option("--min-image", help="Least likeness of before and after.")]
MinDirection = Annotated[
    float | None,
    typer.Option("--min-direction", help="Least agreement of the pictures' change with the captions'."),
]
MinCaption = Annotated[
    float | None, typer.Option("--min-caption", help="Least likeness of each picture to its caption.")
]


def draw_seed(seed: int | None) -> int:
    """The seed, or a new one that is short enough to be typed again."""
    return secrets.randbelow(2**31) if seed is None else seed


def check_text(text: str) -> None:
    """Bytes that the terminal's encoding could not read arrive as lone surrogates, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TextError(f"{text!a} is not text in this terminal's encoding; set it to UTF-8") from error
