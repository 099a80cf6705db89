"""Results as `calmkit.studies.results` makes them, by hand: any scores, states and extras, no training."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from calmkit.results.statistics import Interval, interval, ranks

RESOLVED = """\
calmkit: 1
name: made
description: ' [{label}, seed {seed}]'
seed: {seed}
data: {{name: stdlib, sequence_length: 256}}
autoencoder: {{name: vae, chunk_size: {chunk_size}, latent_dim: 16}}
head: {{name: {head}, depth: 3}}
stages:
  autoencoder: {{max_steps: 300, init_from: runs/autoencoders/{seed}}}
  lm: {{max_steps: {steps}, optimizer: {{lr: 0.001, betas: [0.9, 0.95]}}}}
loggers: [csv]
"""


def made_trial(
    label: str,
    seed: int,
    score: float,
    *,
    chunk_size: int = 2,
    flops: float = 8e12,
    token_flops: float = 5e5,
    speed: float = 1000.0,
    steps: int = 400,
    latents: dict[str, Any] | None = None,
    **evaluation: Any,
) -> dict[str, Any]:
    """A trial that is done, with a BrierLM of `score`, and Brier-n of 2, 1, 0.5 and 0.25 percent of it."""
    before = 0 if chunk_size == 1 else 3e12
    shares = {f"brier_{n}": score / 100 * 2.0 ** (2 - n) for n in (1, 2, 3, 4)}
    collision = {f"collision_{n}": 0.4 / n for n in (1, 2, 3, 4)}
    accuracy = {f"accuracy_{n}": (shares[f"brier_{n}"] + 0.4 / n) / 2 for n in (1, 2, 3, 4)}
    numbers: dict[str, Any] = {
        "loss": 1.0, "brier_lm": score, "brier_lm_low": max(0.0, score - 1), "brier_lm_high": score + 1,
        **shares, **accuracy, **collision, "units": 16256.0 / chunk_size, "rows": 128.0, "documents": 96.0,
        "blocks": 96.0, "block_tokens": 256.0, "context_tokens": 128.0 - chunk_size,
        "untrained_brier_lm": 0.01, "unigram_brier_lm": 0.12, "bigram_brier_lm": 1.22,
        "trigram_brier_lm": 6.02,
        "tokens_per_second": 0.9 * speed, "plain_tokens_per_second": speed, "draws_per_unit": 1.0,
        "network_calls_per_unit": 1.0,
    }  # fmt: skip
    if chunk_size > 1:
        numbers["reconstruction_token_accuracy"] = 0.9971
    facts = {
        "chunk_size": chunk_size, "parameters": {"autoencoder": 400_000, "head": 1_100_000},
        "lm_train_flops": flops, "autoencoder_train_flops": before, "autoencoder_seconds": before / 1e11,
        "lm_seconds": flops / 1.5e11 + seed, "lm_steps": steps, "lm_train_tokens": 1e6,
        "inference_flops_per_token": token_flops,
    }  # fmt: skip
    points = [
        {
            "step": round(part * steps), "flops": part * flops, "seconds": part * facts["lm_seconds"],
            "brier_lm": score * (1 - math.exp(-4 * part)) / (1 - math.exp(-4)),
        }
        for part in (i / 8 for i in range(9))
    ]  # fmt: skip
    falls = [[part * steps, 5.0 - score / 10 - part + 0.1 * seed] for part in (i / 8 for i in range(1, 9))]
    return {
        "losses": {"training": falls, "held_out": [[step, loss + 0.2] for step, loss in falls[1::2]]},
        "seed": seed, "key": f"{label}{seed}", "run": f"runs/cells/{label}{seed}", "state": "done", "why": "",
        "chunk_size": chunk_size, "facts": facts, "evaluation": numbers | evaluation, "curve": points,
        "eval_rows": 16,
        "resolved": RESOLVED.format(label="made", seed=seed, chunk_size=chunk_size, head="flow", steps=steps),
        "sample": f"text by {label}\nseed {seed}\n", "git": "abc", "latents": latents,
    }  # fmt: skip


def undone(seed: int, state: str, why: str) -> dict[str, Any]:
    """A trial of another state; `short` ones have their numbers, as in results."""
    if state == "short":
        return made_trial("short", seed, 99.0) | {"state": state, "why": why}
    return {"seed": seed, "key": f"k{seed}", "run": f"runs/cells/k{seed}", "why": why, "state": state}


def made_cell(
    label: str, scores: Sequence[float], others: Sequence[dict[str, Any]] = (), **trial: Any
) -> dict[str, Any]:
    """A cell with a trial per score, seeds 1, 2, ..., and trials that are not done."""
    trials = [made_trial(label, seed, score, **trial) for seed, score in enumerate(scores, 1)]
    return {"label": label, "settings": {"model": label}, "trials": [*trials, *others]}


def made_results(
    cells: Sequence[dict[str, Any]], *, text: float | None = 0.3, primary: str = "brier_lm", **more: Any
) -> dict[str, Any]:
    """A study's results.

    Args:
        cells: Of `made_cell`; the first is the baseline.
        text: Half the width of every interval over the text, of means and of differences; None: unknown.
        primary: What is compared.
        more: Other keys.
    """
    higher = not primary.startswith("nll")
    cells = copy.deepcopy(list(cells))
    known = {
        cell["label"]: {t["seed"]: t["evaluation"][primary] for t in cell["trials"] if t["state"] == "done"}
        for cell in cells
    }
    labels = [label for label, values in known.items() if values]

    def apart(ours: str, theirs: str) -> Interval | None:
        seeds = sorted(set(known[ours]) & set(known[theirs]))
        return _with_text([known[ours][s] - known[theirs][s] for s in seeds], text) if seeds else None

    settled = [[0 if a == b or not (d := apart(a, b)) else (1 if higher else -1) * d.settled for b in labels]
               for a in labels]  # fmt: skip
    several = all(len(known[label]) > 1 for label in labels) and len(labels) > 1
    rank = dict(zip(labels, ranks(settled), strict=True)) if several else {}
    for cell in cells:
        label = cell["label"]
        values = list(known[label].values())
        cell["summary"] = {primary: _with_text(values, text).as_dict()} if values else {}
        found = apart(label, labels[0]) if values and label != labels[0] else None
        cell["difference"] = found.as_dict() if found else None
        cell["rank"] = list(rank[label]) if label in rank else None
    seeds = sorted({trial["seed"] for cell in cells for trial in cell["trials"]})
    return {
        "calmkit_results": 3, "study": "made", "path": "made.yaml", "description": "", "base": "tiny/k2",
        "overrides": [], "match": {"by": "train_flops", "value": 11e12, "unit": "FLOPs"}, "primary": primary,
        "higher_is_better": higher, "baseline": cells[0]["label"], "seeds": seeds, "commit": "abc123",
        "hardware": "a CPU, 2 threads", "train_seconds": 125.4, "machine_train_flops": 6e13, "cells": cells,
    } | more  # fmt: skip


def _with_text(values: Sequence[float], text: float | None) -> Interval:
    found = interval(list(values), None)
    if text is None:
        return found
    return Interval(
        found.mean, found.seeds, found.seed_low, found.seed_high, found.mean - text, found.mean + text
    )


def made_latents(dims: int = 16, active: int = 12, noise: float = 0.3, seed: int = 0) -> dict[str, Any]:
    """Diagnostics as `calmkit.text.keep_latents` writes them."""
    pick = random.Random(seed)
    spread = [1.2 - 0.9 * d / active if d < active else 0.02 for d in range(dims)]
    width = [noise if d < active else 0.98 for d in range(dims)]
    pick.shuffle(spread)
    texts = ["th", "e ", "\n ", "an", "d ", "of", " t", "in", "g ", "\x00é", "<b", "$x"]
    points = [
        {"x": pick.gauss(0, 2), "y": pick.gauss(0, 1), "text": texts[i % len(texts)]} for i in range(120)
    ]
    scales = (0.0, 0.1, 0.2, 0.4, 0.6, 1.0, 1.5, 2.0)
    curve = [
        {"scale": s, "token_accuracy": 0.997 / (1 + (s / (1 + noise)) ** 4), "chunk_accuracy": 0.9}
        for s in scales
    ]
    return {
        "units": 4096, "distinct_units": 1200, "token_accuracy": 0.9965, "chunk_accuracy": 0.99,
        "token_accuracy_mean": 0.999, "chunk_accuracy_mean": 0.998, "robustness": curve, "tolerance_99": 0.35,
        "tolerance_50": 1.2, "active_dims": active, "collapsed_dims": dims - active,
        "mean_std_per_dim": spread, "kl": 24.5, "kl_per_dim": [2.4 * s for s in spread], "kl_dead_dims": 2,
        "posterior_std": 0.4, "posterior_std_per_dim": width, "projection": points,
        "projection_variance": [0.21, 0.12], "path_changes": 1.4, "path_strangers": 0.31,
        "interpolation": [
            {"start": "th", "end": "of", "path": ["th", "th", "tf", "af", "of"]},
            {"start": "\n ", "end": "<b", "path": ["\n ", "\n ", "  ", "<i", "<b"]},
        ],
    }  # fmt: skip


def made_sampling(cells: Sequence[str]) -> dict[str, Any]:
    """A sampler alone and one at three settings, for each cell."""
    rows: list[dict[str, Any]] = []
    for shift, cell in enumerate(cells):
        stated: list[tuple[str, Mapping[str, Any]]] = [("direct", {})]
        stated += [("vote", {"temperature": 0.5, "candidates": n}) for n in (10, 50, 200)]
        for number, (name, settings) in enumerate(stated):
            label = " ".join([name, *(f"{key}={value}" for key, value in settings.items())])
            row = {
                "cell": cell, "sampler": label, "name": name, "stated": dict(settings), "units": 2048,
                "seeds": 3, "accuracy": 8.0 + 2 * number + shift, "accuracy_se": 0.4,
                "collision": 9.0 + 6 * number + shift, "collision_se": 0.3, "brier_lm": 5.0,
                "brier_lm_seed_low": 3.0, "brier_lm_seed_high": 7.0, "brier_lm_text_low": 4.0,
                "brier_lm_text_high": 6.0,
                "draws_per_unit": float(settings.get("candidates", 1)), "network_calls_per_unit": None,
                "mean_level": 1.5, "fallback_share": 0.0,
            }  # fmt: skip
            rows.append(row)
    return {
        "units": 2048,
        "rows": rows,
        "left_out": [{"cell": cells[0], "sampler": "greedy", "why": "tired"}],
    }


def made_blocks(cells: Sequence[str]) -> list[dict[str, Any]]:
    """Scores that grow with the length."""
    return [
        {"cell": cell, "block_tokens": length, "seeds": 3, "context_tokens": length / 2 - 1, "units": 8000.0,
         "brier_lm": 4 + shift + 0.02 * length ** 0.8, "seed_low": 3 + shift + 0.02 * length ** 0.8,
         "seed_high": 5 + shift + 0.02 * length ** 0.8, "text_low": 3.6 + shift + 0.02 * length ** 0.8,
         "text_high": 4.4 + shift + 0.02 * length ** 0.8}
        for shift, cell in enumerate(cells) for length in (16, 32, 64, 128, 256)
    ]  # fmt: skip


def rich_results() -> dict[str, Any]:
    """Everything that results can hold, with names that are hard on every format."""
    calm, point = made_latents(), made_latents(16, 16, 0.05, seed=1)
    cells = [
        made_cell("energy", [4.9, 5.3, 5.1], latents=calm, token_flops=6.2e5, speed=1329.0),
        made_cell("flow", [6.1, 6.9, 6.2], [], latents=calm, token_flops=1.9e6, speed=349.0),
        made_cell("diffusion", [5.8, 5.2], [undone(3, "short", "it paid 7.1e+12 of 1.1e+13 FLOPs")],
                  latents=calm, token_flops=1.9e6, speed=338.0),
        made_cell("mixture", [10.9, 11.3, 11.0], latents=point, token_flops=6.5e5, speed=1519.0,
                  nll_bound_per_token=4.27),
        made_cell("<b>bold</b> & a_b$c$ 100% of a long name", [0.4, 0.1],
                  [undone(3, "failed", "exit code 1")], latents=point, token_flops=5.5e5, speed=1600.0),
        made_cell("softmax", [15.9, 16.4, 15.6], chunk_size=1, token_flops=1.1e6, speed=698.0,
                  nll_per_token=1.607),
    ]  # fmt: skip
    labels = [cell["label"] for cell in cells]
    return made_results(
        cells, description="Six models <script>alert(1)</script> & more.",
        sampling=made_sampling(labels[:2]), blocks=made_blocks([labels[0], labels[-1]]),
        versions={"calmkit": "0.1.0", "torch": "2.14.1"},
    )  # fmt: skip
