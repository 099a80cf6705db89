"""resume_check: a recipe is trained twice for a few steps, once stopped and gone on with, and compared."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch

from calmkit.recipe.load import to_yaml
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import AutoencoderStage, LmStage, PartSpec, Recipe
from calmkit.registry import make_manager
from calmkit.training.checkpoints import write_text
from calmkit.training.errors import RunFailed
from calmkit.training.progress import Say
from calmkit.training.run import Run
from calmkit.training.stopping import REQUEUE

MOST_ROWS, MOST_MADE = 64, 32
"""Rows that are measured, and what is made, at the end of a check: resuming is what it is about."""

LAST_LINES = 8


@final
@dataclass(frozen=True)
class Compared:
    """A file of two runs.

    Attributes:
        what: Its name.
        holds: How much is in it.
        differs: In words, how the two differ; empty: they are equal, bit for bit.
    """

    what: str
    holds: str
    differs: str = ""


@final
@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        stops: Stage -> the step behind which the second run was stopped.
        seconds: Of the run that nobody disturbed, and of the other one, all its starts together.
        compared: Of what both made.
    """

    stops: dict[str, int]
    seconds: tuple[float, float]
    compared: Sequence[Compared]

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not any(one.differs for one in self.compared)


def compare_runs(one: Path, other: Path) -> list[Compared]:
    """Weights, losses and samples of two run folders; times are left out.

    Raises:
        RunFailed: One of them holds no weights.
    """
    return [_weights(Run(one), Run(other)), *(_bytes(one, other, name) for name in _names(one, other))]


def resume_check(recipe: Recipe, folder: Path, *, steps: int, at: int | None, seed: int, say: Say) -> Checked:
    """Train a recipe twice, each start in a process of its own, and compare.

    Args:
        recipe: Of any kind of data.
        folder: For both runs; empty.
        steps: Of each stage that is trained, at least 2.
        at: The step behind which each stage is stopped, above 0 and below `steps`; None: drawn.
        seed: Of what is drawn.
        say: Takes a line for each start.

    Raises:
        RunFailed: A start ended otherwise than it should.
    """
    short = shortened(recipe, steps)
    named = {"autoencoder": short.stages.autoencoder, "lm": short.stages.lm}
    trained = [name for name, stage in named.items() if stage is not None and not _taken(stage)]
    draw = random.Random(seed)
    stops = {name: at or draw.randrange(1, steps) for name in trained}
    file, whole, parts = folder / "recipe.yaml", folder / "undisturbed", folder / "stopped"
    write_text(file, to_yaml(short))
    say(f"training {steps} steps of each stage, undisturbed")
    undisturbed = _start([str(file), "--out", str(whole)], 0)
    stopped, begin = 0.0, [str(file), "--out", str(parts)]
    for stage, step in stops.items():
        say(f"training the same, and stopping behind step {step} of stage {stage}")
        stopped += _start([*begin, "--stop-at", f"{stage}:{step}"], REQUEUE)
        begin = [str(parts)]
    say("going on to the end")
    stopped += _start(begin, 0)
    return Checked(stops, (undisturbed, stopped), compare_runs(whole, parts))


def shortened(recipe: Recipe, steps: int) -> Recipe:
    """A recipe that takes so many steps of each stage, validates thrice on the way, and logs every step."""
    read = kind_of(recipe, make_manager()).words.evaluation
    counts = [
        name
        for name in read
        if name.startswith("sample_") and isinstance(getattr(recipe.evaluation, name), int)
    ]
    stages, often = recipe.stages, max(1, steps // 3)
    first, second, asked = stages.autoencoder, stages.lm, recipe.evaluation
    if first is not None:
        first = replace(first, max_steps=steps, eval_every=often, gate=None)
    if second is not None:
        second = replace(second, max_steps=steps, eval_every=often)
    return replace(
        recipe,
        stages=replace(stages, autoencoder=first, lm=second),
        evaluation=replace(
            asked,
            metrics=(),
            max_rows=min(asked.max_rows, MOST_ROWS),
            **{name: min(getattr(asked, name), MOST_MADE) for name in counts},
        ),
        trainer=replace(recipe.trainer, log_every=1),
        loggers=(PartSpec("csv"),),
    )


def _taken(stage: AutoencoderStage | LmStage) -> bool:
    """Whether a stage is taken over from another run, and not trained."""
    return isinstance(stage, AutoencoderStage) and stage.init_from is not None


def _start(words: Sequence[str], expected: int) -> float:
    """`calmkit train`, as a person would type it; its seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "calmkit.cli.main", "train", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != expected:
        lines = (done.stdout + done.stderr).strip().splitlines()[-LAST_LINES:]
        told = "\n  ".join(lines)
        raise RunFailed(
            f"`calmkit train {' '.join(words)}` ended with {done.returncode}, not {expected}:\n  {told}"
        )
    return time.perf_counter() - began


def _weights(one: Run, other: Run) -> Compared:
    from safetensors.torch import load_file

    mine, theirs = (load_file(str(run.weights)) if run.weights.is_file() else {} for run in (one, other))
    if not mine or not theirs:
        empty = one if not mine else other
        raise RunFailed(f"{empty.folder} holds no weights, so there is nothing to compare.")
    holds = f"{len(mine)} tensors, {sum(value.numel() for value in mine.values()):,} numbers"
    differ = [name for name in sorted(mine.keys() | theirs.keys()) if not _equal(mine, theirs, name)]
    if not differ:
        return Compared("weights", holds)
    gaps = [
        float((mine[name].double() - theirs[name].double()).abs().max())
        for name in differ
        if name in mine and name in theirs and mine[name].shape == theirs[name].shape
    ]
    most = f", by up to {max(gaps):.2g}" if gaps else ""
    return Compared("weights", holds, f"{len(differ)} tensors{most}, such as {differ[0]}")


def _equal(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], name: str) -> bool:
    return name in mine and name in theirs and torch.equal(mine[name], theirs[name])


def _names(one: Path, other: Path) -> list[str]:
    found = {path.name for run in (one, other) for path in run.glob("samples.*")}
    return ["metrics.csv", *sorted(found)]


def _bytes(one: Path, other: Path, name: str) -> Compared:
    mine, theirs = (path.read_bytes() if path.is_file() else None for path in (one / name, other / name))
    is_table = name.endswith(".csv")
    size = len(mine or b"")
    holds = f"{max(0, (mine or b'').count(10) - 1):,} lines" if is_table else f"{size:,} bytes"
    if mine is None or theirs is None:
        return Compared(name, holds, "there in one of them alone")
    if mine == theirs:
        return Compared(name, holds)
    pairs = zip(mine.split(b"\n"), theirs.split(b"\n"), strict=False)
    line = next((number for number, (a, b) in enumerate(pairs, 1) if a != b), None)
    return Compared(name, holds, f"from line {line:,} on" if line and is_table else "other bytes")
