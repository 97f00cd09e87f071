"""`showtell app`: what can be wrong with a start is said before anything is served."""

from __future__ import annotations

import socket
import warnings

import pytest

pytest.importorskip("gradio")


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """A start sets these for Gradio, and shows no warnings from there on."""
    for name in (
        "GRADIO_TEMP_DIR",
        "GRADIO_ANALYTICS_ENABLED",
        "GRADIO_ANALYTICS_MAX_EVENTS",
        "HF_HUB_DISABLE_TELEMETRY",
    ):
        monkeypatch.setenv(name, "as it was")
    with warnings.catch_warnings():
        yield


@pytest.fixture
def refused(cli, folder, monkeypatch):
    """``refused(culprit, *options)``: it ends with one line, and leaves nothing behind."""
    (folder / "temp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder / "temp"))

    def refuse(culprit: str, *options: str) -> None:
        cli("app", "--no-browser", "--library", "library", *options).refused(culprit)
        assert not list((folder / "temp").iterdir()) and not (folder / "library").exists()

    return refuse


def test_a_port_that_is_taken(refused):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused(f"--port {port}: cannot be served there", "--port", port)


@pytest.mark.parametrize("port", ["-1", "65536", "x", "80.5"])
def test_a_port_that_is_none(refused, port):
    refused("--port", "--port", port)


@pytest.mark.parametrize("host", ["999.1.1.1", "192.0.2.1"])
def test_a_host_that_is_not_this_machine(refused, host):
    refused(f"--host {host}", "--host", host, "--auth", "anna:a long secret")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_an_open_host_without_accounts(refused, host):
    refused("give --auth user:password", "--host", host)


def test_a_public_link_without_accounts(refused):
    refused("--share opens the studio to everybody", "--share")


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ("anna:short", "the password is too short"), ("anna", "is not user:password"), (":a long secret", "a user is named"),
        ("an na:a long secret", "a user is named"), ("@nothing.txt", "the file after @ cannot be read"),
        ("", "is not user:password"),
    ],
)  # fmt: skip
def test_accounts_that_are_none(refused, auth, said):
    refused(said, "--auth", auth)


def test_one_user_twice(refused):
    refused("that user has an account already", "--auth", "anna:a long secret", "--auth", "anna:another secret")


@pytest.mark.parametrize("option", ["--model", "--base"])
@pytest.mark.parametrize("model", ["no/such-model", "nothing", "house.png"])
def test_a_model_that_there_is_not(refused, option, model):
    refused(model, option, model)


def test_two_models_of_one_kind(refused):
    refused("give one model of each kind", "--model", "starter", "--base", "starter")
    refused("give one model of each kind", "--model", "starter-base", "--base", "starter-base")


@pytest.mark.parametrize("name", ["seconds", "pixels", "upload", "steps", "waiting"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "x"])
def test_limits_that_are_none(refused, name, value):
    refused(name if value in "x nan" else "", f"--most-{name}", value)
