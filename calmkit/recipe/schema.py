"""Recipe: all that a run is made of, as values; every field of a file is checked against its annotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from calmkit.recipe.errors import Mark
from calmkit.recipe.limits import DEVICES, NAME, bounded

VERSION = 1

SECTIONS: Mapping[str, str] = {
    "data": "corpora",
    "tokenizer": "tokenizers",
    "autoencoder": "autoencoders",
    "conditioner": "conditioners",
    "embedder": "embedders",
    "backbone": "backbones",
    "order": "orders",
    "head": "heads",
    "sampler": "samplers",
}
"""The sections that name a part, and the kind of part in `calmkit.registry.KINDS`."""

OF_A_KIND = ("tokenizer",)
"""Sections that only some kinds of data have, which say so (`DataKind.sections`)."""

METRICS = "evaluation.metrics"
OBJECTIVE = "stages.lm.objective"
TRANSFORMS = "transforms"
ALONE: Mapping[str, str] = {
    "launcher": "launchers",
    "loggers": "loggers",
    METRICS: "metrics",
    OBJECTIVE: "objectives",
    TRANSFORMS: "transforms",
}
"""Parts without a section of a recipe to themselves: a study's launcher, that of a stage, those of a list."""

NAMED: Mapping[str, str] = {**SECTIONS, OBJECTIVE: "objectives"}
"""Keys that hold one part, which another one may take the place of."""

NOUNS: Mapping[str, str] = {
    "data": "corpus",
    "loggers": "logger",
    METRICS: "metric",
    OBJECTIVE: "objective",
    TRANSFORMS: "transform",
}
"""What messages call the part of a section, where that is not the section's name."""


Precision = Literal["auto", "64-true", "32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true"]
"""Lightning's names; `auto` decides by the machine."""


FrozenPart = Literal["embedder", "conditioner", "backbone", "head"]
TakenPart = Literal["embedder", "conditioner", "backbone", "head", "transform"]  # of stage 2


@dataclass(frozen=True)
class PartSpec:
    """A part by name, and every one of its settings, the defaults included."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSection:
    """Where data come from and how much of them one row holds.

    Attributes:
        sequence_length: T, how long a row is, for kinds of data whose rows have no length of their own:
            tokens of text, a multiple of the chunk size. No key of the others.
        part: The corpus. In a recipe its name and settings stand beside `sequence_length`.
    """

    sequence_length: int | None = bounded(512, least=1)
    part: PartSpec = field(default_factory=lambda: PartSpec("stdlib"))

    @property
    def length(self) -> int:
        """T, where rows have no length of their own."""
        assert self.sequence_length is not None, "rows of these data have a length of their own"
        return self.sequence_length


@dataclass(frozen=True)
class Optimizer:
    """AdamW and its schedule.

    Attributes:
        lr: Peak learning rate.
        weight_decay: Of matrices only.
        warmup_steps: Steps of linear growth, the first at lr / warmup_steps.
        schedule: After the warmup: constant, or a cosine to a tenth of lr at the last step.
        clip: Largest norm of the gradient of all parameters; null switches it off.
    """

    lr: float = bounded(3e-4, above=0)
    betas: tuple[float, float] = bounded((0.9, 0.95), least=0, below=1)
    weight_decay: float = bounded(0.1, least=0)
    warmup_steps: int = bounded(100, least=0)
    schedule: Literal["constant", "cosine"] = "constant"
    clip: float | None = bounded(1.0, above=0)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Stage 2 refuses an autoencoder whose held-out metric is below `min`."""

    metric: str = "val/token_accuracy"
    min: float


@dataclass(frozen=True)
class AutoencoderStage:
    """Stage 1.

    Attributes:
        init_from: A run folder whose autoencoder is taken as it is; then nothing is trained in this stage.
    """

    max_steps: int = bounded(least=1)
    batch_size: int = bounded(16, least=1)
    optimizer: Optimizer = field(default_factory=Optimizer)
    gate: Gate | None = None
    eval_every: int = bounded(500, least=1)
    init_from: str | None = None


