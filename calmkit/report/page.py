"""report.html: one self-contained page of a study. No network, opens from disk, light and dark, readable on
a phone.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from calmkit.recipe.load import shipped_files
from calmkit.report.block_table import block_grid
from calmkit.report.figure_latents import visible
from calmkit.report.figures import as_svg
from calmkit.report.fit_table import fit_grid
from calmkit.report.gallery import FIGURES, LATENT_FIGURES, Draw, alone, draw, picture
from calmkit.report.kind import words_of
from calmkit.report.latent_table import distinct_latents, latent_grid
from calmkit.report.measures import measure
from calmkit.report.reading import Cell, Summary, done, ranked, score
from calmkit.report.recipes import cell_recipes
from calmkit.report.render import plain
from calmkit.report.sampling_table import same_point_grid, sampling_grid
from calmkit.report.standing import reconstruction_lines, standing_grid
from calmkit.report.table import costs_grid, main_grid, scores_grid
from calmkit.report.whole import provenance
from calmkit.report.words import in_words
from calmkit.results.relation import relation_text
from calmkit.training.checkpoints import write_text

SHOWN_LINES = 3  # between units, per autoencoder


@dataclass(frozen=True)
class Picture:
    """A figure as it stands in the page."""

    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Sample:
    """What a model made: whose it is, one line of what is known of it, and a text or the address of a
    picture, which holds all of it.
    """

    label: str
    told: str
    text: str
    source: str = ""


def write_report(summary: Summary, path: Path) -> None:
    """Write the page of a study's results."""
    write_text(path, report_page(summary))


def write_picture(summary: Summary, path: Path, kind: str = "") -> None:
    """A figure as one SVG file, for a README.

    Args:
        summary: A study's results.
        path: Of the file.
        kind: Of the report's figures, such as `relation`; empty: scores and curves side by side.

    Raises:
        ValueError: The results hold nothing for that figure.
    """
    drawn = alone(kind, summary) if kind else None
    if kind and drawn is None:
        raise ValueError(f"these results hold nothing for the figure {kind!r}")
    write_text(path, picture(summary) if drawn is None else as_svg(drawn.figure))


def table_html(summary: Summary) -> str:
    """The table alone, for a notebook."""
    macros: Any = _environment().get_template("grid.html.j2").module
    return str(macros.table(main_grid(summary)))


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("calmkit.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def report_page(summary: Summary) -> str:
    """The page as text."""
    kind = words_of(summary)
    grids = [scores_grid(summary), costs_grid(summary), standing_grid(summary)]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            summary=summary,
            kind=kind,
            pictured=not kind.sample_media.startswith("text/"),
            words=in_words(summary),
            main=main_grid(summary),
            grids=[grid for grid in grids if grid is not None],
            reconstruction=reconstruction_lines(summary),
            figures=_pictures(summary, FIGURES),
            relation=relation_text(summary["relation"], words_of(summary).relate)
            if summary.get("relation")
            else [],
            asked=[
                grid
                for grid in (
                    fit_grid(summary),
                    block_grid(summary),
                    sampling_grid(summary),
                    same_point_grid(summary),
                )
                if grid is not None
            ],
            latents=latent_grid(summary),
            latent_figures=_pictures(summary, LATENT_FIGURES),
            lines=_lines_between(summary),
            samples=[sample for cell in ranked(summary) for sample in _samples(summary, cell)],
            recipes=cell_recipes(summary),
            provenance=provenance(summary),
            commands=commands(summary),
            visible=visible,
        )
    )


def commands(summary: Summary) -> list[str]:
    """How to get all of it again."""
    if "command" in summary:
        return [summary["command"]]
    name = summary["study"]
    shipped = f"studies/{name}" in shipped_files("studies") and summary["path"] == f"{name}.yaml"
    study = name if shipped else summary["path"]
    found = [f"calmkit study run {shlex.join([study, *summary.get('overrides', [])])}"]
    commit = summary["commit"]
    if commit != "none" and "," not in commit:
        found.insert(0, f"git checkout {commit.removesuffix('+changes')}")
    return found


def _pictures(summary: Summary, kinds: Mapping[str, Draw]) -> list[Picture]:
    found = []
    for kind in kinds:
        drawn = draw(kind, summary)
        if drawn is not None:
            svg = as_svg(drawn.figure, kind, f"{drawn.title}. {drawn.caption}")
            found.append(Picture(drawn.title, drawn.caption, jinja2.utils.markupsafe.Markup(svg)))
    return found


def _lines_between(summary: Summary) -> list[tuple[str, list[list[str]]]]:
    """Label of each autoencoder, and what is read along a few straight lines between two units."""
    return [
        (one.label, [line["path"] for line in one.found["interpolation"][:SHOWN_LINES]])
        for one in distinct_latents(summary)
        if one.found.get("interpolation")
    ]


def _samples(summary: Summary, cell: Cell) -> Iterable[Sample]:
    own, kind = score(cell, summary["primary"]), words_of(summary)
    for trial in done(cell)[:1]:
        shown = measure(summary["primary"], summary)
        told = f"seed {trial['seed']}"
        told += "" if kind.size is None else f", {kind.size.head}={trial[kind.size.name]}"
        told += "" if own is None else f", {shown.told(trial['evaluation'].get(summary['primary']))}"
        if not kind.sample_media.startswith("text/"):
            source = f"data:{kind.sample_media};base64,{trial['sample']}"
            yield Sample(cell["label"], told, "", source)
            continue
        text = "".join(c if c in "\n\t" or plain(c) == c or c == " " else "\ufffd" for c in trial["sample"])
        yield Sample(cell["label"], told, text.strip("\n"))
