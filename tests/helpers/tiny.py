"""Tiny random Stable Diffusion pipelines: every shape is right, every weight is noise, a step takes milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import torch

WIDTH = 16
SAMPLE = 8  # latents a side; with the autoencoder's factor of 4, pictures of 32 pixels
WORDS = ["make", "the", "circle", "red", "add", "a", "blue", "star", "to", "house", "tree", "green", "sepia"]


def tokenizer():
    """A CLIP tokenizer that knows single characters and a few words."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: i for i, piece in enumerate(alphabet + [letter + "</w>" for letter in alphabet])}
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces[:2] = [pieces[0] + pieces[1]]
            vocab.setdefault(pieces[0], len(vocab))
    merges = list(dict.fromkeys(merges))
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocab[special] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def clip(vocab_size: int, *, bos: int, eos: int):
    """A CLIP with both towers."""
    from transformers import CLIPConfig, CLIPModel

    side = {"hidden_size": WIDTH, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    text = {
        **side, "vocab_size": vocab_size, "max_position_embeddings": 77, "projection_dim": 8,
        "bos_token_id": bos, "eos_token_id": eos, "pad_token_id": eos,
    }  # fmt: skip
    vision = {**side, "image_size": 32, "patch_size": 8, "projection_dim": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()


def vae():
    """An autoencoder with four latent channels and a factor of 4."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=32,
        scaling_factor=0.5,
        force_upcast=False,
    ).eval()


def unet(channels: int):
    """A UNet with cross-attention at both of its levels."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SAMPLE,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=WIDTH,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()


def scheduler(**changes):
    """Stable Diffusion's noise schedule."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, **changes,
    )  # fmt: skip


def build_starters(root: Path, *, prediction_type: str = "v_prediction") -> Path:
    """Random starters, in the layout of the package's own folder."""
    torch.manual_seed(0)
    words = tokenizer()
    words.save_pretrained(root / "tokenizer")
    both = clip(len(words), bos=words.bos_token_id, eos=words.eos_token_id)
    both.save_pretrained(root / "clip")
    processor = {
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": 32},
        "do_center_crop": True, "crop_size": {"height": 32, "width": 32}, "do_rescale": True, "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_convert_rgb": True,
    }  # fmt: skip
    (root / "clip" / "preprocessor_config.json").write_text(json.dumps(processor))
    vae().save_pretrained(root / "vae")
    unet(4).save_pretrained(root / "unet-base")
    unet(8).save_pretrained(root / "unet-instruct")
    scheduler(prediction_type=prediction_type).save_pretrained(root / "scheduler")
    tuned = {
        "ip2p": {"guidance_scale": 3.0, "image_guidance_scale": 1.5, "num_inference_steps": 4},
        "foi": {"num_inference_steps": 4},
    }
    (root / "cards").mkdir()
    _adapters(root / "unet-fast")
    few = {"guidance_scale": 1.0, "image_guidance_scale": 1.0, "num_inference_steps": 4, "scheduler": "lcm"}
    defaults = {
        "starter": tuned,
        "starter-clip": {"filter": {"image": -1, "direction": -1, "caption": -1}},
        "starter-fast": {"ip2p": few},
    }
    for name in ("starter", "starter-base", "starter-clip", "starter-fast"):
        card = {"name": name, "defaults": defaults.get(name, {})}
        (root / "cards" / f"{name}.json").write_text(json.dumps(card))
    return root


def _adapters(folder: Path) -> None:
    """Random adapters of the random instruct network."""
    from diffusers import StableDiffusionInstructPix2PixPipeline

    from showtell.training.instruct import lora
    from showtell.training.instruct.settings import Lora

    net = unet(8)
    lora.attach(net, Lora(rank=1), 0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        state = {name: 0.1 * torch.randn_like(p) for name, p in net.named_parameters() if p.requires_grad}
    StableDiffusionInstructPix2PixPipeline.save_lora_weights(folder, unet_lora_layers=lora.layers(net, state))


def controlnet(unet):
    """A ControlNet of a UNet's encoder; its closing convolutions, zero when new, are random, so that it matters."""
    from diffusers import ControlNetModel

    # Two of its convolutions halve: the autoencoder's factor of 4.
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16)).eval()
    with torch.no_grad():
        for layer in (*net.controlnet_down_blocks, net.controlnet_mid_block):
            layer.weight.normal_(std=0.3)
        for weight in net.controlnet_cond_embedding.parameters():  # the picture's way in, loud enough to be seen
            weight.normal_(std=0.3)
    return net


def pipeline(kind: str, *, prediction_type: str = "epsilon"):
    """A stock pipeline of a kind, as ``models.kind`` names them; the same weights every time."""
    import diffusers

    classes = {
        "instruct": (diffusers.StableDiffusionInstructPix2PixPipeline, 8),
        "base": (diffusers.StableDiffusionPipeline, 4),
        "inpaint": (diffusers.StableDiffusionInpaintPipeline, 9),
        "control": (diffusers.StableDiffusionControlNetPipeline, 4),
    }
    cls, channels = classes[kind]
    state = torch.get_rng_state()
    torch.manual_seed(0)
    words = tokenizer()
    parts = {
        "tokenizer": words,
        "text_encoder": clip(len(words), bos=words.bos_token_id, eos=words.eos_token_id).text_model,
        "vae": vae(),
        "unet": unet(channels),
        "scheduler": scheduler(prediction_type=prediction_type),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    if kind == "control":
        parts["controlnet"] = controlnet(parts["unet"])
    torch.set_rng_state(state)
    pipe = cls(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe
