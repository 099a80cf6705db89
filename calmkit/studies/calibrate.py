"""Calibrate: what temperature a sampler's nominal ones really are, on one trained run.

Two samplers that agree with themselves equally often are taken to be equally warm. `rejection` is exact at
any temperature, so its collision over a few of them is the scale, and the sampler in question is read off it,
at the same held-out units.

Source: Shao et al., Continuous Autoregressive Language Models, 2025, section 7.5, Figures 10 and 11.
https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from calmkit.interfaces import DataError, Sampler
from calmkit.recipe.parts import kind_of
from calmkit.recipe.schema import PartSpec
from calmkit.registry import Manager, make_manager
from calmkit.results.same_point import Line, Range, temperature_of
from calmkit.results.sampling_lines import Row
from calmkit.studies.sampling_rows import names_of
from calmkit.training.progress import Progress
from calmkit.training.run import NO_METRICS, Run, load_run

EXACT = (1.0, 0.8, 0.65, 0.5)
NOMINAL = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15)
UNITS = 512
REFERENCE = "rejection"
KEPT = ("num_steps", "solver")
"""Settings that hold for the exact one too; a head's own temperature is part of what is asked."""


@final
@dataclass(frozen=True)
class Calibration:
    """What was measured, from the highest temperature down.

    Attributes:
        sampler: Its name.
        rows: What it is worth at each nominal temperature; see `DataKind.score_sampler`.
        real: The temperature of each; None where it lies outside of the exact ones that were measured.
        nominal: Exact temperature -> the nominal one that stands for it; None where none of these does.
        fell_back: The largest share of choices at which the exact sampler met its ceiling, and was not exact.
    """

    sampler: str
    rows: tuple[tuple[float, Row], ...]
    real: tuple[Range | None, ...]
    nominal: tuple[tuple[float, Range | None], ...]
    fell_back: float


def calibrate(
    run: Path,
    overrides: Sequence[str] = (),
    *,
    nominal: Sequence[float] = NOMINAL,
    exact: Sequence[float] = EXACT,
    units: int = UNITS,
    manager: Manager | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Measure the sampler of a run at nominal temperatures against the exact one, under teacher forcing.

    Args:
        run: A folder with a trained model.
        overrides: Of its recipe, such as `sampler=sharpen`.
        nominal: Temperatures of the sampler.
        exact: Of `rejection`, two at least; what lies between them can be told.
        units: Held-out units, the same for all.
        manager: Parts; default all that are installed.
        progress: Told where it stands.

    Raises:
        DataError: The kind of data scores no samplers, the sampler has no temperature, or there are too few.
        RecipeError: CK143, CK145: the head can't be asked for these draws, or a temperature is refused.
    """
    manager, progress = manager or make_manager(), progress or Progress(lambda line: None)
    recipe = Run(run).recipe(manager, [*overrides, NO_METRICS])
    kind, part = kind_of(recipe, manager), recipe.sampler
    names = names_of(kind.words)
    if not kind.scores_samplers or names is None:
        raise DataError(f"samplers of {kind.words.data} are scored by no accuracy and collision")
    nominal, exact = (sorted(set(given), reverse=True) for given in (nominal, exact))
    if len(exact) < 2 or not nominal:
        raise DataError("calibrating takes two exact temperatures or more, and a nominal one")
    samplers = _samplers(part, nominal, manager)
    kept = {k: part.options[k] for k in KEPT if k in part.options}
    references = _samplers(PartSpec(REFERENCE, kept), exact, manager)
    front = load_run(run, manager, overrides, device="cpu")
    prepared = kind.prepare(recipe, manager, progress, kept=front)
    rows = recipe.evaluation.max_rows
    data = prepared.rows(recipe, front.model.autoencoder, batch_size=1, max_rows=rows)

    def line(name: str, asked: Mapping[float, Sampler]) -> Line:
        return [(one, score(f"{name} at {one:g}", sampler)) for one, sampler in asked.items()]

    def score(label: str, sampler: Sampler) -> Row:
        phase = progress.begin(label, unit="unit", total=units, announce=True)
        found = kind.score_sampler(
            front.model, sampler, data, max_units=units, seed=recipe.seed, progress=phase.at
        )
        phase.end()
        return found

    ours, scale = line(part.name, samplers), line(REFERENCE, references)
    return Calibration(
        part.name,
        tuple((one, dict(row)) for one, row in ours),
        tuple(temperature_of(row, scale, names) for _, row in ours),
        tuple((one, temperature_of(row, ours, names)) for one, row in scale),
        max(row["fallback_share"] for _, row in scale),
    )


def _samplers(part: PartSpec, temperatures: Sequence[float], manager: Manager) -> dict[float, Sampler]:
    known = manager.find("samplers", part.name)
    if "temperature" not in known.settings or not issubclass(known.cls, Sampler):
        raise DataError(
            f"sampler '{part.name}' has no nominal temperature of its own; sampler=sharpen or sampler=vote "
            "would do"
        )
    found = {}
    for one in temperatures:
        try:
            found[one] = manager.build("samplers", part.name, {**part.options, "temperature": one})
        except ValueError as error:
            raise DataError(str(error)) from error
    return found
