"""A trained run as a model of lm-eval, EleutherAI's evaluation harness. Needs the extra `lm-eval`.

    from lm_eval import simple_evaluate
    simple_evaluate(model=CalmLM.of_run("runs/mine/1"), tasks=["lambada_openai"])

Every model of text writes (`generate_until`). How likely a text is knows only a model whose head has a
density: see `calmkit.text.text_likelihood` for what the number is and who has none.

Source: Gao et al., The Language Model Evaluation Harness, https://github.com/EleutherAI/lm-evaluation-harness
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, final

from lm_eval.api.model import LM
from tqdm import tqdm

from calmkit.generation import Precision
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager, make_manager
from calmkit.text.generation import TextModel
from calmkit.text.text_likelihood import TextLikelihood, why_no_likelihood
from calmkit.text.writing import Writer
from calmkit.training.errors import RunFailed
from calmkit.training.run import NO_METRICS, Run, load_run

T = TypeVar("T")
BATCHES_AT_ONCE = 8  # that share the sorting by length


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


@final
class CalmLM(LM):
    """What lm-eval asks of a model, answered by a run.

    Args:
        text: The model, its tokenizer and its sampler.
        recipe: Of the run.
        manager: Builds samplers.
        batch_size: Texts at once. What is drawn depends on it.
        seed: Of all that is drawn: the same requests in the same order have the same answers.
        keep_sampler: Leave the run's sampler as it is, whatever temperature a task wishes for.
        note: Told what of a task is left out, once.
    """

    def __init__(
        self,
        text: TextModel,
        recipe: Recipe,
        manager: Manager,
        *,
        batch_size: int = 8,
        seed: int = 0,
        keep_sampler: bool = False,
        note: Callable[[str], object] = _to_stderr,
    ) -> None:
        super().__init__()
        self.text, self.recipe = text, recipe
        self.batch_size, self.seed, self.note = batch_size, seed, note
        self.writer = Writer(
            text,
            recipe.sampler,
            recipe.data.length,
            manager,
            note=note,
            batch_size=batch_size,
            seed=seed,
            keep_sampler=keep_sampler,
        )
        self._device = next(text.model.parameters()).device

    @classmethod
    def of_run(
        cls,
        run: Path | str,
        overrides: Sequence[str] = (),
        *,
        manager: Manager | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        **settings: Any,
    ) -> CalmLM:
        """A run folder's model.

        Args:
            run: The folder.
            overrides: Of the sampler; where there are any it stays, whatever temperature a task wishes for.
            manager: Parts; default all that are installed.
            device: See `load_run`.
            precision: In which it writes; texts are scored as its weights are.
            settings: Those of the class.

        Raises:
            RunFailed: It is no run of text, or anything `load_run` refuses.
        """
        manager = manager or make_manager()
        recipe = Run(Path(run)).recipe(manager, [*overrides, NO_METRICS])
        front = load_run(run, manager, overrides, device=device, precision=precision)
        if not isinstance(front, TextModel):
            raise RunFailed(
                f"{run} makes no text, and the tasks of lm-eval are texts; a run of text would do."
            )
        return cls(front, recipe, manager, **{"keep_sampler": bool(overrides), **settings})

    @property
    def told_likelihood(self) -> str:
        """`exact`, `bound`, or `none: ` and why."""
        reason = why_no_likelihood(self.text.model)
        return self.likelihood.kind if reason is None else f"none: {reason}"

    @cached_property
    def likelihood(self) -> TextLikelihood:
        """How likely a text is.

        Raises:
            NoLikelihood: The model does not know.
        """
        return TextLikelihood(self.text, self.recipe.data.length, batch_size=self.batch_size, seed=self.seed)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log likelihood of each continuation behind its context, nats, and whether it is the likeliest.

        Where only a bound is known the second is False throughout, which says nothing: no part knows the
        likeliest chunk of a law over latents.

        Raises:
            NoLikelihood: The model does not know.
        """
        score, answers = self.likelihood.behind, list[tuple[float, bool]]()
        if requests and self.likelihood.kind == "bound":
            self._tell_bound()
        for batch in self._shown("loglikelihood", requests, disable_tqdm):
            for request, found in zip(batch, score([request.args for request in batch]), strict=True):
                answers.append((found.nats, bool(found.greedy)))
                self.cache_hook.add_partial("loglikelihood", request.args, answers[-1])
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log likelihood of each text as the beginning of a document, nats; end-of-text is no part of it.

        Raises:
            NoLikelihood: The model does not know.
        """
        score, answers = self.likelihood.behind, list[float]()
        if requests and self.likelihood.kind == "bound":
            self._tell_bound()
        for batch in self._shown("loglikelihood_rolling", requests, disable_tqdm):
            for request, found in zip(batch, score([("", *request.args) for request in batch]), strict=True):
                answers.append(found.nats)
                self.cache_hook.add_partial("loglikelihood_rolling", request.args, found.nats)
        return answers

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The continuation of each prompt up to its stop string."""
        answers: list[str] = []
        for batch in self._shown("generate_until", requests, disable_tqdm):
            for request, found in zip(batch, self.writer.write([r.args for r in batch]), strict=True):
                answers.append(found)
                self.cache_hook.add_partial("generate_until", request.args, found)
        return answers

    def _tell_bound(self) -> None:
        self.note(
            f"log likelihoods are lower bounds, estimated from draws (seed {self.seed}): "
            f"{type(self.text.model.head).__name__} has a density over latents"
        )

    def _shown(self, name: str, requests: Sequence[T], silent: bool) -> Iterator[Sequence[T]]:
        size = self.batch_size * BATCHES_AT_ONCE
        with tqdm(total=len(requests), desc=name, disable=silent) as bar:
            for start in range(0, len(requests), size):
                batch = requests[start : start + size]
                yield batch
                bar.update(len(batch))
