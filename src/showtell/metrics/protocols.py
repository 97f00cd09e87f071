"""The protocols by name, and :func:`load`, which turns one into a meter. ``docs/metrics.md`` shows them as tables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import ModelError, UsageError
from .protocol import Measure, Meter, Protocol

_CLIP_INPUT = (
    "8-bit RGB; shorter side scaled (bicubic, antialiased) to the size of the model's image processor, centre crop, its mean and "
    "deviation; features not normalised before they are subtracted"
)
_UNIT_INPUT = _CLIP_INPUT.replace("not normalised", "made unit length")
_DINO_INPUT = "8-bit RGB, prepared by the model's image processor; the class token after the last layer's normalisation"
_DINO_256 = (
    "8-bit RGB; shorter side scaled (bicubic, antialiased) to 256 pixels, centre crop of 224, the model's mean and deviation; "
    "the class token after the last layer's normalisation"
)
_LPIPS_INPUT = "the picture's own size, RGB scaled to [-1, 1], then LPIPS's shift and scale"
_KEYS_INPUT = (
    "8-bit RGB, scaled (bicubic, antialiased) to 224 x 224, the model's mean and deviation; the last layer's keys"
)
_LAYERS_INPUT = (
    "scaled (bicubic, antialiased) to the model's size, its mean and deviation; activations after each layer"
)
_INSIDE_INPUT = f"the result with black outside the mask; {_CLIP_INPUT}"

_STARTER = "starter-clip"
_LARGE = "openai/clip-vit-large-patch14"
_BASE = "openai/clip-vit-base-patch32"
_COSINE = "[-1, 1]"

#: What kind of model each function takes; the others take none.
KINDS = {
    "clip_image": "clip", "clip_directional": "clip", "clip_text": "clip", "clip_score": "clip", "clip_visual": "clip",
    "perceptual_distance": "clip", "frechet_distance": "clip", "class_frechet_distance": "clip",
    "dino_image": "dino", "structure_distance": "dino", "lpips": "lpips", "pick_score": "pick",
}  # fmt: skip
#: Figures of a whole set: each is made of the same features of results and of true pictures.
OF_SETS = ("frechet_distance", "class_frechet_distance")
#: LPIPS has no weights that could be fetched by name: the user gives the file.
_NO_FILE = "a safetensors file of the user's"


def _clip_i(model: str, *, against: Any = "the input", name: str = "clip_image", label: str = "CLIP-I") -> Measure:
    return Measure(
        name=name, function="clip_image", label=label, model=model, input=_CLIP_INPUT, range=_COSINE, against=against
    )  # fmt: skip


def _clip_d(model: str, *, unit: bool = False) -> Measure:
    return Measure(
        name="clip_directional", function="clip_directional", label="CLIP-D", model=model, range=_COSINE,
        input=_UNIT_INPUT if unit else _CLIP_INPUT, options=(("unit", 1),) if unit else (),
    )  # fmt: skip


def _clip_t(model: str) -> Measure:
    return Measure(
        name="clip_text", function="clip_text", label="CLIP-T", model=model, input=_CLIP_INPUT, range=_COSINE
    )


def _visual(model: str) -> Measure:
    return Measure(
        name="clip_visual", function="clip_visual", label="visual CLIP", model=model, input=_CLIP_INPUT, range=_COSINE
    )  # fmt: skip


def _pixels(
    function: str, *, against: Any, where: Any = "everywhere", name: str = "", label: str = "", **more: Any
) -> Measure:
    ranges = {"psnr": "0 dB to infinite", "ssim": "[-1, 1]"}
    return Measure(
        name=name or function, function=function, label=label or function.upper(), where=where, against=against,
        range=ranges.get(function, "[0, 1]"), better="higher" if function in ranges else "lower", **more,
    )  # fmt: skip


def _lpips(network: str, *, where: Any = "everywhere", name: str = "lpips") -> Measure:
    return Measure(
        name=name, function="lpips", label="LPIPS", model=_NO_FILE, input=_LPIPS_INPUT, where=where, against="the input",
        range="0 and more", better="lower", options=(("network", network),),
    )  # fmt: skip


def _frechet(model: str, *, name: str = "class_frechet_distance", label: str = "class Fréchet") -> Measure:
    return Measure(
        name=name, function=name, label=label, model=model, input=_CLIP_INPUT, range="0 and more", reduction="set",
        better="lower", against="the true picture",
    )  # fmt: skip


def _on_truth(function: str, label: str, *, range: str = "[0, 1]", **more: Any) -> Measure:
    return Measure(name=function, function=function, label=label, range=range, **more)


_OUTSIDE = "outside the mask"

_ALL = (
    Protocol(
        name="starter",
        note="What drawn scenes allow: success against the truth, and similarities in starter-clip. Fréchet distances are over "
        "starter-clip features of the results and of the true pictures, class by class of the rows' groups: not FID, and biased "
        "upwards with few pictures.",
        measures=(
            _on_truth("edit_success", "right"),
            _on_truth("edit_inside", "right inside"),
            _on_truth("edit_parts", "edits right"),
            _on_truth(
                "edit_error", "error inside", range="0 and more", reduction="median", better="lower", where="inside the mask",
            ),
            _on_truth("outside_psnr", "PSNR outside", range="0 dB to infinite", reduction="median", where=_OUTSIDE),
            _clip_i(_STARTER),
            _clip_d(_STARTER),
            _clip_t(_STARTER),
            _visual(_STARTER),
            _pixels("psnr", against="the true picture", name="psnr_truth", label="PSNR to the truth", reduction="median"),
            _pixels("ssim", against="the true picture", name="ssim_truth", label="SSIM to the truth"),
            _pixels("l1", against="the true picture", name="l1_truth", label="L1 to the truth"),
            Measure(
                name="perceptual_distance", function="perceptual_distance", label="perceptual", model=_STARTER,
                input=_LAYERS_INPUT, against="the input", range="[0, 4]", better="lower",
            ),
            _frechet(_STARTER),
            _frechet(_STARTER, name="frechet_distance", label="Fréchet"),
        ),
    ),
    Protocol(
        name="pie-bench",
        note="PIE-Bench's seven columns (Ju et al. 2023). Unlike its published code, masked values are means over the pixels "
        "that count and not over zeroed pixels, DINO's pictures are scaled to [0, 1] before they are normalised, and a mask that "
        "leaves nothing gives no value instead of NaN; so figures differ from those that it printed.",
        measures=(
            Measure(
                name="structure_distance", function="structure_distance", label="structure distance",
                model="facebook/dino-vitb8", input=_KEYS_INPUT, against="the input", range="[0, 4]", better="lower",
                options=(("side", 224), ("layer", -1)),
            ),
            _pixels("psnr", against="the input", where=_OUTSIDE, name="psnr_outside", label="PSNR outside"),
            _lpips("squeeze", where=_OUTSIDE, name="lpips_outside"),
            _pixels("mse", against="the input", where=_OUTSIDE, name="mse_outside", label="MSE outside"),
            _pixels("ssim", against="the input", where=_OUTSIDE, name="ssim_outside", label="SSIM outside"),
            Measure(
                name="clip_whole", function="clip_score", label="CLIP whole", model=_LARGE, input=_CLIP_INPUT, range="[0, 100]",
            ),
            Measure(
                name="clip_edited", function="clip_score", label="CLIP edited", model=_LARGE, input=_INSIDE_INPUT,
                where="inside the mask", range="[0, 100]",
            ),
        ),
    ),
    Protocol(
        name="magicbrush",
        note="MagicBrush's columns (Zhang et al. 2023), against the true result. L2 is the mean squared error. CLIP-T is against "
        "each row's target caption: the data set's page says whether that is the global or the local description.",
        measures=(
            _pixels("l1", against="the true picture"),
            _pixels("l2", against="the true picture"),
            _clip_i(_BASE, against="the true picture"),
            Measure(
                name="dino_image", function="dino_image", label="DINO", model="facebook/dino-vits16", input=_DINO_256,
                range=_COSINE, against="the true picture", options=(("resize", 256), ("crop", 224)),
            ),
            _clip_t(_BASE),
        ),
    ),
    Protocol(
        name="ip2p",
        note="InstructPix2Pix's two columns. Its published code fed pictures in [-1, 1] to a model of [0, 1]; here they are in "
        "[0, 1]. As there, CLIP-D is of features of unit length; the other protocols' is of features as they are.",
        measures=(_clip_i(_LARGE), _clip_d(_LARGE, unit=True)),
    ),
    Protocol(
        name="foi",
        note="FoI's Table 1. The paper names neither the CLIP nor the size of its DINOv2: ViT-L/14 and base are our reading. "
        "PickScore is each picture's own score for the target caption; shares between systems are their softmax, picture by "
        "picture.",
        measures=(
            _clip_i(_LARGE),
            Measure(
                name="dino_image", function="dino_image", label="DINO-I", model="facebook/dinov2-base", input=_DINO_INPUT,
                range=_COSINE, against="the input",
            ),
            _clip_d(_LARGE),
            Measure(
                name="pick_score", function="pick_score", label="PickScore", model="yuvalkirstain/PickScore_v1",
                input=_CLIP_INPUT, range="[-100, 100], most near 20: a cosine times e^logit_scale",
            ),
        ),
    ),
    Protocol(
        name="visii",
        note="VISII's three similarities.",
        measures=(_clip_i(_LARGE), _clip_d(_LARGE), _visual(_LARGE)),
    ),
    Protocol(
        name="pti",
        note="PTI's ImageNet figures: LPIPS to the input (the paper names no network: AlexNet is our reading), and in place of "
        "CSFID, which is over Inception features, the class-conditional Fréchet distance over CLIP features of results and of "
        "the target class's own pictures. PSNR is of the reconstruction table; SSIM is ours.",
        measures=(
            _lpips("alex"),
            _frechet(_LARGE, label="class Fréchet (CLIP)"),
            _pixels("psnr", against="the input"),
            _pixels("ssim", against="the input"),
        ),
    ),
    Protocol(
        name="reconstruction",
        note="PTI's Tables 1 to 3: the PSNR of a reconstruction to its input, the mean over pictures. SSIM and the mean squared "
        "error are ours.",
        measures=tuple(
            _pixels(name, against="the input", name=f"{name}_input", label=f"{name.upper()} to the input")
            for name in ("psnr", "ssim", "mse")
        ),
    ),
    Protocol(
        name="pixels",
        note="No model: differences of pixels to the true picture, and to the input. A PSNR of equal pictures is infinite, so "
        "its median is given.",
        measures=tuple(
            _pixels(
                name, against=against, name=f"{name}_{short}", label=f"{name.upper()} to the {short}",
                reduction="median" if name == "psnr" else "mean",
            )
            for against, short in (("the true picture", "truth"), ("the input", "input"))
            for name in ("l1", "l2", "mse", "psnr", "ssim")
        ),
    ),
)  # fmt: skip

#: Name -> protocol, with the models of the published figures.
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def choose(name: str, *, models: Mapping[str, str | os.PathLike[str]] | None = None) -> Protocol:
    """The protocol of a name, with a user's models in the place of its own; nothing is loaded.

    ``models`` has any of ``clip``, ``dino``, ``lpips`` and ``pick``, each a folder, a hub id, or for ``lpips`` a safetensors
    file. The names go into the protocol, so another model is another digest. Raises ``UsageError`` for a name or a kind that is
    not known or not needed.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"protocol {name!r} is not known: choose one of {', '.join(PROTOCOLS)}")
    protocol, given = PROTOCOLS[name], {kind: os.fspath(model) for kind, model in (models or {}).items()}
    needed = list(dict.fromkeys(KINDS[m.function] for m in protocol.measures if m.model))
    for kind in given:
        if kind not in needed:
            takes = f"it takes {', '.join(needed)}" if needed else "it takes none"
            raise UsageError(f"the protocol {name!r} has no use for a model {kind!r}: {takes}")
    measures = (replace(m, model=given.get(KINDS[m.function], m.model)) if m.model else m for m in protocol.measures)
    return replace(protocol, measures=tuple(measures))