@dataclass(frozen=True)
class LmStage:
    """Stage 2: embedder, backbone and head; the autoencoder is frozen.

    Attributes:
        eval_rows: Rows that are measured on the way, evenly spread over those of the evaluation.
        init_from: A run folder whose weights are the first ones of this stage.
        init_parts: Only these parts are taken of it, the others begin fresh; none named: all are taken.
        freeze: Parts that do not learn: no gradient, no moments, eval mode.
        objective: What a step makes smaller; `data`: the loss of the head.
    """

    max_steps: int = bounded(least=1)
    batch_size: int = bounded(16, least=1)
    optimizer: Optimizer = field(default_factory=Optimizer)
    eval_every: int = bounded(500, least=1)
    eval_rows: int = bounded(16, least=1)
    init_from: str | None = None
    init_parts: tuple[TakenPart, ...] = ()
    freeze: tuple[FrozenPart, ...] = ()
    objective: PartSpec = field(default_factory=lambda: PartSpec("data"))


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The two stages.

    Attributes:
        autoencoder: Null for an autoencoder without parameters.
        lm: Null to train the autoencoder alone.
    """

    autoencoder: AutoencoderStage | None = None
    lm: LmStage | None


@dataclass(frozen=True)
class Evaluation:
    """How much a score is worth.

    Attributes:
        draws: Draws per position, at least the two that a Brier score compares.
        max_rows: Rows of held-out text that are measured.
        batch_size: Rows at once.
        untrained: Whether the model is also measured before its first step, to show what training gave.
        sample_prompt: What the text in `samples.txt` goes on from; empty begins a new document.
        sample_tokens: Length of that text.
        sample_rows: How many rows are drawn where rows have a length of their own, such as images.
        metrics: Measured at the end beside all that every evaluation holds; none changes another number.
    """

    draws: int = bounded(4, least=2)
    max_rows: int = bounded(64, least=1)
    batch_size: int = bounded(8, least=1)
    untrained: bool = True
    sample_prompt: str = ""
    sample_tokens: int = bounded(240, least=1)
    sample_rows: int = bounded(64, least=1)
    metrics: tuple[PartSpec, ...] = ()


@dataclass(frozen=True)
class CheckpointSection:
    """When a run saves all that it needs to go on: before every validation in any case.

    Attributes:
        every: Steps between two checkpoints; null: those between two validations.
        minutes: As often at least; null: steps alone say it.
        keep: Newest checkpoints of a stage that stay.
    """

    every: int | None = bounded(None, least=1)
    minutes: float | None = bounded(None, above=0)
    keep: int = bounded(2, least=1)


@dataclass(frozen=True)
class TrainerSection:
    """What is handed to Lightning: `auto` decides by the machine.

    Attributes:
        devices: A number of devices (-1: all), a list such as `0,1`, or `auto`.
        accumulate: Batches per optimiser step.
        log_every: Steps between two lines of the log.
        ema: Decay of a moving average of stage 2's weights, which is what is evaluated and saved; or null.
        activation_checkpointing: In stage 2, layers of the backbone keep no activations and compute them
            again in the backward pass: less memory, a forward pass more.
        compile: In stage 2, layers of the backbone go through `torch.compile`.
        explosion: A loss above the highest of the last 100 by more than so many times their range stops a run
            before the step; null: only a loss that is no number does.
        workers: Processes that read ahead, for each process of training; 0: it reads itself.
        checkpoint: When a run saves what it needs to go on.
    """

    accelerator: str = "auto"
    devices: str = field(default="auto", metadata={"like": DEVICES})
    strategy: str = "auto"
    precision: Precision = "auto"
    num_nodes: int = bounded(1, least=1)
    accumulate: int = bounded(1, least=1)
    log_every: int = bounded(10, least=1)
    ema: float | None = bounded(None, above=0, below=1)
    activation_checkpointing: bool = False
    compile: bool = False
    explosion: float | None = bounded(100.0, above=0)
    workers: int = bounded(0, least=0)
    checkpoint: CheckpointSection = field(default_factory=CheckpointSection)


@dataclass(frozen=True)
class Source:
    """What a recipe was read from. It tells errors where to point, and takes no part in comparing recipes.

    Attributes:
        text: The file as written; empty for a recipe made in Python.
        place: What errors call the file.
        overrides: As given.
        marks: Dotted key -> where its value was stated.
        notes: What the swaps of parts kept and dropped, a line each.
        cells: Label -> recipe of the cells of a study, one of which it is; it may name another where a run is
            meant. Empty for a recipe that is no part of a study.
    """

    text: str = ""
    place: str = ""
    overrides: tuple[str, ...] = ()
    marks: Mapping[str, Mark] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cells: Mapping[str, Recipe] = field(default_factory=dict)

    def mark(self, key: str) -> Mark | None:
        """Where a dotted key was stated, or the nearest section above it that was; else the file alone."""
        while key and key not in self.marks:
            key = key.rpartition(".")[0]
        return self.marks.get(key) or (Mark(self.place) if self.place else None)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a run is made of. `calmkit.recipe.load.load_recipe` reads one."""

    calmkit: int = VERSION
    name: str = field(metadata={"like": NAME})
    description: str = ""
    seed: int = bounded(1, least=0)
    data: DataSection
    tokenizer: PartSpec | None = None
    autoencoder: PartSpec
    transforms: tuple[PartSpec, ...] = ()
    conditioner: PartSpec | None = None
    embedder: PartSpec = field(default_factory=lambda: PartSpec("tokens"))
    backbone: PartSpec
    order: PartSpec | None = None
    head: PartSpec
    sampler: PartSpec = field(default_factory=lambda: PartSpec("direct"))
    predict_first: bool = True
    stages: Stages
    evaluation: Evaluation = field(default_factory=Evaluation)
    trainer: TrainerSection = field(default_factory=TrainerSection)
    loggers: tuple[PartSpec, ...] = field(default_factory=lambda: (PartSpec("csv"),))
    source: Source = field(default_factory=Source, compare=False, repr=False)

    @property
    def source_text(self) -> str:
        """The file as written; empty for a recipe made in Python."""
        return self.source.text
