"""results: what a study found, as plain values: `results.json`, which tables and report are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from calmkit.interfaces import RelateWords
from calmkit.recipe.load import shipped_files
from calmkit.results.relation import EndWords, Relate, relation
from calmkit.results.scaling import Fit, scaling
from calmkit.results.statistics import (
    Table,
    difference,
    interval,
    ranks,
    read_table,
    replicates,
)
from calmkit.studies.asked_rows import Score, without_groups
from calmkit.studies.blocks import block_curve
from calmkit.studies.kinds import ToldKind
from calmkit.studies.match import Match, told_match
from calmkit.studies.plan import StudyPlan
from calmkit.studies.protocols import Measured, measured_alike, told_protocols, warnings_of_protocols
from calmkit.studies.rankable import Rankable, measured_unalike, words
from calmkit.studies.relate import relate_words
from calmkit.studies.sampling_rows import names_of, over_seeds
from calmkit.studies.trial_results import TrialRun, trial_results
from calmkit.training.checkpoints import check_file
from calmkit.training.groups import written_groups
from calmkit.training.lock import git_state
from calmkit.training.protocol import Protocol, recorded
from calmkit.training.run import Run

VERSION = 3


def study_results(
    planned: StudyPlan,
    asked: Mapping[str, Mapping[str, Any]],
    known: Mapping[str, Rankable],
    kind: ToldKind,
) -> dict[str, Any]:
    """The results of a study, as far as it is done.

    Args:
        planned: The study.
        asked: Key of a trial -> what `ask_trials` found.
        known: What runs can be ranked by.
        kind: Of its data.
    """
    study, where = planned.study, planned.places
    runs = [
        TrialRun(t.cell, t.recipe.seed, where.trial(t.key), asked.get(t.key, {}), t.steps)
        for t in planned.trials
    ]
    shipped = study.path in shipped_files("studies").values()
    head = {
        "study": study.name,
        "path": study.path.name if shipped else str(study.path),
        "folder": str(where.study),
        "description": study.description,
        "base": study.base,
        "overrides": list(study.overrides),
        "machine_train_flops": planned.train_flops(),
    }
    settings = {cell.label: dict(cell.settings) for cell in study.cells}
    return results(
        head, runs, settings, study.baseline, study.primary, study.match, planned.value, study.relate,
        study.fit, known=known, kind=kind,
    )  # fmt: skip


def results(
    head: Mapping[str, Any],
    runs: Sequence[TrialRun],
    settings: Mapping[str, Mapping[str, str]],
    baseline: str,
    primary: str,
    match: Match | None,
    value: float | None,
    relate: Relate | None = None,
    fit: Fit | None = None,
    *,
    known: Mapping[str, Rankable],
    kind: ToldKind,
) -> dict[str, Any]:
    """Everything that tables, figures and reports show, as plain values.

    A trial is `done`, `short` (it stopped before or after its budget), `failed` or `open`; only those that
    are done count in means. Cells are ranked, and differences taken, among those that were measured alike.
    """
    asked = [name for name, one in known.items() if one.asked]
    by_cell: dict[str, list[dict[str, Any]]] = {}
    tables: dict[str, dict[int, Table]] = {}
    for run in runs:
        trial = trial_results(run, kind.words, asked)
        by_cell.setdefault(run.cell, []).append(trial)
        if trial["state"] == "done":
            table = _by_group(run.folder / run.evaluation, primary, known, kind.words.group)
            tables.setdefault(run.cell, {})[run.seed] = table
    cells: list[dict[str, Any]] = [
        {"label": label, "settings": dict(settings.get(label, {})), "trials": trials}
        for label, trials in by_cell.items()
    ]
    better = known[primary]
    groups = measured_alike(cells)
    for _, alike in groups:
        _compare(alike, tables, baseline, primary, better, kind.words.averaged)
    done = [trial for cell in cells for trial in cell["trials"] if trial["state"] == "done"]
    summary: dict[str, Any] = {
        "calmkit_results": VERSION,
        **head,
        "match": None if match is None else told_match(match, value, kind.words.element),
        "primary": primary,
        "higher_is_better": better.sign > 0,
        "measures": words(known, primary, done),
        "kind": kind.as_plain(known),
        "baseline": baseline,
        "seeds": sorted({run.seed for run in runs}),
        "commit": _told(trial["git"] for trial in done),
        "versions": _versions(runs, done),
        "hardware": _machines(done),
        "train_seconds": sum(t["facts"]["lm_seconds"] for t in done),
        "protocols": told_protocols(groups),
        "cells": cells,
    }
    warnings = [*warnings_of_protocols(_measured(done)), *measured_unalike(known, primary, cells)]
    if warnings:
        summary["warnings"] = [*summary.get("warnings", []), *warnings]
    if relate is not None and done:
        summary["relation"] = _relation(cells, relate, relate_words(kind.words, known), known)
    if fit is not None and done:
        numbers = {name: known[name].number for name in fit.y}
        summary["fit"] = scaling(cells, fit, numbers, kind.words.element)
    usual = Score(kind.words.primary, known[kind.words.primary].of, kind.words.groups)
    sampling = over_seeds(cells, usual, names_of(kind.words))
    if sampling["rows"] or sampling["left_out"]:
        summary["sampling"] = sampling
    if blocks := block_curve(cells, kind.words.element, usual):
        summary["blocks"] = blocks
    for cell in cells:
        cell["trials"] = [without_groups(trial, kind.words.groups) for trial in cell["trials"]]
    return summary


def _relation(
    cells: Sequence[Mapping[str, Any]], asked: Relate, words: RelateWords, known: Mapping[str, Rankable]
) -> dict[str, Any]:
    """How two numbers go together, on the way or, where that is asked for, at the ends of runs."""
    series = []
    for cell in cells:
        done = [trial for trial in cell["trials"] if trial["state"] == "done"]
        on_the_way = [point for trial in done for point in trial["curve"]]
        at_ends = [trial["evaluation"] | {"step": trial["facts"]["lm_steps"]} for trial in done]
        kind = cell["settings"].get(asked.by, cell["label"])
        one = {"label": cell["label"], "kind": kind, "curve": at_ends if asked.ends else on_the_way}
        series += [one] if one["curve"] else []
    if not asked.ends:
        return relation(series, asked, words)
    x, y = known[asked.x], known[asked.y]
    names = {name: known[name].number.name for name in (asked.x, asked.y)}
    return relation(series, asked, words, EndWords(names, x.sign * y.sign))


def _measured(done: Sequence[Mapping[str, Any]]) -> dict[Path, Measured]:
    """How each trial that is done was measured."""
    return {
        Path(trial["run"]): Measured(trial["evaluation_file"], recorded(trial) or Protocol())
        for trial in done
    }


def _by_group(evaluation: Path, primary: str, known: Mapping[str, Rankable], group: str) -> Table:
    """What each group gave of the primary measure; empty where that is not kept."""
    one = known[primary]
    file = written_groups(evaluation, group, one.measure if one.asked else "")
    check_file(file)
    return read_table(file, one.columns) if one.columns else {}


def _compare(
    cells: list[dict[str, Any]],
    tables: Mapping[str, Mapping[int, Table]],
    baseline: str,
    primary: str,
    better: Rankable,
    others: Sequence[str],
) -> None:
    """Adds to each cell its `summary`, its `difference` to the baseline and its `rank`."""
    scores = {cell["label"]: _scores(cell, primary) for cell in cells}
    known = [cell for cell in cells if scores[cell["label"]]]
    labels = [cell["label"] for cell in known]
    seed_tables = {label: tables.get(label, {}) for label in labels}
    drawn = replicates([[seed_tables[label][seed] for seed in scores[label]] for label in labels], better.of)
    sign = better.sign

    def between(ours: str, theirs: str) -> Any:
        return difference(scores[ours], scores[theirs], seed_tables[ours], seed_tables[theirs], better.of)

    for number, cell in enumerate(known):
        values = scores[cell["label"]]
        found = {primary: interval(list(values.values()), None if drawn is None else drawn[number]).as_dict()}
        for name in others:
            other = _scores(cell, name)
            if name != primary and other:
                found[name] = interval(list(other.values()), None).as_dict()
        cell["summary"] = found
        apart = between(cell["label"], baseline) if baseline in labels and cell["label"] != baseline else None
        cell["difference"] = None if apart is None else apart.as_dict()
    settled = [[0] * len(labels) for _ in labels]
    for i, ours in enumerate(labels):
        for j in range(i):
            apart = between(ours, labels[j])
            settled[i][j] = 0 if apart is None else sign * apart.settled
            settled[j][i] = -settled[i][j]
    for cell, (best, worst) in zip(known, ranks(settled), strict=True):
        several = len(scores[cell["label"]]) > 1 and len(labels) > 1
        cell["rank"] = [best, worst] if several else None
    for cell in cells:
        cell.setdefault("summary", {})
        cell.setdefault("difference", None)
        cell.setdefault("rank", None)


def _scores(cell: Mapping[str, Any], name: str) -> dict[int, float]:
    """Seed -> score, of the trials that are done and know it; NaN is not known."""
    known = {
        trial["seed"]: float(trial["evaluation"][name])
        for trial in cell["trials"]
        if trial["state"] == "done" and trial["evaluation"].get(name) is not None
    }
    return {seed: score for seed, score in known.items() if isfinite(score)}


def _machines(done: Sequence[Mapping[str, Any]]) -> str:
    """The devices that the runs were made on, as their locks name them, and the CPU threads they had."""
    names = sorted({trial["hardware"] for trial in done if trial["hardware"]}) or ["an unknown machine"]
    threads = sorted({trial["threads"] for trial in done if trial["threads"]})
    told = " or ".join(map(str, threads)) or "an unknown number of"
    return f"{', '.join(names)}, {told} thread{'' if threads == [1] else 's'} a run"


def _told(commits: Iterable[str]) -> str:
    """The commits of the runs, or of this code where none is done."""
    return ", ".join(sorted(set(commits))) or git_state()


def _versions(runs: Sequence[TrialRun], done: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Package -> version, where all finished runs agree; else nothing, and each lock tells its own."""
    finished = {trial["run"] for trial in done}
    found = [Run(run.folder).lock.get("versions") or {} for run in runs if str(run.folder) in finished]
    if not found or any(one != found[0] for one in found):
        return {}
    return {name: str(version) for name, version in found[0].items()}
