"""compare: trained runs side by side, whoever trained them: runs that differ in nothing but their seed are
one model, and what sets the models apart is their name.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calmkit.recipe.errors import suggest
from calmkit.recipe.resolved import flat
from calmkit.recipe.schema import DataSection
from calmkit.registry import Manager, make_manager
from calmkit.report.reading import Summary
from calmkit.studies.compared_runs import ComparedRun, Model, grouped, read_runs, told_apart
from calmkit.studies.comparison import Comparison
from calmkit.studies.kinds import ToldKind, kind_of_runs
from calmkit.studies.match import Match, match_by
from calmkit.studies.protocol_choice import chosen, protocol_words
from calmkit.studies.protocols import Measured
from calmkit.studies.rankable import Rankable, of_kind, rankable
from calmkit.studies.results import VERSION, results
from calmkit.studies.run_labels import labelled, remarks_of, warnings_of
from calmkit.studies.store import is_trained
from calmkit.studies.trial_results import TrialRun
from calmkit.training.errors import RunFailed
from calmkit.training.protocol import EVALUATION
from calmkit.training.reading import read_resolved
from calmkit.training.run import Run, read_json

__all__ = ["Comparison", "compare"]

HEAD = ("study", "path", "folder", "description", "base", "overrides", "machine_train_flops", "versions")
ASKED = ("sampling", "blocks")
KEPT = ("relation", "fit", *ASKED)  # of a study's results: the same by every measure, against every cell


def compare(
    runs: Sequence[Path | str | Run] | Path | str | Run,
    *,
    primary: str | None = None,
    baseline: str | Path | None = None,
    protocol: str | None = None,
    any_protocol: bool = False,
    manager: Manager | None = None,
) -> Comparison:
    """Set trained runs side by side.

    Args:
        runs: Run folders; or one folder of a study.
        primary: The measure that they are ranked by; None: the usual one of their kind of data, or that of
            the study.
        baseline: Label of a model, or a run of it; default the first run's, or that of the study.
        protocol: Name, or how it begins, of the protocol by which all runs were measured that is wished;
            default the runs' own, or where these are unequal one that all were measured by too.
        any_protocol: Compare runs that have no protocol in common, each ranked among its like.
        manager: Whose measures are known; default all that are installed.

    Raises:
        RunFailed: There is no run, one is missing, not finished or named twice, nothing is called like the
            baseline, runs can't be ranked by the measure, or they were not measured alike.
    """
    listed = [runs] if isinstance(runs, Path | str | Run) else runs
    folders = [run.folder if isinstance(run, Run) else Path(run) for run in listed]
    manager = manager or make_manager()
    known = rankable(manager)
    if not folders:
        raise RunFailed("There is nothing to compare: name one or more run folders.")
    studies = [folder for folder in folders if (folder / "results.json").is_file()]
    if studies and len(folders) > 1:
        raise RunFailed(
            f"{studies[0]} is the folder of a study, which is compared alone. To set runs of it beside "
            "others, name their folders; its report lists them."
        )
    if studies and (protocol is not None or any_protocol):
        raise RunFailed(
            f"{studies[0]} is the folder of a study, which is compared by its own protocol. To compare its "
            "runs by another, name their folders."
        )
    if studies:
        return Comparison(_of_study(studies[0], primary, baseline, known, manager))
    read, kind = read_runs(folders, manager)
    measured = chosen([one.candidate for one in read], protocol, any_protocol)
    return Comparison(_of_runs(read, measured, primary, baseline, known, kind, manager))


def _of_study(
    folder: Path,
    primary: str | None,
    baseline: str | Path | None,
    known: Mapping[str, Rankable],
    manager: Manager,
) -> Summary:
    """A study's results as they are, or the same runs by another measure or against another cell."""
    found = read_json(folder / "results.json")
    if found.get("calmkit_results") != VERSION:
        raise RunFailed(
            f"{folder / 'results.json'} was written by another version of calmkit. "
            f"`calmkit study report {folder}` writes it anew."
        )
    primary, against = primary or found["primary"], str(baseline or found["baseline"])
    if (primary, against) == (found["primary"], found["baseline"]):
        return found
    _refuse_unknown(against, [cell["label"] for cell in found["cells"]])
    runs = _runs_of(found, folder)
    trained = {str(run.folder): _corpus_and_scores(run) for run in runs if is_trained(run.folder)}
    if not trained:
        return found
    match = found["match"]
    kind = kind_of_runs(trained, manager)
    _refuse_unrankable(primary, known, kind)
    again = results(
        {key: found[key] for key in HEAD if key in found},
        runs,
        {cell["label"]: cell["settings"] for cell in found["cells"]},
        against,
        primary,
        None if match is None else Match(match_by(match["by"], kind.words.element)),
        None if match is None else match["value"],
        known=known,
        kind=kind,
    )
    _refuse_unmeasured(again, known)
    return again | {key: found[key] for key in KEPT if key in found}


