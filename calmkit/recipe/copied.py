"""copied: a shipped recipe as a file of one's own: its text as it is, or a short child of it."""

from __future__ import annotations

from pathlib import Path

from calmkit.recipe.errors import Mark, refuse, suggest
from calmkit.recipe.shipped import shipped_files


def copied(name: str) -> str:
    """The text of a shipped recipe or study, comments and all. What it extends it extends by name, so a copy
    means the same wherever it lies.

    Raises:
        RecipeError: CK100 nothing of that name comes with calmkit.
    """
    files = shipped_files()
    if name not in files:
        raise refuse("CK100", f"no shipped recipe '{name}'", help=suggest(name, files, "recipes"))
    return files[name].read_text(encoding="utf-8")


def child_of(name: str, file: Path) -> str:
    """The text of a recipe that says nothing but what it extends.

    Args:
        name: Of a shipped recipe.
        file: Where it is going to lie.

    Raises:
        RecipeError: CK100 no recipe of that name comes with calmkit, or it is a study, which nothing extends.
    """
    copied(name)
    if name.startswith("studies/"):
        help = "without --extends the study itself is copied"
        raise refuse("CK100", f"'{name}' is a study, which no recipe extends", Mark(""), help=help)
    return (
        f"# calmkit train {file.as_posix()}\n"
        "#\n"
        f"# {name}, and what is stated below laid over it; calmkit show {name} prints all that can be.\n"
        f"# Result: not measured\n"
        f"extends: {name}\n"
    )
