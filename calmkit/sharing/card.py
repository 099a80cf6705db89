"""card: the README.md of an exported run: what it is, how it is loaded, how good it is, how it was made.

Source: Mitchell et al., Model Cards for Model Reporting, 2019. https://arxiv.org/abs/1810.03993
The head that hubs read: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from calmkit.interfaces import KindWords
from calmkit.recipe.dump import as_text

TAGS = ("calmkit", "continuous-autoregressive")
BESIDE = ("low", "high", "se")
"""What stands beside a number, under its name and this word: its 95 % interval, its standard error."""


@final
@dataclass(frozen=True)
class Told:
    """What a card tells.

    Attributes:
        target: What the model is loaded by: an id of a hub, or the folder's name.
        local: The folder's name.
        recipe: Resolved, as plain values.
        words: Of its kind of data.
        kind: Its name.
        scores: Of its evaluation; empty where it has none.
        lock: What it was made with; empty where that is not known.
        parts: Part -> plugin, of parts that calmkit does not bring.
        licence: As hubs call it; None where it is not known.
    """

    target: str
    local: str
    recipe: Mapping[str, Any]
    words: KindWords
    kind: str
    scores: Mapping[str, Any] = field(default_factory=dict)
    lock: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None


def model_card(told: Told) -> str:
    """The card as Markdown, behind a head of YAML.

    Names and texts of recipes, data and plugins stay what they are: none becomes a heading, HTML or a key.
    """
    head: dict[str, Any] = {"library_name": "calmkit", "tags": [*TAGS, one_line(told.kind)]}
    head |= {"license": one_line(told.licence)} if told.licence else {}
    blocks = [f"---\n{as_text(head)}---", f"# {plain(told.recipe['name'])}"]
    if told.recipe.get("description"):
        blocks.append(plain(told.recipe["description"]))
    blocks += [*_loading(told), *_results(told), *_data(told)]
    blocks += ["## Recipe", fenced(as_text(told.recipe), "yaml"), *_made_with(told)]
    return "\n\n".join(blocks) + "\n"


def _loading(told: Told) -> Iterator[str]:
    yield "## Load"
    if told.parts:
        plugins = sorted(set(told.parts.values()))
        yield f"It has parts of plugins, which must be installed: {', '.join(map(plain, plugins))}."
    called, local = shlex.quote(told.target), shlex.quote(told.local)
    target = json.dumps(told.target)
    yield fenced(f"import calmkit\n\nmodel = calmkit.load({target})  # in eval mode, on the CPU\n", "python")
    lead = "" if told.target == told.local else f"hf download {called} --local-dir {local}\n"
    yield fenced(f"{lead}calmkit generate {local}\ncalmkit eval {local}\n", "bash")
    yield "Its files are numbers, words and tensors; nothing in them is executed."


def _results(told: Told) -> Iterator[str]:
    yield "## Results"
    rows = list(score_rows(told.scores, told.words.primary))
    if not rows:
        yield "Not measured."
        return
    protocol = told.scores.get("protocol")
    how = f", protocol {plain(protocol['name'])}" if isinstance(protocol, dict) and "name" in protocol else ""
    yield (
        f"On held-out {plain(told.words.data)}{how}. Low and high are the ends of 95 % intervals, se is a "
        "standard error."
    )
    lines = ["| measure | value | low | high | se |", "|---|---|---|---|---|"]
    yield "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def score_rows(scores: Mapping[str, Any], primary: str) -> Iterator[list[str]]:
    """Every number with what is beside it, the primary one first."""
    numbers = {
        name: value
        for name, value in scores.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    beside = {f"{name}_{word}" for name in numbers for word in BESIDE}

    def cell(name: str) -> str:
        return f"{numbers[name]:.6g}" if name in numbers else ""

    for name in sorted(numbers.keys() - beside, key=lambda name: (name != primary, [*numbers].index(name))):
        yield [plain(name), cell(name), *(cell(f"{name}_{word}") for word in BESIDE)]


def _data(told: Told) -> Iterator[str]:
    yield "## Trained on"
    corpus, fingerprint = told.recipe["data"]["name"], told.lock.get("data")
    known = f"fingerprint {plain(str(fingerprint))}" if fingerprint else "of no known fingerprint"
    yield f"Corpus {plain(corpus)}, kind of data {plain(told.kind)}, {known}."
    warnings = told.lock.get("warnings")
    if isinstance(warnings, list) and warnings:
        yield "\n".join(f"- {plain(str(line))}" for line in warnings)


def _made_with(told: Told) -> Iterator[str]:
    shown = {key: told.lock[key] for key in ("python", "system", "hardware", "code") if key in told.lock}
    for table in ("versions", "plugins"):
        found = told.lock.get(table)
        shown |= found if isinstance(found, dict) else {}
    if shown:
        yield "## Made with"
        rows = [f"| {plain(str(key))} | {plain(str(value))} |" for key, value in shown.items()]
        yield "\n".join(["| what | version |", "|---|---|", *rows])


def plain(text: str) -> str:
    """A text as Markdown shows it letter by letter, in one line: no mark-up, no HTML, no cell of a table."""
    line = html.escape(one_line(text), quote=False)
    line = re.sub(r"([\\`*{}\[\]#|~!$]|\b_|_\b)", r"\\\1", line)
    line = re.sub(r"^(\d+)(?=[.)]( |$))", r"\1\\", line)  # no list
    return re.sub(r"^(?=[-+] |[-=]+$)", r"\\", line)  # no list, no rule


def one_line(text: str) -> str:
    """Without line breaks and characters that steer a terminal."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text).split())


def fenced(text: str, language: str) -> str:
    """A block of code that ends nowhere within the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}{fence}"
