"""The laws of kinds of data."""

from __future__ import annotations

import contextlib
import json
import math
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from calmkit.interfaces import (
    EVALUATION_OF_A_KIND,
    Autoencoder,
    DataKind,
    Front,
    GenerationAsked,
    Prepared,
    Scores,
)
from calmkit.interfaces.generation_asked import OPTIONS
from calmkit.model import CalmModel
from calmkit.recipe.assemble import assemble, build_sampler
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.testing import laws
from calmkit.testing.data_rows import check_rows
from calmkit.testing.laws import Subject
from calmkit.training.fit_transform import fit_transform
from calmkit.training.progress import Progress

WORDS = "its words name what there is"
SIZES = "sizes are the same before the data are read, after, and when a run is read back"
AGAIN = "the same recipe gives the same data"
FACTS = "facts are plain values, and hold the lineage"
SCORES = "scores are finite numbers, the primary one among them"
REPEATED = "scores follow from model, rows and seed"
TABLE = "a table has a column for each of its names"
GROUPS = "the first column of a table is called as what units come from"
FRONT = "a front makes the same of the same seed"
UNKNOWN = "a condition that there is not is refused"
TAKES = "it takes options that there are"
RECORDS = "records are plain values, the same of the same seed"
SAMPLE = "a sample is written into the run's folder"
TOLD = "what stands beside scores are plain values, and lines tell of them"
MAYBE = ("_se", "_low", "_high")  # beside a number: of a few rows they may not be known


@dataclass(frozen=True)
class World:
    """A kind of data at work: what its laws are held to. `data` is a datamodule."""

    kind: DataKind
    recipe: Recipe
    manager: Manager
    prepared: Prepared
    model: CalmModel
    data: Any = None

    def rows(self) -> Any:
        """A fresh datamodule of stage 2."""
        stage, most = self.recipe.stages.lm, self.recipe.evaluation.max_rows
        assert stage is not None
        autoencoder = self.model.autoencoder
        return self.prepared.rows(self.recipe, autoencoder, batch_size=stage.batch_size, max_rows=most)

    def scores(self, final: bool) -> Scores:
        """Fresh ones, of the model."""
        return self.kind.scores(self.model, self.recipe, self.manager, self.prepared, final=final)


def check_data_kind(part: str | type[DataKind], recipe: Recipe, manager: Manager | None = None) -> None:
    """Hold a kind of data to its contract, on a recipe of a few small rows and a small model, which is built
    and not trained.

    Laws: constructor; its words name numbers and facts that there are; sizes are the same before the data are
    read, after, and when a run is read back; the same recipe gives the same data and the same batches; rows
    are `Batch`es whose shapes agree with `num_units` and with what the autoencoder makes of them (see
    `check_rows`); facts are plain values, and hold the lineage; scores are finite, the primary one is among
    them, they follow from model, rows and seed, `reset` forgets, and the model stays as it is; a front makes
    the same of the same seed, refuses a condition that there is not, and gives the same records of the same
    seed, where it takes `json`; a sample is written; what stands beside the scores are plain values, and
    `tell` tells of them.

    Args:
        part: Name in the registry, or a class.
        recipe: Its corpus is of this kind.
        manager: Parts; default all that are installed.

    Raises:
        AssertionError: Naming kind, law and what was seen.
    """
    manager = manager or make_manager()
    with laws.undisturbed(), laws.default_dtype(torch.float32):
        subject = laws.subject("data_kinds", part, {}, manager)
        kind: DataKind = subject.build()
        _check_words(subject, kind, manager)
        world = _world(subject, kind, recipe, manager)
        _check_facts(subject, world)
        autoencoder = world.model.autoencoder
        _check_scores(subject, world, kind.coding_scores(autoencoder), autoencoder)
        with subject.under(SCORES):
            on_the_way, final = world.scores(final=False), world.scores(final=True)
        _check_scores(subject, world, on_the_way, world.model)
        found = _check_scores(subject, world, final, world.model)
        primary = kind.words.primary
        subject.require(primary in found, SCORES, f"'{primary}' is not among {sorted(found)}")
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            front = _restored(subject, world, Path(folder))
            _check_front(subject, world, front, Path(folder))
            _check_beside(subject, world, front, found)


