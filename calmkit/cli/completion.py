"""What the shell offers behind the verbs: recipes, parts, run folders, codes. Asked on every press of Tab, so
nothing here reads more than the names of files, but for parts, which only the registry knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
"""What click asks: the command so far, the argument, and the word that is begun."""


def offered(names: Callable[[str], Iterable[str]]) -> Complete:
    """Names that begin as the word does; where none does the shell completes files itself."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del context, parameter
        found = [
            CompletionItem(name) for name in dict.fromkeys(names(incomplete)) if name.startswith(incomplete)
        ]
        return found or [CompletionItem(incomplete, type="file")]

    return complete


def recipes(incomplete: str = "") -> list[str]:
    """Names of shipped recipes, and the .yaml files where the word points."""
    from calmkit.recipe.shipped import SUFFIXES, shipped_recipes

    folder = incomplete.rpartition("/")[0]
    files = (file for file in Path(folder or ".").glob("*") if file.suffix in SUFFIXES)
    return [*shipped_recipes(), *sorted(f"{folder}/{file.name}" if folder else file.name for file in files)]


def shipped(incomplete: str = "") -> list[str]:
    """Names of all that comes with calmkit, studies too."""
    del incomplete
    from calmkit.recipe.shipped import shipped_files

    return [*shipped_files()]


def studies(incomplete: str = "") -> list[str]:
    """Names of shipped studies, as `calmkit study` takes them."""
    del incomplete
    from calmkit.recipe.shipped import shipped_files

    return [name.removeprefix("studies/") for name in shipped_files("studies")]


def runs(incomplete: str = "") -> list[str]:
    """Run folders under `runs`, without a look into them."""
    del incomplete
    return sorted(file.parent.as_posix() for file in Path("runs").rglob("resolved.yaml"))


def recipes_and_runs(incomplete: str = "") -> list[str]:
    """Recipes, and run folders."""
    return [*recipes(incomplete), *runs()]


def shown(incomplete: str = "") -> list[str]:
    """What `calmkit show` takes: recipes, run folders, kinds of parts, parts by kind and name, or by name."""
    quick = recipes_and_runs(incomplete)
    if "/" in incomplete and any(name.startswith(incomplete) for name in quick):
        return quick
    from calmkit.registry import KINDS, make_manager

    manager = make_manager()
    parts = [(kind, name) for kind in KINDS for name in manager.parts[kind]]
    return [*quick, *KINDS, *map("/".join, parts), *sorted({name for _, name in parts})]


def kinds(incomplete: str = "") -> Iterable[str]:
    """What `calmkit ls` lists."""
    del incomplete
    from calmkit.cli.ls import listed

    return listed()


def complete_codes(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Codes of errors, with what they mean."""
    del context, parameter
    from calmkit.recipe.codes import CODES

    begun = [code for code in CODES if code.startswith(incomplete.upper())]
    return [CompletionItem(code, help=CODES[code].meaning) for code in begun]


def complete_overrides(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Sections that name a part, and behind `head=` the parts that it may name.

    Bash takes `head=fl` for three words, other shells for one.
    """
    from calmkit.recipe.schema import SECTIONS

    key, equals, value = incomplete.partition("=")
    lead = f"{key}="
    if not equals:
        before = [*(context.params.get(parameter.name or "") or ())]
        joined = bool(before) and before[-1] == "=" and len(before) > 1
        key, value, lead = (before[-2], incomplete, "") if joined else ("", incomplete, "")
        if not joined and before and before[-1] in SECTIONS:  # click leaves out a word that is `=` alone
            key = before[-1]
    kind = SECTIONS.get(key.removesuffix(".name"))
    if kind is None:
        return [CompletionItem(f"{section}=") for section in SECTIONS if section.startswith(incomplete)]
    from calmkit.registry import make_manager

    names = sorted(make_manager().parts[kind])
    return [CompletionItem(f"{lead}{name}") for name in names if name.startswith(value)]
