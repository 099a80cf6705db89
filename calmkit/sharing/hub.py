"""hub: exported runs on the Hugging Face hub, fetched and pushed; `huggingface_hub` knows the account.

Source: https://huggingface.co/docs/huggingface_hub/guides/download and .../guides/upload
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from calmkit.sharing.export import PATTERNS
from calmkit.training.errors import RunFailed

ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
OLD = ("model*.safetensors", "model.safetensors.index.json")
"""Files that an earlier push may have left, which would be read beside those of this one."""


def is_id(text: str) -> bool:
    """Whether a text has the form of a hub's id, ORG/NAME."""
    return ID.fullmatch(text) is not None


def fetch(repo: str, revision: str | None = None) -> Path:
    """A model of the hub, from its cache on this machine or the network: plain files and tensors, no others.

    Args:
        repo: ORG/NAME.
        revision: A branch, a name that was given to a commit, or a commit; None: the newest.

    Raises:
        RunFailed: The library is missing, or the model can't be had.
    """
    hub = client()
    try:
        return Path(hub.snapshot_download(repo, revision=revision, allow_patterns=list(PATTERNS)))
    except Exception as error:  # no such model, a gate, no network: kinds of several libraries
        at = f" at revision '{revision}'" if revision else ""
        raise RunFailed(
            f"There is no folder {repo} here, and the hub's model of that name{at} can't be had: "
            f"{_reason(error)}. "
            "Check the id, the revision and the network; log in with `hf auth login` if it is private or "
            "gated."
        ) from error


def push(folder: Path, repo: str, *, private: bool = False, say: Callable[[str], object] = print) -> None:
    """Upload an exported folder to the hub, in one commit; the model is made there if it is not.

    Args:
        folder: Exported.
        repo: ORG/NAME.
        private: Only who may sees it. One that is there and is public is refused, not hidden.
        say: Takes the line that says where it is.

    Raises:
        RunFailed: The library is missing, or the hub refuses.
    """
    api = client().HfApi()
    try:
        where = api.create_repo(repo, private=private or None, repo_type="model", exist_ok=True)
        public = private and not api.model_info(repo).private
        if not public:
            api.upload_folder(
                repo_id=repo,
                folder_path=str(folder),
                repo_type="model",
                commit_message="Export of calmkit",
                allow_patterns=list(PATTERNS),
                delete_patterns=list(OLD),
            )
    except Exception as error:  # no account, no right, no network: kinds of several libraries
        raise RunFailed(
            f"The hub refused {repo}: {_reason(error)}. Check the id and the network, and log in with "
            f"`hf auth login`; `hf upload {repo} {folder}` tries again.",
            folder,
        ) from error
    if public:
        raise RunFailed(
            f"{repo} is there already and is public, so nothing was uploaded with --private; take another "
            "name, or make it private on the hub first.",
            folder,
        )
    say(f"pushed: {where}")


def client() -> ModuleType:
    """`huggingface_hub`.

    Raises:
        RunFailed: It is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise RunFailed(
            "Models of the hub need the package `huggingface_hub`: pip install 'calmkit[hf]'"
        ) from error
    return huggingface_hub


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = " ".join(lines[:2]).rstrip(".")
    return f"{type(error).__name__}: {told}" if told else type(error).__name__
