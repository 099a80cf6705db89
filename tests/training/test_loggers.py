"""Loggers by name. A diary is given each point once, and no training is lost over one that fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only
from small_runs import SHORT, small_recipe, small_run, workshop

from calmkit.recipe.loggers import KNOWN
from calmkit.recipe.schema import PartSpec
from calmkit.sums import begin_sums
from calmkit.training import loggers as loggers_module
from calmkit.training.checkpoints import write_json
from calmkit.training.diaries.diary import About, Diary, Point
from calmkit.training.diary_logger import KEPT, DiaryLogger
from calmkit.training.errors import RunFailed, Stopped
from calmkit.training.loggers import close_all, finish_all, make_loggers
from calmkit.training.metrics_file import MetricsFile
from calmkit.training.resume import Resumed
from calmkit.training.run import Run
from calmkit.training.snapshots import Snapshot


@final
class Pages(Diary):
    """A diary in memory, which fails where it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.done = fails, list[Any]()

    def take(self, what: str, *told: Any) -> None:
        self.done.append((what, *told))
        if what == self.fails:
            raise ConnectionError("the server\nis away")

    def begin(self, about: About, kept: Mapping[str, Any]) -> Mapping[str, Any]:
        self.take("begin", about.name, dict(kept))
        return {"id": "a"}

    def write(self, points: Sequence[Point]) -> None:
        self.take("write", *((p.number, p.group, p.step, dict(p.metrics)) for p in points))

    def flush(self) -> None:
        self.take("flush")

    def finish(self, numbers: Mapping[str, float], step: int) -> None:
        self.take("finish", dict(numbers), step)

    def close(self, ended: str) -> None:
        self.take("close", ended)


def goes_on_nowhere(group: str) -> int | None:
    del group
    return None


def logger_of(folder: Path, diary: Diary, say: Callable[[str], None] = lambda line: None) -> DiaryLogger:
    return DiaryLogger("pages", diary, About(folder, "mine", {"seed": 1}, "seed: 1\n", goes_on_nowhere), say)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("loggers")) as folder:
        yield folder


def test_they_come_by_name_in_their_order_with_their_settings(folder: Path, tmp_path: Path) -> None:
    recipe = small_recipe(folder, "loggers=[csv, {name: wandb, project: p}, trackio, mlflow, tensorboard]")
    made = make_loggers(recipe, tmp_path, goes_on_nowhere, print)
    assert isinstance(made[0], MetricsFile)
    assert [logger.name for logger in made[1:]] == ["wandb", "trackio", "mlflow", "tensorboard"]
    assert made[1].diary.settings == KNOWN["wandb"].cls(project="p", entity=None, offline=True)
    assert not list(tmp_path.iterdir())  # nothing is opened before its first point


def test_csv_writes_into_the_run_folder(folder: Path, tmp_path: Path) -> None:
    assert small_recipe(folder).loggers == (PartSpec("csv"),)
    (made,) = make_loggers(small_recipe(folder), tmp_path, goes_on_nowhere, print)
    made.log_metrics({"a": 1.5}, step=3)
    made.save()
    assert (tmp_path / "metrics.csv").read_text().split() == ["a,step", "1.5,3"]
    assert make_loggers(small_recipe(folder, "loggers=[]"), tmp_path, goes_on_nowhere, print) == []


def test_a_diary_gets_a_point_when_it_is_kept(tmp_path: Path) -> None:
    """By hand. A metric without a stage gets that of its neighbours."""
    pages = Pages()
    logger = logger_of(tmp_path, pages)
    logger.log_metrics({"lm/train/loss": torch.tensor(2.5), "lr": 0.5, "epoch": 0}, step=0)
    logger.save()
    assert pages.done == []
    logger.keep()
    point = (1, "lm/train", 0, {"lm/train/loss": 2.5, "lm/train/lr": 0.5})
    assert pages.done == [("begin", "mine", {}), ("write", point), ("flush",)]
    logger.log_metrics({"lm/val/loss": 3.0}, step=0)
    logger.finish({"loss": 4.0}, 1)
    logger.close("done")
    assert pages.done[3:] == [
        ("write", (2, "lm/val", 0, {"lm/val/loss": 3.0})),
        ("flush",),
        ("finish", {"final/loss": 4.0}, 1),
        ("flush",),
        ("close", "done"),
    ]


def test_what_is_not_kept_is_not_written(tmp_path: Path) -> None:
    pages = Pages()
    logger = logger_of(tmp_path, pages)
    logger.log_metrics({"lm/train/loss": 1.0}, step=0)
    logger.close("failed")
    assert pages.done == []
    assert not (tmp_path / KEPT).exists()


def test_a_run_killed_between_a_diary_and_its_checkpoint_gives_no_point_twice(tmp_path: Path) -> None:
    """Steps 0 to 2 are given, the checkpoint behind step 1 is the last that is whole."""
    first = logger_of(tmp_path, Pages())
    for step in range(3):
        first.log_metrics({"lm/train/loss": float(step)}, step=step)
    first.keep()
    pages = Pages()
    again = logger_of(tmp_path, pages)
    for step in range(1, 5):
        again.log_metrics({"lm/train/loss": float(step)}, step=step)
    again.log_metrics({"lm/val/loss": 7.0}, step=1)
    again.keep()
    assert pages.done[0] == ("begin", "mine", {"id": "a"})
    assert [told[:3] for told in pages.done[1][1:]] == [
        (4, "lm/train", 3),
        (5, "lm/train", 4),
        (6, "lm/val", 1),
    ]


