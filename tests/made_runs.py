"""Folders of finished runs, by hand: their files without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from made_results import made_trial

from calmkit.text.metrics.described import COLUMNS
from calmkit.training.groups import groups_file
from calmkit.training.protocol import Protocol

RECIPE = """\
calmkit: 1
name: {name}
description: '{description}'
seed: {seed}
data: {{name: text, train: {data}, sequence_length: 256}}
autoencoder: {{name: vae, chunk_size: 2}}
head: {{name: {head}, depth: {depth}}}
stages: {{autoencoder: {{init_from: {built_on}}}, lm: {{max_steps: {steps}, optimizer: {{lr: {lr}}}}}}}
evaluation: {{draws: {draws}, max_rows: {rows}}}
loggers: [{loggers}]
"""


def made_run(folder: Path, score: float = 5.0, seed: int = 1, **recipe: Any) -> Path:
    """A finished run's files, without a model; twelve documents that all score the same."""
    said = {"name": "mine", "head": "energy", "depth": 3, "steps": 400, "lr": 0.001, "data": "a.txt",
            "draws": 2, "rows": 128, "loggers": "csv", "built_on": "null", "text": "f00d",
            "flops": 8e12, "description": "A recipe."}  # fmt: skip
    said |= recipe
    trial = made_trial("r", seed, score, flops=said["flops"])
    (folder / "model").mkdir(parents=True)
    (folder / "resolved.yaml").write_text(RECIPE.format(seed=seed, **said))
    (folder / "lock.yaml").write_text(
        f'data: {json.dumps(said["text"])}\ngit: "abc"\nversions:\n  torch: 2.14.1\n'
    )
    (folder / "model" / "config.json").write_text(json.dumps(trial["facts"]))
    how = (said["rows"], said["draws"], "direct()", "32-true", "cpu")
    protocol = Protocol(said["text"], 256, *how, length="tokens")
    made_evaluation(folder, "evaluation.json", score, protocol)
    (folder / "samples.txt").write_text("text\n")
    return folder


def made_evaluation(folder: Path, name: str, score: float, protocol: Protocol) -> None:
    """Scores of a run by a protocol, and its table by document."""
    numbers = made_trial("r", 1, score)["evaluation"] | {"protocol": protocol.as_dict()}
    (folder / name).write_text(json.dumps(numbers))
    share = score / 100
    line = [2 * share] * 4 + [3 * share] * 4 + [1.0]  # 2 accuracy - collision = share, of every length
    rows = [",".join(map(str, [number, *line])) for number in range(12)]
    groups_file(folder / name, "document").write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