def load(name: str, *, models: Mapping[str, str | os.PathLike[str]] | None = None, device: str = "cpu") -> Meter:
    """A protocol with its models, on ``device`` (``auto`` or a torch device); ``models`` as :func:`choose` takes them.

    Raises ``UsageError`` as :func:`choose` does, and ``ModelError``, one line with the mend, for a model that cannot be loaded;
    no other one is ever taken in its place.
    """
    from .meter import ProtocolMeter

    protocol = choose(name, models=models)
    loaded: dict[tuple[Any, ...], Any] = {}
    columns: dict[str, Any] = {}
    for measure in protocol.measures:
        kind = KINDS.get(measure.function, "")
        key = (kind, measure.model, _choices(measure, kind))
        if kind and key not in loaded:
            loaded[key] = _load(protocol, measure, kind, device)
        columns[measure.name] = loaded[key] if kind else None
    return ProtocolMeter(protocol, columns)


def _choices(measure: Measure, kind: str) -> tuple[tuple[str, Any], ...]:
    """The options that are about loading."""
    about = {"dino": ("resize", "crop"), "lpips": ("network",)}.get(kind, ())
    return tuple(option for option in measure.options if option[0] in about)


def _load(protocol: Protocol, measure: Measure, kind: str, device: str) -> Any:
    from . import clip_pictures, dino, learned_distance, pick

    options: dict[str, Any] = dict(_choices(measure, kind))
    given = "a safetensors file" if kind == "lpips" else "a folder or a hub id"
    mend = f"give models={{{kind!r}: ...}} (--weights {kind}=...), {given}; docs/metrics.md says where from"
    if measure.model == _NO_FILE:
        raise ModelError(
            f"the protocol {protocol.name!r} needs LPIPS weights ({options['network']}) for {measure.name}: {mend}"
        )
    loaders = {
        "clip": clip_pictures.load_clip,
        "dino": dino.load_dino,
        "lpips": learned_distance.load_lpips,
        "pick": pick.load_pick_score,
    }
    try:
        return loaders[kind](measure.model, device=device, **options)
    except ModelError as error:
        raise ModelError(f"{measure.name} of the protocol {protocol.name!r}: {error}: {mend}") from error