@pytest.mark.parametrize("what", ["begin", "write", "flush", "finish", "close"])
def test_a_diary_that_fails_is_said_once_and_left_alone(tmp_path: Path, what: str) -> None:
    said: list[str] = []
    pages = Pages(what)
    logger = logger_of(tmp_path, pages, said.append)
    for step in range(2):
        logger.log_metrics({"lm/train/loss": 1.0}, step=step)
        logger.keep()
    logger.finish({"loss": 1.0}, 2)
    logger.close("done")
    assert said == [
        "warning: the logger 'pages' failed, and gets nothing more until the run is taken up again: "
        "ConnectionError: the server is away"
    ]
    assert [name for name, *_ in pages.done].count(what) == 1
    assert pages.done[-1][0] == what


def test_a_run_trains_to_its_end_over_a_diary_that_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calmkit.training.environment.is_installed", lambda module: True)
    diaries = {"mlflow": lambda settings: Pages("write"), "wandb": lambda settings: pages}
    monkeypatch.setattr(loggers_module, "DIARIES", diaries)
    pages, said = Pages(), list[str]()
    run = small_run(folder, "failing", *SHORT, "loggers=[csv, mlflow, wandb]", say=said.append)
    assert len([line for line in said if line.startswith("warning: the logger 'mlflow' failed")]) == 1
    assert said[-1].startswith("done: ")
    assert list(json.loads((run.folder / KEPT).read_text())) == ["wandb"]
    finished = next(told for told in pages.done if told[0] == "finish")
    assert finished[1]["final/brier_lm"] == run.evaluation["brier_lm"]
    assert finished[2] == 2
    assert pages.done[-1] == ("close", "done")


def test_the_numbers_of_an_autoencoder_alone_are_those_of_its_reconstruction(
    folder: Path, tmp_path: Path
) -> None:
    recipe = small_recipe(folder, "stages.lm=null")
    pages = Pages()
    finish_all([logger_of(tmp_path, pages)], Run(tmp_path), recipe)
    assert ("finish", {}, 50) in pages.done  # nothing was there to be trained
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"reconstruction": {"token_accuracy": 0.5}}')
    finish_all([logger_of(tmp_path, pages)], Run(tmp_path), recipe)
    assert ("finish", {"final/reconstruction_token_accuracy": 0.5}, 50) in pages.done


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (None, "done"),
        (RunFailed(""), "failed"),
        (Stopped("", 75), "stopped"),
        (KeyboardInterrupt(), "stopped"),
    ],
)
def test_how_a_run_ended_is_told(tmp_path: Path, error: BaseException | None, ended: str) -> None:
    pages = Pages()
    logger = logger_of(tmp_path, pages)
    logger.log_metrics({"lm/train/loss": 1.0}, step=0)
    logger.keep()
    close_all([logger, MetricsFile(tmp_path)], error)
    assert pages.done[-1] == ("close", ended)


def test_the_first_process_alone_writes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others come to the end before it has written what it measured."""
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    pages = Pages()
    logger = logger_of(tmp_path, pages)
    logger.log_metrics({"lm/train/loss": 1.0}, step=0)
    logger.keep()
    logger.finish({"loss": 1.0}, 1)
    finish_all([logger], Run(tmp_path), small_recipe(folder))
    logger.close("done")
    assert pages.done == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"pages": 3}',
        '{"pages": {"run": {"id": 3}}}',
        '{"pages": {"given": {"lm/train": "x"}}}',
        '{"pages": {"points": 1.5}}',
    ],
)
def test_a_damaged_file_of_ids_is_named_before_anything_is_trained(tmp_path: Path, text: str) -> None:
    (tmp_path / KEPT).write_text(text)
    with pytest.raises(RunFailed, match=r"loggers\.json is damaged \(.*Delete it"):
        logger_of(tmp_path, Pages())


def test_a_bit_that_flipped_in_the_file_of_ids_is_found(tmp_path: Path) -> None:
    """It would be sound still, and steps would be left out of the diary."""
    begin_sums(tmp_path)
    write_json(tmp_path / KEPT, {"mine": {"given": {"lm/train": 12}}})
    logger_of(tmp_path, Pages())
    path = tmp_path / KEPT
    path.write_text(path.read_text().replace("12", "92"))
    with pytest.raises(RunFailed, match=r"loggers\.json was cut or altered"):
        logger_of(tmp_path, Pages())


def snapshot(stage: str, step: int) -> Snapshot:
    return Snapshot(stage, step, 0, {}, {})


@pytest.mark.parametrize(
    ("resumed", "steps"),
    [
        (Resumed(), (0, 0, 0, 0)),
        (Resumed({"autoencoder": snapshot("autoencoder", 4)}), (4, 3, 0, 0)),
        (Resumed({"autoencoder": snapshot("autoencoder", 6)}, encoded=True), (None, None, 0, 0)),
        (Resumed({"lm": snapshot("lm", 4)}, encoded=True), (None, None, 4, 3)),
        (Resumed({"lm": snapshot("lm", 0)}, encoded=True), (None, None, 0, 0)),
        (Resumed({"lm": snapshot("lm", 8)}, encoded=True, trained=True), (None,) * 4),
    ],
)
def test_where_each_group_of_metrics_goes_on(resumed: Resumed, steps: tuple[int | None, ...]) -> None:
    groups = [f"{stage}/{what}" for stage in ("autoencoder", "lm") for what in ("train", "val")]
    assert tuple(map(resumed.goes_on, groups)) == steps
