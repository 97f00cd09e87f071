"""Loading models: the starters that the package carries, hub ids, folders, single files. Never a pickle."""

from .cards import CARD, STARTERS, card_of, starter_card, starters_dir
from .frugal import OFFLOADS
from .names import anywhere, has_public_name, pick_device, pick_dtype
from .networks import load_clip, load_language, load_tensors, load_tokenizer, load_vision
from .pipelines import ADAPTERS, Loaded, load_pipeline
from .quiet import silent
from .starters import export

__all__ = [
    "ADAPTERS", "CARD", "OFFLOADS", "STARTERS", "Loaded", "anywhere", "card_of", "export", "has_public_name", "load_clip",
    "load_language", "load_pipeline", "load_tensors", "load_tokenizer", "load_vision", "pick_device", "pick_dtype", "silent",
    "starter_card", "starters_dir",
]  # fmt: skip
