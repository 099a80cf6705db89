"""lock: what a run was made with, written beside it: versions, git state, data, machine, seed, command."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from calmkit.recipe.schema import Recipe
from calmkit.training.checkpoints import write_text
from calmkit.training.run import Run


def write_lock(run: Run, recipe: Recipe, data_fingerprint: str, warnings: Sequence[str] = ()) -> None:
    """Write `lock.yaml`: versions, git state, data and what is to be said of it, seed, command."""
    versions = {name: _version(name) for name in _packages()}
    lines = [
        f"seed: {recipe.seed}",
        f"data: {json.dumps(data_fingerprint)}",  # quoted: hexadecimal digits may look like a number
        f"warnings: {json.dumps(list(warnings))}",
        f"git: {json.dumps(git_state())}",
        f"python: {sys.version.split()[0]}",
        f"hardware: {json.dumps(hardware())}",
        f"threads: {torch.get_num_threads()}",
        "versions:",
        *(f"  {name}: {version}" for name, version in versions.items()),
        "command:",
        *(f"  - {json.dumps(word)}" for word in [Path(sys.argv[0]).name, *sys.argv[1:]]),
    ]
    write_text(run.folder / "lock.yaml", "\n".join(lines) + "\n")


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


def git_state() -> str:
    """The commit of the current folder, with `+changes` where the tree is not clean; `none` outside git."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "none"
    return commit + ("+changes" if changed else "")
