"""shipped: the recipes and studies that come with calmkit, by name. Quick: nothing is read."""

from __future__ import annotations

from pathlib import Path

import calmkit

SUFFIXES = (".yaml", ".yml")


def shipped_files(folder: str = "") -> dict[str, Path]:
    """The YAML files that come with calmkit, by name: recipes, and studies under `studies/`."""
    root = shipped_root()
    files = sorted((root / folder).rglob("*.yaml"))
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in files}


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with calmkit, by name."""
    return {name: file for name, file in shipped_files().items() if not name.startswith("studies/")}


def shipped_root() -> Path:
    """The folder that they lie in."""
    package = Path(calmkit.__file__).parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"  # a wheel, or a checkout


def is_shipped(path: Path) -> bool:
    """Whether a file is one of them."""
    return shipped_root().resolve() in path.resolve().parents
