"""Processors go in for a while and always come out."""

from __future__ import annotations

import pytest

from showtell.attention import installed, is_cross


def test_processors_are_restored(instruct_pipe):
    unet = instruct_pipe.unet
    before = dict(unet.attn_processors)
    made = {}

    def make(name, present):
        made[name] = type(present)()
        return made[name]

    with installed(unet, make) as new:
        present = unet.attn_processors
        assert set(new) == {name for name in before if is_cross(name)} and new
        assert all(present[name] is (made[name] if is_cross(name) else before[name]) for name in before)
    assert all(unet.attn_processors[name] is processor for name, processor in before.items())


def test_processors_are_restored_after_an_error(instruct_pipe):
    unet = instruct_pipe.unet
    before = dict(unet.attn_processors)

    class Broken:
        def __call__(self, *args, **kwargs):
            raise ZeroDivisionError

    import torch

    with (
        pytest.raises(ZeroDivisionError),
        installed(unet, lambda name, present: Broken(), where=lambda name: "down_blocks.0" in name),
    ):
        unet(torch.zeros(1, 8, 8, 8), torch.tensor(1), encoder_hidden_states=torch.zeros(1, 77, 16))
    assert all(unet.attn_processors[name] is processor for name, processor in before.items())
