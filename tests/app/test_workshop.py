"""The studio's models: which there are, who they serve, and one piece of work at a time."""

from __future__ import annotations

import threading
import time

import pytest

from showtell.app.workshop import BASE, INSTRUCT, Workshop
from showtell.errors import MethodError, ModelError


def test_the_starters_come_in_two_kinds(starters):
    shop = Workshop("starter", device="cpu")
    assert shop.names == {"instruct": "starter", "base": "starter-base"}
    assert shop.methods(INSTRUCT)[:2] == ("ip2p", "foi") and shop.methods(BASE)[0] == "pti"
    assert "grid" not in shop.methods(INSTRUCT)
    assert shop.defaults(INSTRUCT, "ip2p").num_inference_steps
    assert Workshop("starter-base", device="cpu").names == {"base": "starter-base", "instruct": "starter"}


def test_folders_of_weights_serve_as_they_are(tiny_instruct_folder, tiny_base_folder):
    shop = Workshop(str(tiny_instruct_folder), other=str(tiny_base_folder), device="cpu")
    assert shop.has(INSTRUCT) and shop.has(BASE)
    with shop.at_work(INSTRUCT) as editor:
        assert editor.kind == "instruct"
    with shop.at_work(BASE) as editor:
        assert editor.kind == "base"


def test_a_kind_that_is_missing_says_how_to_get_it(tiny_instruct_folder, tiny_base_folder):
    only = Workshop(str(tiny_instruct_folder), device="cpu")
    assert not only.has(BASE) and only.methods(BASE) == ()
    with pytest.raises(ModelError, match="--base"), only.at_work(BASE):
        pass
    with pytest.raises(ModelError, match="--model"), Workshop(str(tiny_base_folder), device="cpu").at_work(INSTRUCT):
        pass
    with pytest.raises(ModelError, match="give one model of each kind"):
        Workshop(str(tiny_instruct_folder), other=str(tiny_instruct_folder), device="cpu")
    with pytest.raises(MethodError, match="choose one of"):
        only.defaults(INSTRUCT, "pti")


def test_one_works_at_a_time_and_a_failure_lets_the_next_in(starters):
    shop, order = Workshop("starter", device="cpu"), []

    def work(number: int) -> None:
        with shop.at_work(INSTRUCT):
            order.append(("in", number))
            time.sleep(0.02)
            order.append(("out", number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    with pytest.raises(RuntimeError), shop.at_work(INSTRUCT):
        [thread.start() for thread in threads]
        raise RuntimeError("broken")
    for thread in threads:
        thread.join()
    assert [word for word, _ in order] == ["in", "out"] * 4
