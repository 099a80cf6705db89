"""kind: the words that results are told in: their own, or those of the kind of data of their recipes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from calmkit.interfaces import Corpus, DataKind, KindWords, Number, words_from
from calmkit.recipe.resolved import flat
from calmkit.registry import make_manager

KEY = "kind"  # in results.json: `name`, `words` and `numbers`


def words_of(summary: Mapping[str, Any]) -> KindWords:
    """How the kind of data of these results is told; results that say nothing of it are of an older calmkit,
    and their recipes name a corpus.
    """
    if KEY in summary:
        return words_from(summary[KEY]["words"])
    for cell in summary["cells"]:
        for trial in cell.get("trials", ()):
            if "resolved" in trial:
                return _of_recipe(trial["resolved"])
    return KindWords("element", summary.get("primary", ""))  # nothing is done, so there is nothing to tell


def number_of(name: str, summary: Mapping[str, Any] | None = None) -> Number | None:
    """The words of a stored number: those that the results bring, else those of a measure that is
    installed.
    """
    summary = summary or {}
    for known in (summary.get("measures", {}), summary.get(KEY, {}).get("numbers", {})):
        if name in known:
            return Number(**known[name])
    return _installed().get(name)


@cache
def _of_recipe(resolved: str) -> KindWords:
    manager = make_manager()
    corpus: type[Corpus] = manager.find("corpora", flat(resolved)["data.name"]).cls
    kind: type[DataKind] = manager.find("data_kinds", str(corpus.data_kind)).cls
    return kind.words


@cache
def _installed() -> dict[str, Number]:
    return {name: number for name, (number, _) in make_manager().numbers().items()}
