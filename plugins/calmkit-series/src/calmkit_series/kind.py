"""Series as a kind of data: rows of T values, in units of P, judged by how near draws come to what follows.

Source: Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, 2007.
https://doi.org/10.1198/016214506000001437
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from calmkit.interfaces import Autoencoder, DataKind, Front, GenerationAsked, Prepared, Scores
from calmkit.model import CalmModel
from calmkit_series.corpus import KnownLaw, SeriesCorpus
from calmkit_series.law import best_by_unit
from calmkit_series.numbers import as_csv, read_prompt
from calmkit_series.prepare import KeptLength, PreparedSeries, prepare_series, width_of
from calmkit_series.words import WORDS


@final
class SeriesKind(DataKind):
    """Numbers over time, real-valued units of P of them; judged by the CRPS."""

    words = WORDS
    corpus = SeriesCorpus
    row_length = True
    takes = ("prompt", "length", "num", "out", "batch_size", "json")

    def known_sizes(self, recipe: Any, manager: Any) -> dict[str, Any]:
        """`series_length`: T."""
        del manager
        return KeptLength(recipe.data.length).sizes

    def num_units(self, recipe: Any, autoencoder: Autoencoder) -> int:
        """T / P."""
        return recipe.data.length // width_of(autoencoder)

    def elements_per_row(self, recipe: Any) -> float:
        """T."""
        return float(recipe.data.length)

    def prepare(self, recipe: Any, manager: Any, progress: Any, kept: Any = None) -> PreparedSeries:
        """Read both splits; there is nothing to cache."""
        from calmkit.recipe.parts import build_corpus

        del kept
        corpus: Any = build_corpus(recipe, manager)
        with progress.phase("reading series"):
            return prepare_series(corpus, recipe.data.length)

    def restore(self, recipe: Any, manager: Any, folder: Path) -> KeptLength:
        """The length of a row."""
        del manager, folder
        return KeptLength(recipe.data.length)

    def front(self, model: CalmModel, kept: Any, sampler: Any, precision: Any) -> Front:
        """Numbers in, numbers out."""
        from calmkit_series.front import SeriesModel

        del kept
        return SeriesModel(model, sampler, precision)

    def coding_scores(self, autoencoder: Autoencoder) -> Scores:
        """How far values come back."""
        from calmkit_series.scores import CodingError

        del autoencoder
        return CodingError()

    def scores(
        self, model: CalmModel, recipe: Any, manager: Any, prepared: Prepared, *, final: bool = True
    ) -> Scores:
        """CRPS, and nats."""
        from calmkit_series.scores import SeriesScores

        del manager, prepared, final
        return SeriesScores(model, recipe.evaluation.draws)

    def beside(
        self, recipe: Any, manager: Any, prepared: Any, data: Any, front: Any, progress: Any
    ) -> dict[str, Any]:
        """The scores of forecasts that learn next to nothing, and of the true law where it is known."""
        from calmkit.recipe.parts import build_corpus
        from calmkit_series.bars import bar_scores

        with progress.phase("measuring bars"):
            batches, model = list(data.all_val_dataloader()), front.model
            counted = sum(model.counted(batch.to(_device(model))).sum(0).cpu().numpy() for batch in batches)
            scores = bar_scores(prepared.train, batches, model)
            corpus = build_corpus(recipe, manager)
            if isinstance(corpus, KnownLaw):
                covariance = corpus.covariance(recipe.data.length)
                for name, best in zip(
                    ("crps_best", "nats_per_value_best"), best_by_unit(covariance, front.width), strict=True
                ):
                    scores[name] = float(np.average(best, weights=counted))
            return scores

    def generate(self, front: Front, asked: GenerationAsked, note: Callable[[str], object]) -> Iterator[str]:
        """The continuation of a prompt as numbers, as it comes; with `--out` as a CSV file."""
        from calmkit_series.told import as_people_read

        asked.check(self.takes, self.words.data)
        yield from as_people_read(front, asked, note)

    def records(
        self, front: Front, asked: GenerationAsked, note: Callable[[str], object]
    ) -> Iterator[Mapping[str, Any]]:
        """Each row: its values, how it was made and where it was written."""
        from calmkit_series.told import as_records

        asked.check(self.takes, self.words.data)
        yield from as_records(front, asked, note)

    def sample(self, front: Front, recipe: Any, folder: Path) -> None:
        """`samples.csv`: as many rows as `evaluation.sample_rows` says, a column each."""
        from calmkit.training.checkpoints import write_text
        from calmkit_series.front import SeriesModel

        assert isinstance(front, SeriesModel)
        prompt, num = read_prompt(recipe.evaluation.sample_prompt), recipe.evaluation.sample_rows
        rows = front.generate(prompt, length=recipe.data.length, num=num, seed=recipe.seed)
        write_text(folder / "samples.csv", as_csv(rows))

    def tell(self, scores: Mapping[str, Any]) -> list[str]:
        """CRPS with its interval, between its ceiling and its bars."""
        told = f"CRPS {scores['crps']:.4f}"
        if "crps_low" in scores:
            told += f" (95 % {scores['crps_low']:.4f} to {scores['crps_high']:.4f})"
        others = {"best": "the true law", "normal": "a normal law", "walk": "a random walk"}
        beside = [
            f"{word} {scores[f'crps_{key}']:.4f}" for key, word in others.items() if f"crps_{key}" in scores
        ]
        lines = [told, f"CRPS of others: {', '.join(beside)}"]
        if "nats_per_value" in scores:
            best = scores.get("nats_per_value_best")
            of_law = "" if best is None else f" (the true law: {best:.4f})"
            lines.append(f"{scores['nats_per_value']:.4f} nats per value{of_law}")
        return lines


def _device(model: CalmModel) -> Any:
    return next(model.parameters()).device