@laws.law(WORDS)
def _check_words(part: Subject, kind: DataKind, manager: Manager) -> None:
    words = kind.words
    good = re.fullmatch(r"[a-z]+(_[a-z]+)*", words.element)
    part.require(good, WORDS, f"element is {words.element!r}, which is no small word such as 'value'")
    seen = f"kept is {words.kept!r}, which names no folder of its own"
    part.require(re.fullmatch(r"\w+", words.kept), WORDS, seen)
    seen = f"no measure describes its primary number '{words.primary}' (hook calmkit_metrics)"
    part.require(words.primary in manager.numbers(), WORDS, seen)
    unknown = sorted(set(words.evaluation) - set(EVALUATION_OF_A_KIND))
    seen = f"evaluation names {unknown}, and {list(EVALUATION_OF_A_KIND)} are what some kinds don't read"
    part.require(not unknown, WORDS, seen)
    takes = sorted(set(kind.takes) - set(OPTIONS))
    part.require(not takes, TAKES, f"takes names {takes}, and there are {list(OPTIONS)}")
    part.require(words.lineage, WORDS, "lineage is empty: any autoencoder could be built upon")


@laws.law(SIZES)
def _world(part: Subject, kind: DataKind, recipe: Recipe, manager: Manager) -> World:
    """Data, rows that keep their laws, and a model that has seen nothing."""
    before = dict(kind.known_sizes(recipe, manager))
    prepared = kind.prepare(recipe, manager, Progress.silent())
    after = dict(prepared.sizes)
    part.require(before == after, SIZES, f"{before} before, {after} after")
    part.require(prepared.told.strip(), WORDS, "nothing is told of the data")
    good = isinstance(prepared.notes, tuple) and all(isinstance(note, str) for note in prepared.notes)
    part.require(good, WORDS, f"notes are {prepared.notes!r}, not sentences in a tuple")
    again = kind.prepare(recipe, manager, Progress.silent()).fingerprint
    part.require(prepared.fingerprint == again, AGAIN, f"fingerprints {prepared.fingerprint!r} and {again!r}")
    torch.manual_seed(0)
    world = World(kind, recipe, manager, prepared, assemble(recipe, manager, prepared.sizes).eval())
    check_rows(part, kind, recipe, world.model, world.rows)
    data = world.rows()
    if world.model.transform is not None:
        fit_transform(world.model, data, recipe.seed)
    return replace(world, data=data)


@laws.law(FACTS)
def _check_facts(part: Subject, world: World) -> None:
    facts = world.prepared.facts(world.model.autoencoder)
    back = json.loads(json.dumps(facts))
    part.require(back == facts, FACTS, f"written as JSON and read back {facts} are {back}")
    words = world.kind.words
    lacking = [name for name in (*words.lineage, *words.reads) if name not in facts]
    seen = f"words.lineage and words.reads name {lacking}, and facts have {sorted(facts)}"
    part.require(not lacking, FACTS, seen)
    each = world.kind.elements_per_row(world.recipe)
    part.require(math.isfinite(each) and each > 0, FACTS, f"a row has {each} elements")


@laws.law(SCORES)
def _check_scores(
    part: Subject, world: World, scores: Scores, measured: CalmModel | Autoencoder
) -> dict[str, float]:
    """What they compute."""
    before = {name: value.clone() for name, value in measured.state_dict().items()}
    first, again = (_gathered(part, world, scores, measured) for _ in range(2))
    part.require(first == again, REPEATED, f"of equal rows after reset() {first}, then {again}")
    after = measured.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    part.require(not changed, REPEATED, f"measuring changed the model: {changed}")
    part.require(not measured.training, REPEATED, "measuring left the model in train mode")
    table = scores.table()
    if table is not None:
        names, sums = table
        good = sums.ndim == 2 and sums.shape[1] == len(names) == len(set(names))
        part.require(good, TABLE, f"the names {list(names)} for sums of shape {tuple(sums.shape)}")
        group = world.kind.words.group
        part.require(names[0] == group, GROUPS, f"it is '{names[0]}', and the word of a group '{group}'")
    return first


