"""Each library by itself: a run that is stopped, killed and gone on with is in it once, as in `metrics.csv`.

A library that is not installed is skipped: pip install "calmkit[tensorboard,wandb,mlflow,trackio]".
"""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from small_runs import TINY, go_on, small_run, stopped, workshop
from torch import Tensor

from calmkit.registry import make_manager
from calmkit.training.run import Run
from calmkit.training.stages import ModelModule, StageModule

Curves = dict[str, list[tuple[int, float]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("diaries")) as folder:
        yield folder


def read_csv(run: Path) -> Curves:
    curves: Curves = {}
    with (run / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for name in row:
                if "/" in name and row[name]:
                    curves.setdefault(name, []).append((int(row["step"]), float(row[name])))
    return curves


def read_tensorboard(run: Path) -> tuple[Curves, dict[str, float], dict[str, Any]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves: Curves = {}
    root = run / "tensorboard"
    for folder in sorted({path.parent for path in root.rglob("events.*")}):
        read = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        read.Reload()
        for name in read.Tags()["scalars"]:
            assert name not in curves
            curves[name] = [(event.step, event.value) for event in read.Scalars(name)]
        if folder == root:
            assert "recipe/text_summary" in read.Tags()["tensors"]
            content = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    told = HParamsPluginData.FromString(content).session_start_info.hparams
    final = {name: curves[name] for name in curves if name.startswith("final/")}
    assert all(len(points) == 1 for points in final.values())
    numbers = {name: points[0][1] for name, points in final.items()}
    return curves, numbers, {"head.num_draws": told["head.num_draws"].number_value}


def wandb_records(data: bytes) -> Iterator[bytes]:
    """A header of 7 bytes, then blocks of 32 KiB of pieces: 4 bytes of checksum, 2 of length, and whether the
    piece is all of a record (1), its first (2), one between (3) or its last (4).

    Source: https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    assert data[:4] == b":W&B"
    at, record = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # what is left of a block and has no room for a piece
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def read_wandb(run: Path) -> tuple[Curves, dict[str, float], dict[str, Any]]:
    from wandb.proto import wandb_internal_pb2

    curves: Curves = {}
    final: dict[str, float] = {}
    config: dict[str, Any] = {}
    ids, numbers = set(), []
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        for data in wandb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            ids |= {record.run.run_id} - {""}
            config |= {item.key: json.loads(item.value_json) for item in record.config.update}
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            for item in record.summary.update:
                final["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
            line = {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                for item in record.history.item
            }
            if line:
                numbers.append(line["_step"])
                stage = next(name.split("/")[0] for name in line if name.endswith("/step"))
                for name, value in line.items():
                    if name.startswith(f"{stage}/") and name != f"{stage}/step":
                        curves.setdefault(name, []).append((line[f"{stage}/step"], value))
    assert len(ids) == 1
    assert numbers == list(range(1, len(numbers) + 1))  # wandb's own step, which only grows
    return curves, final, {"head.num_draws": config["head"]["num_draws"]}


def read_mlflow(run: Path) -> tuple[Curves, dict[str, float], dict[str, Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("calmkit")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("small", "FINISHED")
    curves: Curves = {}
    for name in found.data.metrics:
        history = client.get_metric_history(found.info.run_id, name)
        curves[name] = [(point.step, point.value) for point in history]
    final = {name: value for name, value in found.data.metrics.items() if name.startswith("final/")}
    return curves, final, {"head.num_draws": int(found.data.params["head.num_draws"])}


def read_trackio(run: Path) -> tuple[Curves, dict[str, float], dict[str, Any]]:
    base = sqlite3.connect(run / "trackio" / "calmkit.db")
    rows = base.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
    configs = base.execute("SELECT config FROM configs").fetchall()
    base.close()
    assert len({name for name, _, _ in rows}) == 1
    curves: Curves = {}
    for _, step, metrics in rows:
        for name, value in json.loads(metrics).items():
            curves.setdefault(name, []).append((step, value))
    final = {name: points[-1][1] for name, points in curves.items() if name.startswith("final/")}
    (config,) = (json.loads(text) for (text,) in configs)
    return curves, final, {"head.num_draws": config["head"]["num_draws"]}


READ: dict[str, Callable[[Path], tuple[Curves, dict[str, float], dict[str, Any]]]] = {
    "tensorboard": read_tensorboard,
    "wandb": read_wandb,
    "mlflow": read_mlflow,
    "trackio": read_trackio,
}


def killed(monkeypatch: pytest.MonkeyPatch, step: int, begin: Callable[[], Run]) -> None:
    """Stage 2 ends in its step of that number without a word: what was logged behind its last checkpoint is
    logged already, and is not kept.
    """
    take = ModelModule.training_step

    def end(module: StageModule, batch: Any, batch_idx: int) -> Tensor:
        if module.global_step == step:
            raise MemoryError("killed")
        return take(module, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ModelModule, "training_step", end)
        with pytest.raises(MemoryError, match="killed"):
            begin()


@pytest.mark.parametrize("name", sorted(READ))
def test_what_is_stopped_killed_and_gone_on_with_is_there_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(folder / "trackio" / "trackio"))  # read when it is imported
    pytest.importorskip(name, reason=f'{name} is not installed: pip install "calmkit[{name}]"')
    run, said, manager = folder / name, list[str](), make_manager(guests=[])
    asked = [*TINY, "trainer.log_every=1", f"loggers=[csv, {name}]"]
    stopped(small_run, "autoencoder", 4, folder, name, *asked, say=said.append, manager=manager)
    again = partial(go_on, run, say=said.append, manager=manager)
    killed(monkeypatch, 5, again)  # its last checkpoint is that of step 3, before a validation
    done = again()
    assert not [line for line in said if "logger" in line]
    curves, final, told = READ[name](run)
    wanted = read_csv(run)
    assert [step for step, _ in wanted["lm/train/loss"]] == [*range(8)]
    assert [step for step, _ in wanted["lm/val/loss"]] == [2, 5]
    for metric, points in wanted.items():
        assert [step for step, _ in curves[metric]] == [step for step, _ in points], metric
        assert [value for _, value in curves[metric]] == pytest.approx([value for _, value in points])
    others = {metric for metric in curves if metric not in wanted and not metric.startswith("final/")}
    assert others == set()
    for score in ("loss", "brier_lm", "reconstruction_token_accuracy"):
        assert final[f"final/{score}"] == pytest.approx(done.evaluation[score])
    assert told == {"head.num_draws": 4}
