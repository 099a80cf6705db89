"""Text as a kind of data: documents, cut into rows of chunks of tokens.

Source: Shao et al., Continuous Autoregressive Language Models, 2025. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from calmkit.data.cache import default_cache
from calmkit.generation import Precision
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Autoencoder,
    DataKind,
    Front,
    GenerationAsked,
    Prepared,
    Sampler,
    Scores,
    Tokenizer,
)
from calmkit.metrics.sampler_use import SamplerUse
from calmkit.model import CalmModel
from calmkit.recipe.errors import Problem
from calmkit.recipe.parts import build_corpus, build_tokenizer, vocab_size_of
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.text.ceiling import ceiling_scores
from calmkit.text.datamodule import TextDataModule
from calmkit.text.fits import length_fits
from calmkit.text.generation import TextModel
from calmkit.text.keep_latents import latents_as_text
from calmkit.text.leaks import leaks_of_run
from calmkit.text.metrics.rollout import eligible_units
from calmkit.text.metrics.sampling import measure_sampling
from calmkit.text.metrics.throughput import measure_throughput
from calmkit.text.ngrams import ngram_scores
from calmkit.text.prepare import PreparedData, prepare_data
from calmkit.text.preparing import preparing
from calmkit.text.scores import Reconstruction, TextScores
from calmkit.text.units import chunk_size_of
from calmkit.text.words import WORDS
from calmkit.training.checkpoints import write_text
from calmkit.training.progress import Progress, Say
from calmkit.training.run import Run

UNITS_TIMED = 64
FEWEST_CHUNKS = 8  # of a row that is scored


@dataclass(frozen=True)
class KeptTokenizer:
    """The tokenizer that a run was trained with."""

    tokenizer: Tokenizer

    @property
    def sizes(self) -> dict[str, Any]:
        """What parts are built with."""
        return {"vocab_size": self.tokenizer.vocab_size}


@final
class Text(DataKind):
    """Documents, tokenised and packed into rows of chunks; judged by BrierLM."""

    words = WORDS
    row_length = True
    sections = ("tokenizer",)
    scores_samplers = True

    def known_sizes(self, recipe: Recipe, manager: Manager) -> dict[str, Any]:
        """`vocab_size`, as the tokenizer states it before it is ready."""
        return {"vocab_size": vocab_size_of(recipe, build_tokenizer(recipe, manager))}

    def num_units(self, recipe: Recipe, autoencoder: Autoencoder) -> int:
        """Chunks of a row."""
        return recipe.data.sequence_length // chunk_size_of(autoencoder)

    def elements_per_row(self, recipe: Recipe) -> float:
        """T."""
        return float(recipe.data.sequence_length or 0)

    def problems(self, recipe: Recipe, manager: Manager, autoencoder: Autoencoder) -> Iterator[Problem]:
        """CK140: lengths that don't fit the chunks."""
        del manager
        yield from length_fits(recipe, autoencoder)

    def prepare(self, recipe: Recipe, manager: Manager, progress: Progress, kept: Any = None) -> PreparedData:
        """Train the tokenizer, unless one is kept, and tokenise both splits."""
        corpus: Any = build_corpus(recipe, manager)
        tokenizer = build_tokenizer(recipe, manager) if kept is None else kept.tokenizer
        with preparing(progress) as reading:
            return prepare_data(corpus, tokenizer, default_cache(), reading)

    def restore(self, recipe: Recipe, manager: Manager, folder: Path) -> KeptTokenizer:
        """The tokenizer."""
        return KeptTokenizer(build_tokenizer(recipe, manager).restore(folder))

    def front(self, model: CalmModel, kept: Any, sampler: Sampler, precision: Precision) -> TextModel:
        """Text in, text out."""
        return TextModel(model, kept.tokenizer, sampler, precision)

    def coding_scores(self, autoencoder: Autoencoder) -> Scores:
        """Tokens that come back."""
        del autoencoder
        return Reconstruction()

    def scores(
        self, model: CalmModel, recipe: Recipe, manager: Manager, prepared: Prepared, *, final: bool = True
    ) -> Scores:
        """BrierLM and the likelihood."""
        del manager, prepared, final
        return TextScores(model, recipe.evaluation.draws)

    def about_rows(self, recipe: Recipe, model: CalmModel, data: TextDataModule) -> dict[str, float]:
        """How much text a scored position had before it: BrierLM grows with it, whatever the model."""
        before, positions, size = 0, 0, chunk_size_of(model)
        for batch in data.all_val_dataloader():
            unit = eligible_units(model.predict(batch.valid), size).nonzero()[:, 1]
            before, positions = before + int(unit.sum()) * size, positions + len(unit)
        length = float(recipe.data.sequence_length)
        return {"block_tokens": length, "context_tokens": before / max(1, positions)}

    def beside(
        self, recipe: Recipe, manager: Manager, prepared: Any, data: Any, front: Any, progress: Any
    ) -> dict[str, Any]:
        """Models that only count, the ceiling where the source is known, and speed on the model's device."""
        with progress.phase("counting n-grams"):
            scores: dict[str, Any] = dict(ngram_scores(prepared, data, front.model))
        scores |= ceiling_scores(recipe, manager, prepared, data, front.model)
        with progress.phase("timing the sampler"):
            return scores | speed(front.model, front.sampler, manager, prepared.tokenizer.eos_id)

    def leaks(self, prepared: Any, run: Run, manager: Manager, say: Say) -> dict[str, Any]:
        """Held-out documents that the run was trained on."""
        return leaks_of_run(prepared, run, manager, say)

    def latents(self, autoencoder: Any, data: TextDataModule, prepared: Any, seed: int) -> dict[str, Any]:
        """Diagnostics with every chunk of ids told as text; nothing for an autoencoder over ids."""
        return latents_as_text(autoencoder, data, prepared.tokenizer, seed)

    def score_sampler(
        self,
        model: CalmModel,
        sampler: Sampler,
        data: TextDataModule,
        *,
        max_units: int,
        seed: int,
        progress: Callable[[int], object],
    ) -> dict[str, Any]:
        """Accuracy against collision, BrierLM and cost."""
        rows = data.all_val_dataloader()
        found = measure_sampling(model, sampler, rows, max_units=max_units, seed=seed, progress=progress)
        return found.as_row()

    def refuses_length(self, recipe: Recipe, length: int) -> str:
        """Rows are whole chunks, eight of them at least."""
        size = int(recipe.autoencoder.options.get("chunk_size", 1))
        if length % size or length < FEWEST_CHUNKS * size:
            return f"blocks of {length} tokens don't hold {FEWEST_CHUNKS} or more whole chunks of {size}"
        return ""

    def generate(self, front: Front, asked: GenerationAsked, note: Callable[[str], object]) -> Iterator[str]:
        """The continuation of a prompt, as it comes."""
        assert isinstance(front, TextModel)
        for option, value in (("--condition", asked.condition), ("-n", asked.num), ("--out", asked.out)):
            if value:
                raise ValueError(f"{option} is nothing that text has; give --prompt and --max-tokens")
        use = SamplerUse()
        yield from front.stream(
            asked.prompt or "",
            max_tokens=asked.length or 256,
            seed=asked.seed,
            sampler=asked.sampler,
            on_unit=lambda unit: use.add(unit.draws, unit.level),
        )
        if use.draws != use.units or use.fallbacks:
            note(f"sampler: {use.sentence()}")

    def sample(self, front: Front, recipe: Recipe, folder: Path) -> None:
        """`samples.txt`."""
        assert isinstance(front, TextModel)
        prompt, length = recipe.evaluation.sample_prompt, recipe.evaluation.sample_tokens
        sample = front.generate(prompt, max_tokens=length, seed=recipe.seed)
        write_text(folder / "samples.txt", prompt + sample + "\n")

    def tell(self, scores: Mapping[str, Any]) -> list[str]:
        """BrierLM with its interval, beside models that only count; nats where they are known."""
        counted = ", ".join(
            f"{name.removesuffix('_brier_lm')} {value:.3f}"
            for name, value in scores.items()
            if name.endswith("gram_brier_lm")
        )
        interval = f"95 % {scores['brier_lm_low']:.3f} to {scores['brier_lm_high']:.3f}"
        lines = [
            f"BrierLM {scores['brier_lm']:.3f} ({interval}) on {scores['units']:.0f} units of held-out text",
            f"BrierLM of models that only count: {counted}",
        ]
        if "nll_per_token" in scores:
            lines.append(f"{scores['nll_per_token']:.4f} nats per token")
        if "nll_bound_per_token" in scores:
            lines.append(f"at most {scores['nll_bound_per_token']:.4f} nats per token (an upper bound)")
        if "ceiling_brier_lm" in scores:
            lines.append(f"BrierLM of the true source, the ceiling: {scores['ceiling_brier_lm']:.3f}")
        return lines


def speed(model: CalmModel, sampler: Sampler, manager: Manager, eos_id: int) -> dict[str, Any]:
    """Tokens per second, draws and network calls per unit: as the recipe samples, and with one plain draw
    per unit. Of the recipe's sampler also the level of agreement it reached and how often it fell back.
    """
    was_training = model.training
    model.eval()
    direct = manager.build("samplers", "direct", {})
    plain = measure_throughput(model, direct, eos_id=eos_id, units=UNITS_TIMED)
    sampled = measure_throughput(model, sampler, eos_id=eos_id, units=UNITS_TIMED)
    model.train(was_training)
    return {
        "tokens_per_second": sampled.tokens_per_second,
        "draws_per_unit": sampled.draws_per_unit,
        "network_calls_per_unit": sampled.network_calls_per_unit,
        "sampler_level": sampled.level,
        "sampler_fallback_share": sampled.fallback_share,
        "plain_tokens_per_second": plain.tokens_per_second,
        "plain_network_calls_per_unit": plain.network_calls_per_unit,
    }


@hookimpl
def calmkit_data_kinds() -> dict[str, type[DataKind]]:
    """Text."""
    return {"text": Text}
