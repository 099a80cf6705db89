"""whole: all that a study says outside its pictures, in order, as terminal text, Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calmkit.report.block_table import block_grid
from calmkit.report.columns import columns_grid
from calmkit.report.fit_table import fit_grid
from calmkit.report.kind import words_of
from calmkit.report.latent_table import latent_grid
from calmkit.report.latex import as_latex, label_of, latex_escaped, latex_table
from calmkit.report.reading import Summary
from calmkit.report.render import (
    Grid,
    as_markdown,
    as_text,
    markdown_escaped,
    wrapped,
)
from calmkit.report.sampling_table import same_point_grid, sampling_grid
from calmkit.report.standing import reconstruction_lines, standing_grid
from calmkit.report.table import costs_grid, main_grid, scores_grid
from calmkit.report.words import in_words
from calmkit.results.relation import relation_text


@dataclass(frozen=True)
class Lines:
    """A paragraph or a list: a title and sentences."""

    title: str
    lines: Sequence[str]


def sections(summary: Summary) -> list[Grid | Lines]:
    """What is known, in the order in which it is read."""
    found: list[Grid | Lines | None] = [
        main_grid(summary),
        Lines("In words", in_words(summary)),
        scores_grid(summary),
        costs_grid(summary),
        standing_grid(summary),
        Lines("Autoencoder", reconstruction_lines(summary)),
        latent_grid(summary),
        fit_grid(summary),
        block_grid(summary),
        Lines("Relation", relation_text(summary["relation"], words_of(summary).relate))
        if summary.get("relation")
        else None,
        sampling_grid(summary),
        same_point_grid(summary),
        Lines("Provenance", [provenance(summary)]),
    ]
    return [one for one in found if one is not None and (isinstance(one, Grid) or one.lines)]


def provenance(summary: Summary) -> str:
    """What the numbers came from, in one line."""
    minutes, seconds = divmod(round(summary["train_seconds"]), 60)
    seeds = ", ".join(map(str, summary["seeds"]))
    return (
        f"Training took {minutes} min {seconds:02d} s on {summary['hardware']}; commit {summary['commit']}; "
        f"seed{'s' if len(summary['seeds']) > 1 else ''} {seeds}"
    )


def whole_text(summary: Summary, columns: Sequence[str] | None = None) -> str:
    """For a terminal; with columns, one table of these alone."""
    if columns is not None:
        return as_text(columns_grid(summary, columns))
    parts = []
    for one in sections(summary):
        if isinstance(one, Grid):
            parts.append(as_text(one))
        else:
            parts.append("\n".join([f"{one.title}:", *(wrapped(line, "- ") for line in one.lines)]) + "\n")
    return "\n".join(parts)


def whole_markdown(summary: Summary, columns: Sequence[str] | None = None) -> str:
    """For a page on GitHub or a notebook; with columns, one table of these alone."""
    if columns is not None:
        return as_markdown(columns_grid(summary, columns))
    parts = [f"# {markdown_escaped(summary['study'])}\n"]
    if summary["description"]:
        parts.append(f"{markdown_escaped(summary['description'])}\n")
    for one in sections(summary):
        if isinstance(one, Grid):
            parts.append(as_markdown(one))
        else:
            lines = [f"- {markdown_escaped(line)}" for line in one.lines]
            parts.append("\n".join([f"**{markdown_escaped(one.title)}**", "", *lines]) + "\n")
    return "\n".join(parts)


def whole_latex(summary: Summary, columns: Sequence[str] | None = None) -> str:
    r"""For a paper: the tables, to be read by `\input`; sentences become comments of the source. The first
    fits a column; with columns, one table of these alone.
    """
    parts = ["% \\usepackage{booktabs} in the preamble\n", latex_table(summary, columns)]
    for one in sections(summary)[1:] if columns is None else []:
        if isinstance(one, Grid):
            parts.append(as_latex(one, label_of(summary["study"], one.title.partition(":")[0])))
        else:
            parts.append("\n".join(f"% {latex_escaped(line)}" for line in one.lines) + "\n")
    return "\n".join(parts)
