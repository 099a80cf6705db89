"""Tasks of lm-eval on a run: what they are given, and their numbers with what stands behind them.

Source: Gao et al., The Language Model Evaluation Harness, https://github.com/EleutherAI/lm-evaluation-harness
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from calmkit.text.interop.lm_eval import CalmLM
from calmkit.training.errors import RunFailed

KEPT = ("results", "n-samples", "n-shot", "versions", "higher_is_better")
"""What is handed on of what lm-eval gives."""
BOOTSTRAPS = 1000  # for a standard error that has no formula; by itself lm-eval takes 100,000


def evaluate_tasks(
    model: CalmLM,
    tasks: Sequence[str],
    *,
    include_path: Path | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
) -> dict[str, Any]:
    """The numbers of the tasks, with `likelihood`: what the log likelihoods among them are.

    Args:
        model: To be measured.
        tasks: Names.
        include_path: A folder of YAML tasks, beside those that come with lm-eval. A task may name Python that
            lm-eval runs: give only what you trust. Tasks that run what a model writes stay refused.
        limit: At most so many examples of each task.
        num_fewshot: Examples before each question; None: as the task says.

    Returns:
        Of `KEPT`, plus `likelihood`. The accuracy of a task that asks for the likeliest continuation is left
        out where only a bound is known.

    Raises:
        NoLikelihood: A task asks how likely a text is, and the model does not know.
        RunFailed: There is no such task.
    """
    with contextlib.redirect_stdout(sys.stderr):  # lm-eval prints; what is asked for here are numbers
        manager = _manager(tasks, include_path)
        found = simple_evaluate(
            model=model, tasks=list(tasks), task_manager=manager, limit=limit, num_fewshot=num_fewshot,
            random_seed=model.seed, numpy_random_seed=model.seed, torch_random_seed=model.seed,
            fewshot_random_seed=model.seed, log_samples=False, bootstrap_iters=BOOTSTRAPS,
        )  # fmt: skip
    if model.told_likelihood == "bound":
        for task, config in found["configs"].items():
            if config.get("output_type") == "loglikelihood":
                _leave_out_accuracy(model, task, found["results"].get(task, {}))
    return {name: found[name] for name in KEPT if name in found} | {"likelihood": model.told_likelihood}


def _manager(tasks: Sequence[str], include_path: Path | None) -> TaskManager:
    """Of a folder alone where it holds all the tasks: those that come with lm-eval take seconds to read."""
    unknown = list(tasks)
    for with_defaults in (False, True) if include_path else (True,):
        manager = TaskManager(
            include_path=str(include_path) if include_path else None, include_defaults=with_defaults
        )
        unknown = [task for task in tasks if not manager.match_tasks([task])]
        if not unknown:
            return manager
    raise RunFailed(
        f"lm-eval has no task {', '.join(unknown)}; --include-path names a folder with tasks of your own, "
        "and `lm_eval ls tasks` lists those that come with it."
    )


def _leave_out_accuracy(model: CalmLM, task: str, numbers: dict[str, Any]) -> None:
    """Whether a continuation is the likeliest is not known from a bound."""
    names = [name for name in numbers if name.partition(",")[0] in ("acc", "acc_stderr")]
    for name in names:
        del numbers[name]
    if names:
        model.note(f"{task}: no accuracy, for a bound does not tell whether a continuation is the likeliest")
