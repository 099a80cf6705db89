"""lock: what a run was made with, written beside it: versions, plugins, git state, data, machine, command."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import calmkit
from calmkit import registry
from calmkit.recipe.schema import Recipe
from calmkit.training.checkpoints import write_text
from calmkit.training.run import Run


def write_lock(
    run: Run,
    recipe: Recipe,
    data_fingerprint: str,
    warnings: Sequence[str] = (),
    runs: Mapping[str, str] | None = None,
) -> None:
    """Write `lock.yaml`: seed, data and what is to be said of it, what `surroundings` says, what stage 2 is
    built on and what of it is frozen, command; and, by the key that names it, the SHA-256 of the weights of
    every run that it begins with, where there is one.
    """
    here = surroundings()
    tables = ("versions", "plugins")
    lines = [
        f"seed: {recipe.seed}",
        f"data: {json.dumps(data_fingerprint)}",  # quoted: hexadecimal digits may look like a number
        f"warnings: {json.dumps(list(warnings))}",
        *(f"{name}: {json.dumps(value)}" for name, value in here.items() if name not in tables),
        *_built_on(recipe),
    ]
    lines += [f"runs: {json.dumps(dict(runs))}"] if runs else []
    for name in tables:
        lines += [f"{name}:" + ("" if here[name] else " {}")]
        lines += [f"  {key}: {json.dumps(value)}" for key, value in here[name].items()]
    lines += ["command:", *(f"  - {json.dumps(word)}" for word in [Path(sys.argv[0]).name, *sys.argv[1:]])]
    write_text(run.folder / "lock.yaml", "\n".join(lines) + "\n")


def surroundings() -> dict[str, Any]:
    """What a run made here and now is made with, by the keys of `lock.yaml`.

    Returns:
        `git` of the current folder, `code` of calmkit's own, `python`, `system`, `hardware`, `threads`, and
        by name `versions` of what calmkit requires and `plugins`, the installed ones.
    """
    return {
        "git": git_state(),
        "code": code_state(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
        "versions": {name: _version(name) for name in _packages()},
        "plugins": installed_plugins(),
    }


def _built_on(recipe: Recipe) -> Iterator[str]:
    """Which parts stage 2 took from another run and which did not learn, where that is said."""
    stage = recipe.stages.lm
    if stage is not None and stage.init_parts:
        yield f"taken: {json.dumps(list(stage.init_parts))}"
    if stage is not None and stage.freeze:
        yield f"frozen: {json.dumps(list(stage.freeze))}"


def hardware() -> str:
    """The device of this machine in words."""
    if torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator()
        module = torch.get_device_module(device)
        return f"{torch.accelerator.device_count()} x {module.get_device_name()}"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return f"{platform.machine()} CPU"


def installed_plugins() -> Mapping[str, str]:
    """Distribution -> version, of everything that has an entry point for calmkit's parts."""
    entry_points = importlib.metadata.entry_points(group=registry.ENTRY_POINT_GROUP)
    found = {point.dist.name: point.dist.version for point in entry_points if point.dist is not None}
    return dict(sorted(found.items()))


def _packages() -> list[str]:
    """calmkit and what it requires, extras left out."""
    try:
        required = importlib.metadata.requires("calmkit") or []
    except importlib.metadata.PackageNotFoundError:
        required = []
    plain = [line for line in required if "extra ==" not in line]
    return ["calmkit", *sorted({re.split(r"[^A-Za-z0-9_.-]", line)[0] for line in plain})]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def code_state() -> str:
    """The commit of the checkout that calmkit runs from, as `git_state`; `installed` where it is none.

    The version of a package says nothing of a checkout's commit, and the folder of an environment may lie in
    some other repository: the file must be one of those that git keeps there.
    """
    package = Path(calmkit.__file__).parent
    try:
        _git("ls-files", "--error-unmatch", "__init__.py", folder=package)
    except (OSError, subprocess.SubprocessError):
        return "installed"
    return git_state(package)


def git_state(folder: Path | None = None) -> str:
    """The commit of a folder, with `+changes` where the tree is not clean; `none` outside git.

    Args:
        folder: None: the current one.
    """
    try:
        commit = _git("rev-parse", "--short=12", "HEAD", folder=folder)
        changed = _git("status", "--porcelain", "--untracked-files=no", folder=folder)
    except (OSError, subprocess.SubprocessError):
        return "none"
    return commit + ("+changes" if changed else "")


def _git(*words: str, folder: Path | None) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()