def _runs_of(found: Summary, folder: Path) -> list[TrialRun]:
    """The runs of a study's results; all that it had are there."""
    runs = [
        TrialRun(
            cell["label"],
            trial["seed"],
            Path(trial["run"]),
            {k: trial[k] for k in ASKED if k in trial},
            trial.get("steps"),
            trial.get("evaluation_file", EVALUATION),
        )
        for cell in found["cells"]
        for trial in cell["trials"]
    ]
    states = [trial["state"] for cell in found["cells"] for trial in cell["trials"]]
    for run, state in zip(runs, states, strict=True):
        if state in ("done", "short") and not is_trained(run.folder):
            raise RunFailed(
                f"The run {run.folder} of {folder} is not here. Call from the folder in which the study ran."
            )
    return runs


def _of_runs(
    read: Sequence[ComparedRun],
    measured: Mapping[Path, Measured],
    asked: str | None,
    baseline: str | Path | None,
    known: Mapping[str, Rankable],
    kind: ToldKind,
    manager: Manager,
) -> Summary:
    primary = asked or kind.words.primary
    _refuse_unrankable(primary, known, kind)
    protocols = {folder: one.protocol for folder, one in measured.items()}
    models = labelled(grouped(told_apart(read, protocols)))
    words = [*(str(one.folder) for one in read), *([f"--baseline={baseline}"] if baseline else [])]
    words += [f"--primary={primary}"] if primary != kind.words.primary else []
    words += protocol_words(list(measured.values()))
    head = {
        "study": "comparison",
        "path": "",
        "description": "",
        "base": "",
        "overrides": [],
        "machine_train_flops": sum(one.train_flops for one in read),
        "command": f"calmkit compare {shlex.join(words)}",
        "warnings": warnings_of(models, protocols, manager.build("data_kinds", kind.name, {})),
        "remarks": remarks_of(models),
        "versions": read[0].versions if all(one.versions == read[0].versions for one in read) else {},
    }
    runs = [
        TrialRun(model.label, one.seed, one.folder, {}, evaluation=measured[one.folder].file)
        for model in models
        for one in model.runs
    ]
    settings = {model.label: model.settings for model in models}
    label = _baseline(models, baseline)
    found = results(head, runs, settings, label, primary, None, None, known=known, kind=kind)
    _refuse_unmeasured(found, known)
    return found


def _corpus_and_scores(run: TrialRun) -> tuple[str, Mapping[str, Any]]:
    recipe = flat(read_resolved(run.folder))
    return recipe.get("data.name", DataSection().part.name), read_json(run.folder / run.evaluation)


def _refuse_unrankable(primary: str, known: Mapping[str, Rankable], kind: ToldKind) -> None:
    known = of_kind(known, kind.name)
    if primary not in known:
        raise RunFailed(f"Runs can't be ranked by '{primary}'; {suggest(primary, known, 'they can by')}.")


def _refuse_unmeasured(found: Summary, known: Mapping[str, Rankable]) -> None:
    """Where no run has the number that they are to be ranked by, and asking for it would give it."""
    one = known[found["primary"]]
    if one.asked and not any(found["primary"] in cell["summary"] for cell in found["cells"]):
        raise RunFailed(
            f"No run here was measured by '{one.measure}', which yields {found['primary']}. "
            f"`calmkit eval RUN evaluation.metrics=[{one.measure}]` measures a run, where its head allows."
        )


def _baseline(models: Sequence[Model], wished: str | Path | None) -> str:
    """The label of the model that a label or one of its runs names."""
    if wished is None:
        return models[0].label
    for model in models:
        if any(one.folder.resolve() == Path(wished).resolve() for one in model.runs):
            return model.label
    _refuse_unknown(str(wished), [model.label for model in models])
    return str(wished)


def _refuse_unknown(label: str, known: Sequence[str]) -> None:
    if label not in known:
        raise RunFailed(f"No model here is called '{label}'; the baseline is one of {', '.join(known)}.")
