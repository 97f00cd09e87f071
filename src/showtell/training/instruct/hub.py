"""Pushing a trained editor to the Hugging Face hub: checked before the training, done after it."""

from __future__ import annotations

import os

from showtell.errors import ShowtellError, UsageError


def check(repo: str) -> None:
    """Raise ``UsageError`` before a training unless ``repo`` is a name that can be pushed to, and a token is there.

    Nothing is sent: whether the hub takes the token is only known when it is used.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UsageError(f"save.push_to_hub: {repo!r} is not a repository's name, such as you/watercolours") from error
    if _token() is None:
        raise UsageError("save.push_to_hub: there is no token for the hub: run 'hf auth login', or set HF_TOKEN")
    if _offline():
        raise UsageError("save.push_to_hub: HF_HUB_OFFLINE is set: unset it, or leave save.push_to_hub out")


def push(folder: str | os.PathLike[str], repo: str, *, private: bool = True) -> str:
    """Upload a model's folder, as one commit, to a repository that is made where it is not there; return its address.

    A new repository is ``private``; one that is there stays as it is. Raises ``ShowtellError``, one line that says where the
    model lies and how to push it later.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi(token=_token())
        name = api.create_repo(repo, private=private, exist_ok=True).repo_id
        api.upload_folder(
            repo_id=name,
            folder_path=os.fspath(folder),
            commit_message="A picture editor trained by showtell",
        )
        return f"{api.endpoint}/{name}"
    except Exception as error:  # noqa: BLE001  (the client raises a dozen kinds, also of its transport)
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        text = text.replace(_token() or "\n", "***")  # a client may quote the header that it could not send
        raise ShowtellError(
            f"the model was not pushed to {repo} ({text[:200]}); it lies whole in {folder}: push it later by "
            f"'hf upload {repo} {folder} --private'"
        ) from error


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
