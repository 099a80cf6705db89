"""`calmkit docs`: the pages that come with calmkit, without a network."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from pathlib import Path

import click

import calmkit

CONTENTS = "index"


@click.argument("page", default=CONTENTS)
@click.option("--path", is_flag=True, help="Print the file's path instead, for a browser or an editor.")
def docs(page: str, path: bool) -> None:
    """Read a page of the documentation, such as tour, recipes or extending/head; default: the contents.

    A terminal gets it laid out, a pipe the Markdown as it is written.
    """
    file = find_page(page)
    if path:
        click.echo(str(file))
        return
    text = file.read_text(encoding="utf-8")
    if _is_terminal():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(text))
    else:
        click.echo(text, nl=False)
    if page == CONTENTS:
        names = [name for name in pages() if name != CONTENTS and not name.startswith("decisions/")]
        click.echo(f"\ncalmkit docs PAGE shows one of: {', '.join(names)}, decisions/...")


def pages() -> dict[str, Path]:
    """The pages by name: `tour`, `extending/head`, `decisions/...`."""
    root = _root()
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in sorted(root.rglob("*.md"))}


def find_page(name: str) -> Path:
    """The file of a page, by its name with or without `docs/` and `.md`, as links and errors write it.

    Raises:
        UsageError: There is none; with the near misses.
    """
    found = pages()
    wanted = name.removeprefix("docs/").removesuffix(".md")
    if wanted in found:
        return found[wanted]
    near = get_close_matches(wanted, found, 1) or [n for n in found if n.rpartition("/")[2] == wanted][:1]
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise click.UsageError(f"No page '{name}'.{hint} There are: {', '.join(found)}")


def _root() -> Path:
    package = Path(calmkit.__file__).parent
    inside = package / "docs"
    return inside if inside.is_dir() else package.parent / "docs"  # a wheel, or a checkout


def _is_terminal() -> bool:
    return sys.stdout.isatty()
