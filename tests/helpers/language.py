"""Tiny causal language models in folders: one that answers as it should, by a table of which word follows which; one of noise."""

from __future__ import annotations

from pathlib import Path

#: What follows what. A word of the question's end begins; of several words one is drawn.
FOLLOWS = {
    "1": ['{"edits":'],
    "<assistant>": ['{"edits":'],
    '{"edits":': ['[{"instruction":'],
    '[{"instruction":': ['"make'],
    '"make': ["it"],
    "it": ['night",', 'winter",', 'foggy",', "oops"],
    'night",': ['"edited_caption":'],
    'winter",': ['"edited_caption":'],
    'foggy",': ['"edited_caption":'],
    '"edited_caption":': ['"some'],
    '"some': ["other"],
    "other": ['picture"}]}'],
    'picture"}]}': ["<end>"],
    "oops": ["<end>"],
}
TEMPLATE = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}<assistant>"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE


def tokenizer(*, template: str | None = None):
    """Whole words parted by spaces; every other word is the unknown one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<end>", "<unk>", "<user>", "<system>", *FOLLOWS]
    words += [word for following in FOLLOWS.values() for word in following if word not in words]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(words))}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    outer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<pad>", unk_token="<unk>")
    outer.chat_template = template
    return outer


def answering(folder: Path, *, template: str | None = None, positions: int = 2048) -> Path:
    """A model whose next word depends on the last one alone, as ``FOLLOWS`` tells."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    words = tokenizer(template=template)
    network = random(words, positions)
    vocab = words.get_vocab()
    with torch.no_grad():
        network.transformer.wte.weight.copy_(torch.eye(len(vocab)))  # a word is its own axis, all the way to the end
        network.transformer.wpe.weight.zero_()
        for layer in network.transformer.h:
            for part in (layer.attn.c_proj, layer.mlp.c_proj):
                part.weight.zero_()
                part.bias.zero_()
        network.lm_head.weight.zero_()
        for word, following in FOLLOWS.items():
            network.lm_head.weight[[vocab[one] for one in following], vocab[word]] = 10.0
    assert isinstance(network, GPT2LMHeadModel) and isinstance(network.config, GPT2Config)
    return _saved(folder, network, words)


def noisy(folder: Path) -> Path:
    """A model of random weights: its answers are rubbish."""
    words = tokenizer()
    return _saved(folder, random(words, 2048), words)


def random(words, positions: int):
    """A tiny GPT-2 of random weights, whose width is the number of words."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(words), n_embd=len(words), n_layer=1, n_head=1, n_positions=positions, tie_word_embeddings=False,
        bos_token_id=words.eos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def _saved(folder: Path, network, words) -> Path:
    network.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
