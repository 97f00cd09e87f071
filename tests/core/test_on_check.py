"""Looking on at a learning, check by check: what is told, and that the learning does not notice."""

from __future__ import annotations

import pytest
import torch
from PIL import ImageOps

import showtell
from showtell import learned_file, learning
from showtell.errors import Cancelled
from showtell.inversion import progress

QUICK = {
    "steps": 6, "timesteps_per_step": 2, "learning_rate": 0.05, "clip_weight": 0.0, "check_every": 2,
    "check_timesteps": 4, "num_tokens": 3, "seed": 3,
}  # fmt: skip


@pytest.fixture
def pair(picture):
    before = picture()
    return before, ImageOps.invert(before)


def same(a: learning.Learnt, b: learning.Learnt) -> None:
    """Both learnings came to the same bytes, check for check."""
    assert learned_file.to_bytes(a.look) == learned_file.to_bytes(b.look)
    assert a.checks == b.checks and a.notes == b.notes
    assert all(torch.equal(x.embeds, y.embeds) for x, y in zip(a.snapshots, b.snapshots, strict=True))


def test_every_check_is_told_with_the_look_as_it_is_then(editor, pair):
    told, order = [], []

    def on_check(step, loss, look):
        order.append(f"check {step}")
        told.append((step, loss, look))

    found = learning.study(
        editor, [pair], name="night", on_check=on_check, callback=lambda i, n, loss: order.append(f"step {i}"), **QUICK
    )
    assert [(step, loss) for step, loss, _ in told] == found.checks and len(told) == 4
    assert order == [
        "check 0",
        "step 1",
        "check 2",
        "step 2",
        "step 3",
        "check 4",
        "step 4",
        "step 5",
        "check 6",
        "step 6",
    ]
    for (step, loss, look), kept in zip(told, found.snapshots, strict=True):
        assert torch.equal(look.embeds, kept.embeds) and look.span == kept.span and look.ids == kept.ids
        assert look.name == "night" and look.model == kept.model and len(look.thumbnails) == 1 and look.noise is None
        assert (look.how["steps_done"], look.how["kept_step"], look.how["kept_loss"]) == (step, step, loss)
        assert look.how["checks"] == [list(check) for check in found.checks if check[0] <= step]
    assert {**told[-1][2].how, "kept_step": 0, "kept_loss": 0} == {**found.look.how, "kept_step": 0, "kept_loss": 0}


def editing(editor, picture, **options):
    """An ``on_check`` that draws a growing preview, and the previews."""
    drawn = []

    def on_check(step, loss, look):
        drawn.append(editor.edit(picture, look, num_inference_steps=2, **{"seed": 5, **options}).image)

    return on_check, drawn


@pytest.mark.parametrize("options", [{}, {"seed": None}, {"method": "foi"}, {"sequential": True}])
def test_a_preview_changes_no_bit(editor, pair, options):
    plain = learning.study(editor, [pair], record_noise=True, **QUICK)
    on_check, drawn = editing(editor, pair[0], **options)
    same(plain, learning.study(editor, [pair], record_noise=True, on_check=on_check, **QUICK))
    assert len(drawn) == 4
    again = editor.edit(pair[0], plain.snapshots[2], num_inference_steps=2, **{"seed": 5, **options})
    if options.get("seed", 5) is not None:
        assert drawn[2].tobytes() == again.image.tobytes()
        assert drawn[2].tobytes() != drawn[0].tobytes()


def test_a_preview_through_a_controlnet(pair):
    from tests.helpers import tiny

    editor = showtell.Editor(tiny.pipeline("control"))
    plain = learning.study(editor, [pair], **QUICK)
    on_check, drawn = editing(editor, pair[0])
    same(plain, learning.study(editor, [pair], on_check=on_check, **QUICK))
    assert len(drawn) == 4


@pytest.mark.slow
def test_whatever_it_does_to_torch_the_learning_and_the_caller_do_not_notice(editor, pair):
    plain = learning.study(editor, [pair], **QUICK)
    modes = []

    def on_check(step, loss, look):
        modes.append(torch.is_grad_enabled())
        torch.manual_seed(step)
        torch.set_grad_enabled(step % 4 == 0)
        with torch.inference_mode():
            editor.edit(pair[0], look, seed=0, num_inference_steps=1)
        editor.learn([pair], **{**QUICK, "steps": 2, "seed": 0})

    torch.manual_seed(7)
    state = torch.get_rng_state()
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            same(plain, learning.study(editor, [pair], on_check=on_check, **QUICK))
    assert torch.equal(torch.get_rng_state(), state) and not any(modes) and torch.is_grad_enabled()
    assert all(p.requires_grad and p.grad is None for p in editor.pipe.unet.parameters())


def test_weights_that_are_elsewhere_between_the_calls(pair):
    """As with sequential offloading; and a pipeline that moves its networks away after each run."""
    from accelerate import cpu_offload

    from tests.helpers import tiny

    plain = learning.study(showtell.Editor(tiny.pipeline("instruct")), [pair], **QUICK)
    pipe, released = tiny.pipeline("instruct"), []
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        cpu_offload(part, execution_device=torch.device("cpu"))
    pipe.maybe_free_model_hooks = lambda: released.append(1)
    on_check, drawn = editing(showtell.Editor(pipe), pair[0])
    found = learning.study(showtell.Editor(pipe), [pair], on_check=on_check, **QUICK)
    assert found.checks == plain.checks and torch.equal(found.look.embeds, plain.look.embeds)
    assert len(drawn) == 4 and len(released) == 5
    assert all(p.is_meta for p in pipe.unet.parameters())


@pytest.mark.parametrize("at, error", [(0, ZeroDivisionError), (2, Cancelled), (6, KeyboardInterrupt)])
def test_an_error_in_it_ends_the_learning_which_goes_on_later(editor, pair, tmp_path, at, error):
    plain = learning.study(editor, [pair], **QUICK)
    checkpoint, told = tmp_path / "half.safetensors", []

    def stop(step, loss, look):
        told.append(step)
        if step == at:
            raise error

    with pytest.raises(error):
        learning.study(editor, [pair], checkpoint=checkpoint, on_check=stop, **QUICK)
    assert progress.steps_done(checkpoint) == at
    again = learning.study(
        editor, [pair], checkpoint=checkpoint, resume=True, on_check=lambda i, loss, look: told.append(i), **QUICK
    )
    same(plain, again)
    assert told == [0, 2, 4, 6]  # what was told is not told again
    assert progress.steps_done(checkpoint) == 6


def test_the_steps_of_what_is_no_progress(tmp_path, editor, pair):
    broken = tmp_path / "half.safetensors"
    assert progress.steps_done(broken) is None and progress.steps_done(tmp_path) is None
    broken.write_bytes(b"not one")
    assert progress.steps_done(broken) is None
    editor.learn([pair], **QUICK).save(tmp_path / "look.safetensors")
    assert progress.steps_done(tmp_path / "look.safetensors") is None


def test_learn_takes_it_too(editor, pair):
    told = []
    editor.learn([pair], on_check=lambda *check: told.append(check[0]), **QUICK)
    assert told == [0, 2, 4, 6]
