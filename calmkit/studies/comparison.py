"""Comparison: results in the hands of a person: a table, figures, a page; it prints and shows itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calmkit.report.columns import chosen_rows
from calmkit.report.figures import as_svg
from calmkit.report.gallery import FIGURES, LATENT_FIGURES, alone, draw
from calmkit.report.page import table_html, write_report
from calmkit.report.reading import Summary
from calmkit.report.render import as_csv
from calmkit.report.table_rows import cell_rows, trial_rows
from calmkit.report.whole import whole_latex, whole_markdown, whole_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Comparison:
    """What `compare` found. It prints as a table, and shows itself in a notebook.

    Attributes:
        results: Everything, as plain values; see docs/studies.md.
    """

    def __init__(self, found: Summary) -> None:
        self.results = found

    @property
    def table(self) -> Any:
        """A row per model with unrounded numbers: a pandas DataFrame, or a list of dicts without pandas."""
        heads, rows = cell_rows(self.results)
        records = [dict(zip(heads, row, strict=True)) for row in rows]
        try:
            import pandas
        except ModuleNotFoundError:
            return records
        return pandas.DataFrame.from_records(records, columns=heads)

    def text(self, columns: Sequence[str] | None = None) -> str:
        """For a terminal; with columns, one table of these alone.

        Raises:
            RunFailed: No column has such a name.
        """
        return whole_text(self.results, columns)

    def markdown(self, columns: Sequence[str] | None = None) -> str:
        """For a page; columns as for `text`."""
        return whole_markdown(self.results, columns)

    def latex(self, columns: Sequence[str] | None = None) -> str:
        """For a paper; needs booktabs. The first table fits a column; columns as for `text`."""
        return whole_latex(self.results, columns)

    def csv(self, columns: Sequence[str] | None = None, per_trial: bool = False) -> str:
        """A row per model with unrounded numbers, of all columns or of these; or a row per run."""
        if columns is not None:
            return as_csv(*chosen_rows(self.results, columns))
        return as_csv(*(trial_rows if per_trial else cell_rows)(self.results))

    def plot(self, kind: str = "scores") -> Figure:
        """A figure of the report.

        Args:
            kind: `scores`, `curves`, `curves_by_time`, `loss`, `cost`, `speed`, `collision`, `blocks`,
                `relation`, `latent_scales`, `latent_kl`, `latent_robustness`, `latent_projection`.

        Raises:
            ValueError: For another kind, or one that these runs hold nothing for.
        """
        kinds = [*FIGURES, *LATENT_FIGURES]
        if kind not in kinds:
            raise ValueError(f"no figure is called {kind!r}; there are {', '.join(kinds)}")
        drawn = alone(kind, self.results)
        if drawn is None:
            known = ", ".join(one for one in kinds if draw(one, self.results) is not None)
            raise ValueError(f"these runs hold nothing for the figure {kind!r}; they do for {known}")
        return drawn.figure

    def report(self, path: Path | str) -> Path:
        """Write the page of all of it, one self-contained HTML file."""
        path = Path(path)
        write_report(self.results, path)
        return path

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        drawn = draw("scores", self.results)
        figure = ""
        if drawn is not None:
            svg = as_svg(drawn.figure, "scores", drawn.title)
            figure = f'<div style="max-width: 34rem">{svg}</div>'
        return table_html(self.results) + figure
