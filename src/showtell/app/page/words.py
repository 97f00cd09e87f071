"""The words of the page: plain ones on it, and the field's terms beside them, as tooltips."""

from __future__ import annotations

#: Methods as people choose them.
METHODS = {
    "ip2p": "All at once",
    "foi": "Each in its own place",
    "instructdiffusion": "InstructDiffusion's rule",
    "pti": "Tuned words (keeps the most)",
    "p2p": "Word by word (needs what it shows)",
    "ddim-edit": "Inverted, then redrawn",
    "diffedit": "Only where the words differ",
    "sdedit": "Noised, then redrawn",
    "imagic": "Tuned network (slow)",
}
#: The element's id -> its tooltip.
TIPS = {
    "tell-method": "method: ip2p is InstructPix2Pix; foi is Focus on Your Instruction, which finds a mask for each instruction "
    "from its keyword's cross-attention",
    "tell-steps": "num_inference_steps: how many times the network is asked; more is slower and seldom better",
    "tell-words-scale": "guidance_scale, s_T in InstructPix2Pix's equation 3",
    "tell-picture-scale": "image_guidance_scale, s_I in InstructPix2Pix's equation 3",
    "tell-negative": "negative_prompt: takes the place of the empty text in the branch without instruction",
    "tell-fit": "fit: how the picture is brought to the model's size; the result has the picture's own size",
    "tell-resolution": "resolution: the longer side, in pixels, at which the model sees the picture",
    "tell-scheduler": "scheduler: the sampler of the diffusion's differential equation, a diffusers scheduler",
    "tell-seed": "seed: of the generator that draws the start noise and every ancestral step's; the same seed and settings "
    "give the same picture",
    "tell-lock": "keep the seed for the next edit; otherwise each edit draws a new one",
    "show-steps": "steps of AdamW on the instruction's embedding (VISII, Algorithm 1)",
    "show-rate": "learning_rate of AdamW",
    "show-init": "init: words whose embedding the learning starts from (VISII, section 3.2)",
    "show-strength": "look * s: empty + s (learned - empty), in the text encoder's space",
    "describe-eta": "eta in PTI's equation 9: eta of the words + (1 - eta) of the tuned embedding",
    "describe-method": "method: pti is Prompt Tuning Inversion; p2p is Prompt-to-Prompt after null-text inversion",
    "describe-source": "source prompt: what the picture shows now",
    "describe-start": "start: what the tuned embedding c_t is at first; the paper starts from the target's, and such an "
    "inversion serves that target only",
    "describe-scale": "guidance_scale, omega in PTI's equation 3",
    "describe-ratio": "encoding_ratio: how far towards noise the picture is inverted; PTI's 0.8",
    "inside-strength": "strength: how much noise is on the picture when the network is asked once",
}


def method(name: str) -> str:
    """A method's name for people, with the field's behind it."""
    return f"{METHODS[name]} · {name}" if name in METHODS else name
