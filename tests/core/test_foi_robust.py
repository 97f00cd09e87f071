"""Focus on Your Instruction around what users do to their pipelines: LoRA, processors, precision, offloading."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch

import showtell
from showtell import focus
from showtell.errors import Cancelled, MethodError
from tests.helpers import tiny

pytestmark = pytest.mark.filterwarnings("ignore::showtell.errors.ShowtellWarning")

TOLD = ["make the [circle] red", "add a [star]"]
OPTIONS = {"method": "foi", "num_inference_steps": 4, "seed": 0, "strength": 1.0, "xi": 1.0}
LEFT = np.arange(32)[None].repeat(32, 0) < 16
REGIONS = {"masks": [LEFT, ~LEFT]}
BOTH_TEXTS = pytest.mark.parametrize("text", ["joined", "apart"])


@pytest.fixture
def unchanged(instruct_pipe):
    """The UNet's processors are afterwards the very objects that they were."""
    before = dict(instruct_pipe.unet.attn_processors)
    yield before
    after = instruct_pipe.unet.attn_processors
    assert list(after) == list(before) and all(after[name] is before[name] for name in before)


@BOTH_TEXTS
def test_processors_are_back_after_an_edit(editor, picture, unchanged, text):
    editor.edit(picture(), TOLD, **OPTIONS, text=text, maps=text)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_processors_are_back_after_a_callback_that_raises(editor, picture, unchanged, at):
    during = []

    def stop(i, n, latents):
        during.append({type(p).__name__ for p in editor.pipe.unet.attn_processors.values()})
        if i == at:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        editor.edit(picture(), TOLD, **OPTIONS, callback=stop)
    assert len(during) == at + 1 and "Processor" in during[0]


def test_processors_are_back_after_a_cancelled_edit(editor, picture, unchanged):
    stop = threading.Event()
    with pytest.raises(Cancelled, match="after step 2 of 4"):
        editor.edit(picture(), TOLD, **OPTIONS, cancel=stop, callback=lambda i, n, x: stop.set() if i == 1 else None)
    editor.edit(picture(), TOLD, **OPTIONS)  # and it goes on


@BOTH_TEXTS
@pytest.mark.parametrize("calls", [0, 1, 3])
def test_processors_are_back_after_a_layer_that_raises(editor, picture, unchanged, text, calls):
    layer = editor.pipe.unet.up_blocks[1].attentions[0].transformer_blocks[0].attn2.to_q
    left = [calls]

    def fail(module, args):
        left[0] -= 1
        if left[0] < 0:
            raise ZeroDivisionError("inside")

    hook = layer.register_forward_pre_hook(fail)
    with pytest.raises(ZeroDivisionError, match="inside"):
        editor.edit(picture(), TOLD, **OPTIONS, text=text, maps=text)
    hook.remove()


def test_processors_of_several_kinds_come_back(instruct_pipe, picture):
    from diffusers.models.attention_processor import AttnProcessor

    unet = instruct_pipe.unet
    name = next(name for name in unet.attn_processors if name.endswith("attn2.processor"))
    unet.set_attn_processor({**unet.attn_processors, name: AttnProcessor()})
    before = dict(unet.attn_processors)
    showtell.Editor(instruct_pipe).edit(picture(), TOLD, **OPTIONS)
    assert all(unet.attn_processors[name] is before[name] for name in before)


def test_a_changed_processor_is_refused(instruct_pipe, picture):
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    unet = instruct_pipe.unet
    name = next(name for name in unet.attn_processors if name.endswith("attn2.processor"))
    changed = IPAdapterAttnProcessor2_0(hidden_size=8, cross_attention_dim=tiny.WIDTH)
    unet.set_attn_processor({**unet.attn_processors, name: changed})
    with pytest.raises(MethodError, match=r"IPAdapterAttnProcessor2_0\): unload that") as error:
        showtell.Editor(instruct_pipe).edit(picture(), TOLD, **OPTIONS)
    assert "\n" not in str(error.value) and unet.attn_processors[name] is changed
    with pytest.raises(MethodError, match="IPAdapter"):
        focus.CrossCondition(unet, (8, 8)).installed().__enter__()


@pytest.mark.parametrize("maps", ["joined", "apart"])
def test_a_network_without_layers_of_that_side_is_refused(instruct_pipe, picture, maps):
    from diffusers import UNet2DConditionModel

    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    torch.manual_seed(0)
    instruct_pipe.unet = UNet2DConditionModel.from_config({**instruct_pipe.unet.config, **blocks}).eval()
    before = dict(instruct_pipe.unet.attn_processors)
    editor = showtell.Editor(instruct_pipe)
    with pytest.raises(MethodError, match="no cross-attention layer of 8x8 was captured") as error:
        editor.edit(picture(), TOLD, **OPTIONS, maps=maps)
    assert "\n" not in str(error.value)
    assert all(instruct_pipe.unet.attn_processors[name] is before[name] for name in before)
    assert editor.edit(picture(), TOLD, **OPTIONS, maps=maps, **REGIONS).keywords == [None, None]  # no map is needed


def with_lora(pipe):
    """A LoRA of rank 2 on every projection of the cross-attention, loud enough to be seen."""
    from peft import LoraConfig

    torch.manual_seed(1)
    pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    for name, weight in pipe.unet.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return pipe


@BOTH_TEXTS
def test_a_lora_acts_in_the_modulated_layers(picture, text, tmp_path):
    def edit(pipe):
        return showtell.Editor(pipe).edit(picture(), TOLD, **OPTIONS, **REGIONS, text=text).latents

    plain = edit(tiny.pipeline("instruct"))
    lora = with_lora(tiny.pipeline("instruct"))
    found = edit(lora)
    assert (found - plain).abs().max() > 1e-2
    fused = copy.deepcopy(lora)
    fused.fuse_lora()
    fused.unload_lora_weights()
    assert not any("lora" in name for name, _ in fused.unet.named_parameters())
    assert torch.allclose(edit(fused), found, atol=1e-4)
    # From a file, as users have them.
    from peft import get_peft_model_state_dict

    lora.save_lora_weights(tmp_path, unet_lora_layers=get_peft_model_state_dict(lora.unet))
    loaded = tiny.pipeline("instruct")
    loaded.load_lora_weights(tmp_path)
    assert (edit(loaded) - plain).abs().max() > 1e-2
    loaded.unload_lora_weights()
    assert torch.allclose(edit(loaded), plain, atol=1e-6)


@BOTH_TEXTS
def test_fused_projections_and_slices_are_plain_attention(picture, text):
    def edit(pipe):
        return showtell.Editor(pipe).edit(picture(), TOLD, **OPTIONS, **REGIONS, text=text).latents

    plain = edit(tiny.pipeline("instruct"))
    for change in ("enable_attention_slicing", "fuse_qkv_projections"):
        pipe = tiny.pipeline("instruct")
        getattr(pipe, change)(*((1,) if "slicing" in change else ()))
        assert torch.allclose(edit(pipe), plain, atol=1e-4)


@BOTH_TEXTS
def test_upcast_attention_as_stable_diffusion_2_has_it(picture, text):
    from diffusers import UNet2DConditionModel

    def edit(pipe, **options):
        return showtell.Editor(pipe).edit(picture(), TOLD, **OPTIONS, **options, text=text, maps=text)

    pipe = tiny.pipeline("instruct")
    plain = edit(pipe)
    config = {key: value for key, value in pipe.unet.config.items() if key != "_use_default_values"}
    upcast = UNet2DConditionModel.from_config({**config, "upcast_attention": True})
    upcast.load_state_dict(pipe.unet.state_dict())
    pipe.unet = upcast.eval()
    assert upcast.down_blocks[0].attentions[0].transformer_blocks[0].attn2.upcast_attention
    assert torch.allclose(edit(pipe).latents, plain.latents, atol=1e-4)
    pipe.unet.to(torch.bfloat16)
    assert edit(pipe, **REGIONS).latents.isfinite().all()


@BOTH_TEXTS
def test_bfloat16_is_near_float32(picture, text):
    def edit(pipe):
        return showtell.Editor(pipe).edit(picture(), TOLD, **OPTIONS, **REGIONS, text=text, guidance_scale=2.0)

    full, half = edit(tiny.pipeline("instruct")), edit(tiny.pipeline("instruct").to(torch.bfloat16))
    assert half.recipe.model.dtype == "bfloat16" and half.latents.dtype == torch.float32
    assert (half.latents - full.latents).abs().mean() < 0.05 * full.latents.std()
    found = showtell.Editor(tiny.pipeline("instruct").to(torch.bfloat16)).edit(picture(), TOLD, **OPTIONS, maps=text)
    assert found.latents.isfinite().all() and all(mask.any() for mask in found.masks)


@BOTH_TEXTS
def test_offloaded_weights_are_brought_where_they_are_needed(picture, text):
    """Every layer's weights lie outside the network between its calls, as with sequential offloading."""
    from accelerate import cpu_offload

    def edit(pipe):
        return showtell.Editor(pipe).edit(picture(), TOLD, **OPTIONS, **REGIONS, text=text).latents

    plain, pipe = edit(tiny.pipeline("instruct")), tiny.pipeline("instruct")
    cpu_offload(pipe.unet, execution_device=torch.device("cpu"))
    assert next(pipe.unet.parameters()).device.type == "meta"
    assert torch.allclose(edit(pipe), plain, atol=1e-6)
