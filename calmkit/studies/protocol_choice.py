"""protocol_choice: the one protocol that runs are compared by, or why there is none and what would do."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calmkit.studies.protocols import NAMED, Measured, some_runs
from calmkit.training.errors import RunFailed
from calmkit.training.protocol import EVALUATION, SCORED, Protocol

OVERRIDE = {
    "sequence_length": "data.sequence_length",
    "max_rows": "evaluation.max_rows",
    "draws": "evaluation.draws",
}


@dataclass(frozen=True)
class Candidate:
    """A run to be compared.

    Attributes:
        reads: Facts without which its scores mean something else than those of another run.
        recipe: Dotted key -> value as text.
        evaluations: Its own first.
    """

    folder: Path
    reads: Mapping[str, str]
    recipe: Mapping[str, str]
    evaluations: tuple[Measured, ...]

    @property
    def own(self) -> Protocol:
        """How it measured itself."""
        return self.evaluations[0].protocol

    def by(self, protocol: Protocol) -> Measured | None:
        """Its first evaluation whose scores mean the same as those of a protocol."""
        return next((one for one in self.evaluations if one.protocol.agrees(protocol, SCORED)), None)


def chosen(
    runs: Sequence[Candidate], name: str | None = None, any_protocol: bool = False
) -> dict[Path, Measured]:
    """The evaluation of each run that is compared: all by one protocol.

    That is the one by which all measured themselves, else one that all were also measured by, the commonest
    first.

    Args:
        runs: At least one.
        name: Of the protocol that is wished, or how its name begins.
        any_protocol: Where they have none in common, take each run's own.

    Raises:
        RunFailed: A run has none of that name, the name is that of several whose scores differ, or the runs
            have none in common.
    """
    if name is not None:
        named = {run.folder: _by_name(run, name) for run in runs}
        _refuse_ambiguous(runs, name)
        return named
    owns = [run.own for run in runs]
    if all(one.agrees(other, SCORED) for one in owns for other in owns):
        return {run.folder: run.evaluations[0] for run in runs}
    for protocol in _by_number([one.protocol for run in runs for one in run.evaluations]):
        found = {run.folder: run.by(protocol) for run in runs}
        known = {folder: one for folder, one in found.items() if one is not None}
        if len(known) == len(runs):
            return known
    if any_protocol:
        return {run.folder: run.evaluations[0] for run in runs}
    raise _unequal(runs)


def protocol_words(measured: Sequence[Measured]) -> list[str]:
    """What `calmkit compare` must be told to choose these again; nothing where it would by itself."""
    if not all(one.protocol.agrees(other.protocol, SCORED) for one in measured for other in measured):
        return ["--any-protocol"]
    if all(one.file == EVALUATION for one in measured):
        return []
    return [f"--protocol={measured[0].protocol.scores}"]


def _by_name(run: Candidate, name: str) -> Measured:
    for one in run.evaluations:
        if one.protocol.name.startswith(name):
            return one
    known = ", ".join(dict.fromkeys(one.protocol.scores for one in run.evaluations))
    raise RunFailed(f"{run.folder} was not measured by a protocol '{name}', but by {known}.")


def _refuse_ambiguous(runs: Sequence[Candidate], name: str) -> None:
    """Where a name is how several protocols begin, whose scores don't mean the same."""
    found = [one.protocol for run in runs for one in run.evaluations if one.protocol.name.startswith(name)]
    if not all(one.agrees(other, SCORED) for one in found for other in found):
        known = ", ".join(dict.fromkeys(one.scores for one in found))
        raise RunFailed(f"Several protocols begin with '{name}': {known}. Name one of them in full.")


def _by_number(protocols: Sequence[Protocol]) -> list[Protocol]:
    """Different ones, the commonest first; those that are not known whole left out."""
    whole = [one for one in protocols if one.known(SCORED)]
    names = [one.scores for one in whole]
    distinct = {one.scores: one for one in reversed(whole)}
    return [distinct[name] for name in sorted(dict.fromkeys(names), key=lambda name: -names.count(name))]


def _unequal(runs: Sequence[Candidate]) -> RunFailed:
    """The error of runs that have no protocol in common: what differs, and what would do."""
    owns = [run.own for run in runs]
    apart = [name for name in SCORED if any(name in a.differing(b, SCORED) for a in owns for b in owns)]
    groups: dict[str, list[Candidate]] = {}
    for run in runs:
        values = (f"{name} {str(getattr(run.own, name))[:8]}" for name in apart)
        groups.setdefault(", ".join(values), []).append(run)
    common = max(groups.values(), key=len)[0]
    lines = [f"  {values}: {some_runs([run.folder for run in group])}" for values, group in groups.items()]
    unlike = [name for name in common.reads if any(run.reads.get(name) != common.reads[name] for run in runs)]
    if unlike:
        told = " and ".join(f"{name.replace('_', ' ')}s" for name in unlike)
        lines.append(f"Their {told} are not the same, so no evaluation makes their scores comparable.")
    else:
        cures = [f"  {cure}" for run in runs if (cure := _cure(run, common))]
        more = [f"  ... and {len(cures) - NAMED} more"] if len(cures) > NAMED else []
        lines += ["Measure them alike first:", *cures[:NAMED], *more]
    first = "These runs were not measured alike, so their scores can't be ranked together:"
    last = (
        "Or compare them all the same with --any-protocol (any_protocol=True): their rows are marked, and "
        "each is ranked only beside those that were measured like it."
    )
    return RunFailed("\n".join([first, *lines, last]))


def _cure(run: Candidate, common: Candidate) -> str:
    """The command that measures a run as another one was; empty where it was."""
    words = []
    for name in run.own.differing(common.own, SCORED):
        if name in OVERRIDE:
            words.append(f"{OVERRIDE[name]}={getattr(common.own, name)}")
        else:
            words += _data(run.recipe, common.recipe)
    return f"calmkit eval {shlex.join([str(run.folder), *words])}" if words else ""


def _data(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Overrides that name their data where ours are others."""
    keys = [k for k in theirs if k.startswith("data.") and k != OVERRIDE["sequence_length"]]
    if all(ours.get(key) == theirs[key] for key in keys):
        return []
    named = [f"data={theirs['data.name']}"] if "data.name" in theirs else []
    return named + [f"{k}={theirs[k]}" for k in keys if k != "data.name" and ours.get(k) != theirs[k]]