def _gathered(part: Subject, world: World, scores: Scores, measured: Any) -> dict[str, float]:
    scores.reset()
    torch.manual_seed(0)
    for batch in world.data.all_val_dataloader():
        scores.update(measured, batch)
    found = dict(scores.compute())
    for name, value in found.items():
        good = isinstance(value, torch.Tensor) and value.ndim == 0
        good = good and (bool(value.isfinite()) or name.endswith(MAYBE))
        part.require(good, SCORES, f"'{name}' is {value!r}")
    return {name: float(value) for name, value in found.items() if bool(value.isfinite())}


@laws.law(SIZES)
def _restored(part: Subject, world: World, folder: Path) -> Front:
    """A front of what was written and read back."""
    world.prepared.save(folder)
    kept = world.kind.restore(world.recipe, world.manager, folder)
    before, after = dict(world.prepared.sizes), dict(kept.sizes)
    part.require(before == after, SIZES, f"{before} before, {after} read back")
    again = world.kind.prepare(world.recipe, world.manager, Progress.silent(), kept=kept).fingerprint
    seen = f"prepared with what was kept, fingerprint {again!r}, and {world.prepared.fingerprint!r} before"
    part.require(again == world.prepared.fingerprint, SIZES, seen)
    sampler = build_sampler(world.recipe, world.manager)
    front = world.kind.front(world.model, kept, sampler, "auto")
    good = front.model is world.model and front.sampler is sampler
    part.require(good, FRONT, "its model or its sampler is not the one that it was given")
    return front


@laws.law(FRONT)
def _check_front(part: Subject, world: World, front: Front, folder: Path) -> None:
    kind = world.kind

    def made(**words: Any) -> list[str]:
        asked = GenerationAsked(**words)
        asked.check(kind.takes, kind.words.data)
        return list(kind.generate(front, asked, lambda line: None))

    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    first, written = made(seed=1), files()
    part.require(first and all(isinstance(one, str) for one in first), FRONT, f"it prints {first!r}")
    part.require(first == made(seed=1) and written == files(), FRONT, "two of one seed differ")
    try:
        made(condition={"no_such_condition": "1"})
    except ValueError as error:
        part.require("condition" in str(error), UNKNOWN, f"the message does not name it: {error}")
    else:
        part.require(False, UNKNOWN, "it was taken")
    if "json" in kind.takes:
        with part.under(RECORDS):
            first_of, again = (_records(kind, front) for _ in range(2))
        part.require(first_of, RECORDS, "there are none")
        part.require(first_of == again, RECORDS, f"of one seed {first_of}, then {again}")
    with part.under(SAMPLE):
        world.kind.sample(front, world.recipe, folder)
    fresh = [Path(name).name for name in files().keys() - written.keys()]
    wanted = world.kind.words.sample
    part.require(wanted in fresh, SAMPLE, f"words.sample is '{wanted}', and new in it are {fresh}")


def _records(kind: DataKind, front: Front) -> list[dict[str, Any]]:
    """As a program reads them back, but for what the clock said."""
    made = kind.records(front, GenerationAsked(seed=1, json=True), lambda line: None)
    found = [json.loads(json.dumps(one, allow_nan=False)) for one in made]
    return [{name: value for name, value in one.items() if name != "seconds"} for one in found]


@laws.law(TOLD)
def _check_beside(part: Subject, world: World, front: Front, found: dict[str, float]) -> None:
    beside = world.kind.beside(
        world.recipe, world.manager, world.prepared, world.data, front, Progress.silent()
    )
    told = beside | world.prepared.scores() | world.kind.about_rows(world.recipe, world.model, world.data)
    for name, value in told.items():
        part.require(isinstance(value, int | float | str), TOLD, f"'{name}' is {value!r}")
        part.require(name not in found or found[name] == value, TOLD, f"'{name}' is a score already")
    lines = world.kind.tell(found | told)
    good = lines and all(isinstance(line, str) and line.strip() and "\n" not in line for line in lines)
    part.require(good, TOLD, f"tell gives {lines!r}")
