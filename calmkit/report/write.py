"""Everything that a study leaves for people: results.json, tables, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calmkit.report.figures import as_svg
from calmkit.report.fit_table import fit_csv
from calmkit.report.gallery import alone
from calmkit.report.page import write_report
from calmkit.report.reading import done_cells
from calmkit.report.render import as_csv
from calmkit.report.table_rows import cell_rows, trial_rows
from calmkit.report.whole import whole_latex, whole_markdown, whole_text
from calmkit.training.checkpoints import write_json, write_text
from calmkit.training.progress import Say


def write_results(results: dict[str, Any], folder: Path, say: Say) -> None:
    """Write all of it into a folder, and say the table; tables and report from the first trial on."""
    write_json(folder / "results.json", results)
    if not done_cells(results):
        say(f"no trial is done yet; {folder / 'results.json'} says why")
        return
    text = whole_text(results)
    write_text(folder / "table.txt", text)
    write_text(folder / "table.md", whole_markdown(results))
    write_text(folder / "table.tex", whole_latex(results))
    write_text(folder / "table.csv", as_csv(*cell_rows(results)))
    write_text(folder / "trials.csv", as_csv(*trial_rows(results)))
    if results.get("fit"):
        write_text(folder / "fit.csv", fit_csv(results))
        if (drawn := alone("fit", results)) is not None:
            write_text(folder / "fit.svg", as_svg(drawn.figure))
    write_report(results, folder / "report.html")
    say(text)
    say(f"every number: {folder / 'results.json'}")
    say(f"report: {folder / 'report.html'}")
