"""latex: tables for a paper: one that fits a column, and any grid of texts.

A model's score stands with its interval, `$6.20 \\pm 0.85$` over seeds or `$6.20^{+0.30}_{-0.40}$` over data,
whose ends need not be equally far. Each table has a caption and a `\\label`; what is more than a column wide
is a `table*`, which spans both columns where there are two.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from calmkit.report.columns import TableColumn, chosen
from calmkit.report.entries import Entry, leaders, notes_of
from calmkit.report.marks import marked_label
from calmkit.report.reading import Summary, ranked
from calmkit.report.render import Grid, plain
from calmkit.report.table import title

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_",
    "%": r"\%", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "\ufffd": "?", '"': "''",
    "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}",
}  # fmt: skip
"""Brackets too: one that begins a row would be read as the argument of the line break before it."""
COLUMN, PAGE = 50, 76  # letters of a row that fit one of two columns, and a page
BETWEEN = 2  # letters that the room between two columns takes
LONG, BROKEN = 20, 15  # letters of a name that is broken into lines, and of one of these
HEAD = 7  # letters of a head in one line


def latex_table(summary: Summary, names: Sequence[str] | None = None) -> str:
    """The models with the chosen columns, or with their score, difference and rank; the best in bold.

    Raises:
        RunFailed: A column is unknown.
    """
    columns, best = chosen(summary, names), leaders(summary)
    cells = ranked(summary)
    entries = [[column.entry(cell) for column in columns] for cell in cells]
    rows = [
        [
            latex_escaped(marked_label(summary, cell)),
            *(
                _entry(entry, cell["label"] in best and _is_primary(column, summary))
                for entry, column in zip(row, columns, strict=True)
            ),
        ]
        for cell, row in zip(cells, entries, strict=True)
    ]
    notes = [latex_escaped(note).replace("+-", r"$\pm$") for note in notes_of(summary, entries)]
    if best and any(_is_primary(column, summary) for column in columns):
        notes.append(latex_escaped(_bold_rule(summary)))
    caption = " ".join([f"{latex_escaped(title(summary))}.", *notes])
    heads = ["model", *(column.head for column in columns)]
    return _table(caption, label_of(summary["study"]), heads, 1, rows)


def as_latex(grid: Grid, label: str) -> str:
    """A grid of texts."""
    caption = latex_escaped(" ".join([_sentence(grid.title), *grid.notes]))
    rows = [list(map(latex_escaped, row)) for row in grid.rows]
    return _table(caption, label, grid.heads, grid.left, rows)


def label_of(*names: str) -> str:
    r"""What `\ref` calls a table: `tab:heads`, `tab:heads-cost`."""
    words = [re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") for name in names]
    return f"tab:{'-'.join(word or 'table' for word in words)}"


def latex_escaped(text: str) -> str:
    """A text that LaTeX shows as it is."""
    return "".join(LATEX.get(character, character) for character in plain(text))


def _table(caption: str, label: str, heads: Sequence[str], left: int, rows: Sequence[Sequence[str]]) -> str:
    """A table of escaped texts; its heads are not, and long ones stand in two lines."""
    stacked = [list(map(latex_escaped, line)) for line in zip(*map(_stacked, heads), strict=True)]
    above = stacked if any(stacked[0]) else stacked[1:]
    long = [any(len(row[i]) > LONG for row in rows) for i in range(left)]
    widths = [max(map(_letters, column)) for column in zip(*above, *rows, strict=True)]
    widths[:left] = [min(w, BROKEN) if one else w for one, w in zip(long, widths, strict=False)]
    letters = sum(widths) + BETWEEN * len(heads)
    wide = letters > COLUMN
    kind = "table*" if wide else "table"
    size = "scriptsize" if letters > PAGE else "footnotesize" if wide else "small"
    name = rf"p{{{0.2 if wide else 0.3}\linewidth}}"
    form = "".join(name if one else "l" for one in long) + "r" * (len(heads) - left)

    def line(texts: Sequence[str]) -> str:
        return " & ".join(texts) + r" \\"

    def body(row: Sequence[str]) -> str:
        names = [rf"\raggedright {text}" if one else text for one, text in zip(long, row, strict=False)]
        return line([*names, *row[left:]])

    return "\n".join(
        [
            rf"\begin{{{kind}}}",
            rf"\centering\{size}\setlength{{\tabcolsep}}{{4pt}}",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}\smallskip",
            rf"\begin{{tabular}}{{{form}}}",
            *(r"\toprule", *map(line, above), r"\midrule", *map(body, rows), r"\bottomrule"),
            r"\end{tabular}",
            rf"\end{{{kind}}}",
            "",
        ]
    )


def _letters(text: str) -> int:
    """About how many letters wide a text of LaTeX is; of two ends, one above the other, one counts."""
    return len(re.sub(r"_\{[^}]*\}|\\[a-zA-Z]+|[\\{}$^_]", "", text))


def _stacked(head: str) -> tuple[str, str]:
    """A head in two lines where it is long: `draws/s sampled`, `FLOPs/unit`."""
    if len(head) <= HEAD or not (cut := 1 + max(head.rfind(" "), head.find("/"))):
        return "", head
    return head[:cut].strip(), head[cut:]


def _is_primary(column: TableColumn, summary: Summary) -> bool:
    return column.name == summary["primary"]


def _entry(entry: Entry, bold: bool) -> str:
    """In mathematics where it is a number, so that its minus is one."""
    number = re.fullmatch(r"(<=)?([+-]?[\d,]*\.?\d+)", entry.value)
    if number is None:
        return "--" if entry.value == "-" else re.sub(r"(?<=\d)-(?=\d)", "--", latex_escaped(entry.value))
    value = number[2].replace(",", "{,}")
    value = (r"\le " if number[1] else "") + (rf"\mathbf{{{value}}}" if bold else value)
    ends = {
        "": "",
        "seeds": rf" \pm {entry.above}",
        "text": f"^{{+{entry.above}}}_{{-{entry.below}}}",
    }
    return f"${value}{ends[entry.of]}$"


def _bold_rule(summary: Summary) -> str:
    better = "highest" if summary["higher_is_better"] else "lowest"
    if any(cell["rank"] for cell in summary["cells"]):
        return f"Bold: the {better} mean, and every model of which no other is settled to be better."
    return f"Bold: the {better} mean; no difference is settled."


def _sentence(text: str) -> str:
    return text if text.endswith((".", ":")) else f"{text}."
