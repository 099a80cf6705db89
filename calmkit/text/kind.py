"""Text as a kind of data: documents, cut into rows of chunks of tokens.

Source: Shao et al., Continuous Autoregressive Language Models, 2025. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Autoencoder,
    DataKind,
    Front,
    GenerationAsked,
    Prepared,
    Reward,
    Sampler,
    Scores,
    TextCorpus,
    Tokenizer,
)
from calmkit.model import CalmModel
from calmkit.text.words import WORDS

FEWEST_CHUNKS = 8  # of a row that is scored


@dataclass(frozen=True)
class KeptTokenizer:
    """The tokenizer that a run was trained with."""

    tokenizer: Tokenizer

    def save(self, folder: Path) -> None:
        """Write it."""
        self.tokenizer.save(folder)

    @property
    def sizes(self) -> dict[str, Any]:
        """What parts are built with."""
        return {"vocab_size": self.tokenizer.vocab_size}


@final
class Text(DataKind):
    """Documents, tokenised and packed into rows of chunks; judged by BrierLM."""

    words = WORDS
    corpus = TextCorpus
    row_length = True
    sections = ("tokenizer",)
    scores_samplers = True
    rewards = ("digits", "upper_case", "vowels", "spaces", "length")  # calmkit.text.rewards, not loaded here
    takes = ("prompt", "prompts", "length", "num", "batch_size", "stream", "show_units", "json")

    def known_sizes(self, recipe: Any, manager: Any) -> dict[str, Any]:
        """`vocab_size`, as the tokenizer states it before it is ready."""
        from calmkit.recipe.parts import build_tokenizer, vocab_size_of

        return {"vocab_size": vocab_size_of(recipe, build_tokenizer(recipe, manager))}

    def num_units(self, recipe: Any, autoencoder: Autoencoder) -> int:
        """Chunks of a row."""
        from calmkit.text.units import chunk_size_of

        return recipe.data.length // chunk_size_of(autoencoder)

    def elements_per_row(self, recipe: Any) -> float:
        """T."""
        return float(recipe.data.length)

    def problems(self, recipe: Any, manager: Any, autoencoder: Autoencoder) -> Iterator[Any]:
        """CK140: lengths that don't fit the chunks."""
        del manager
        from calmkit.text.fits import length_fits

        yield from length_fits(recipe, autoencoder)

    def prepare(self, recipe: Any, manager: Any, progress: Any, kept: Any = None) -> Prepared:
        """Train the tokenizer, unless one is kept, and tokenise both splits."""
        from calmkit.data.cache import default_cache
        from calmkit.recipe.parts import build_corpus, build_tokenizer
        from calmkit.text.prepare import prepare_data
        from calmkit.text.preparing import preparing

        corpus: Any = build_corpus(recipe, manager)
        tokenizer = build_tokenizer(recipe, manager) if kept is None else kept.tokenizer
        with preparing(progress) as reading:
            return prepare_data(corpus, tokenizer, default_cache(), reading)

    def restore(self, recipe: Any, manager: Any, folder: Path) -> KeptTokenizer:
        """The tokenizer."""
        from calmkit.recipe.parts import build_tokenizer

        return KeptTokenizer(build_tokenizer(recipe, manager).restore(folder))

    def front(self, model: CalmModel, kept: Any, sampler: Sampler, precision: Any) -> Front:
        """Text in, text out."""
        from calmkit.text.generation import TextModel

        return TextModel(model, kept.tokenizer, sampler, precision)

    def coding_scores(self, autoencoder: Autoencoder) -> Scores:
        """Tokens that come back."""
        del autoencoder
        from calmkit.text.scores import Reconstruction

        return Reconstruction()

    def scores(
        self, model: CalmModel, recipe: Any, manager: Any, prepared: Prepared, *, final: bool = True
    ) -> Scores:
        """BrierLM and the likelihood."""
        del manager, prepared, final
        from calmkit.text.scores import TextScores

        return TextScores(model, recipe.evaluation.draws)

    def reward(self, name: str, kept: Any) -> Reward:
        """What a chunk's characters are worth."""
        from calmkit.text.rewards import reward_of

        return reward_of(name, kept.tokenizer)

    def about_rows(self, recipe: Any, model: CalmModel, data: Any) -> dict[str, float]:
        """How much text a scored position had before it: BrierLM grows with it, whatever the model."""
        from calmkit.text.metrics.rollout import eligible_units
        from calmkit.text.units import chunk_size_of

        before, positions, size = 0, 0, chunk_size_of(model)
        for batch in data.all_val_dataloader():
            unit = eligible_units(model.predict(batch.valid), size).nonzero()[:, 1]
            before, positions = before + int(unit.sum()) * size, positions + len(unit)
        length = float(recipe.data.length)
        return {"block_tokens": length, "context_tokens": before / max(1, positions)}

    def beside(
        self, recipe: Any, manager: Any, prepared: Any, data: Any, front: Any, progress: Any
    ) -> dict[str, Any]:
        """Models that only count, the ceiling where the source is known, and speed on the model's device."""
        from calmkit.text.ceiling import ceiling_scores
        from calmkit.text.ngrams import ngram_scores
        from calmkit.text.speed import speed

        with progress.phase("counting n-grams"):
            scores: dict[str, Any] = dict(ngram_scores(prepared, data, front.model))
        scores |= ceiling_scores(recipe, manager, prepared, data, front.model)
        with progress.phase("timing the sampler"):
            return scores | speed(front.model, front.sampler, manager, prepared.tokenizer.eos_id)

    def leaks(self, prepared: Any, run: Any, manager: Any, say: Any) -> dict[str, Any]:
        """Held-out documents that the run was trained on."""
        from calmkit.text.leaks import leaks_of_run

        return leaks_of_run(prepared, run, manager, say)

    def latents(self, autoencoder: Any, data: Any, prepared: Any, seed: int) -> dict[str, Any]:
        """Diagnostics with every chunk of ids told as text; nothing for an autoencoder over ids."""
        from calmkit.text.keep_latents import latents_as_text

        return latents_as_text(autoencoder, data, prepared.tokenizer, seed)

    def score_sampler(
        self,
        model: CalmModel,
        sampler: Sampler,
        data: Any,
        *,
        max_units: int,
        seed: int,
        progress: Callable[[int], object],
    ) -> dict[str, Any]:
        """Accuracy against collision, BrierLM and cost."""
        from calmkit.text.metrics.sampling import measure_sampling

        rows = data.all_val_dataloader()
        found = measure_sampling(model, sampler, rows, max_units=max_units, seed=seed, progress=progress)
        return found.as_row()

    def refuses_length(self, recipe: Any, length: int) -> str:
        """Rows are whole chunks, eight of them at least."""
        size = int(recipe.autoencoder.options.get("chunk_size", 1))
        if length % size or length < FEWEST_CHUNKS * size:
            return f"blocks of {length} tokens don't hold {FEWEST_CHUNKS} or more whole chunks of {size}"
        return ""

    def generate(self, front: Front, asked: GenerationAsked, note: Callable[[str], object]) -> Iterator[str]:
        """The continuation of a prompt, as it comes; of several each under a line of its own."""
        from calmkit.text.told import as_people_read

        asked.check(self.takes, self.words.data)
        yield from as_people_read(front, asked, note)

    def records(
        self, front: Front, asked: GenerationAsked, note: Callable[[str], object]
    ) -> Iterator[Mapping[str, Any]]:
        """Each continuation: what it is, how it was made and why it stopped."""
        from calmkit.text.told import as_records

        asked.check(self.takes, self.words.data)
        yield from as_records(front, asked, note)

    def sample(self, front: Front, recipe: Any, folder: Path) -> None:
        """`samples.txt`."""
        from calmkit.text.generation import TextModel
        from calmkit.training.checkpoints import write_text

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


@hookimpl
def calmkit_data_kinds() -> dict[str, type[DataKind]]:
    """Text."""
    return {"text": Text}
