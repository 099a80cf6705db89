"""MLflow: a run in a database under the run folder, or in a store of the user's.

MLflow 3 refuses its old store of plain files (`file:`) unless an environment variable allows it, so the local
store is SQLite.

Source: https://mlflow.org/docs/latest/tracking.html
"""

from __future__ import annotations

import logging
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

from calmkit.recipe.dump import flat
from calmkit.recipe.loggers import MlflowSettings
from calmkit.training.diaries.diary import About, Diary, Point

MOST_METRICS, MOST_PARAMS, LONGEST = 1000, 100, 6000
"""What MLflow takes at once, and of a value. Source: its REST API, `runs/log-batch`."""

STATUS = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


@final
class MlflowDiary(Diary):
    """A run of MLflow. A setting that a run changes on its way becomes a tag: parameters can't be changed.

    Args:
        settings: Of the recipe.
    """

    def __init__(self, settings: MlflowSettings) -> None:
        self.settings = settings
        self.client: Any = None
        self.run_id = ""

    def begin(self, about: About, kept: Mapping[str, Any]) -> Mapping[str, Any]:
        """The run, new or gone on with; the recipe is its parameters."""
        with _quiet():
            from mlflow import MlflowClient

            folder = about.folder / "mlflow"
            if self.settings.uri is None:
                folder.mkdir(parents=True, exist_ok=True)
            self.client = MlflowClient(self.settings.uri or f"sqlite:///{folder / 'mlflow.db'}")
            if "run_id" in kept:
                self.run_id = kept["run_id"]
                self.client.update_run(self.run_id, status="RUNNING")
            else:
                place = None if self.settings.uri else (folder / "artifacts").as_uri()
                run = self.client.create_run(self._experiment(place), run_name=about.name)
                self.run_id = run.info.run_id
            self._params({_key(key): str(value)[:LONGEST] for key, value in flat(about.recipe).items()})
        return {"run_id": self.run_id}

    def write(self, points: Sequence[Point]) -> None:
        """Every metric of every point, with the time it was logged at."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, float(value), round(1000 * point.seconds), point.step)
            for point in points
            for name, value in point.metrics.items()
        ]
        self._write(metrics)

    def flush(self) -> None:
        """Nothing: each batch is written when it is taken."""

    def finish(self, numbers: Mapping[str, float], step: int) -> None:
        """As metrics of one step."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        self._write([Metric(name, float(value), now, step) for name, value in numbers.items()])

    def close(self, ended: str) -> None:
        """Its status."""
        self.client.set_terminated(self.run_id, STATUS[ended])

    def _experiment(self, place: str | None) -> str:
        found = self.client.get_experiment_by_name(self.settings.experiment)
        if found is not None:
            return found.experiment_id
        return self.client.create_experiment(self.settings.experiment, artifact_location=place)

    def _params(self, wished: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        there = self.client.get_run(self.run_id).data.params
        new = [Param(key, value) for key, value in wished.items() if key not in there]
        for first in range(0, len(new), MOST_PARAMS):
            self.client.log_batch(self.run_id, params=new[first : first + MOST_PARAMS])
        for key, value in wished.items():
            if key in there and there[key] != value:
                self.client.set_tag(self.run_id, f"changed.{key}", value)

    def _write(self, metrics: list[Any]) -> None:
        for first in range(0, len(metrics), MOST_METRICS):
            self.client.log_batch(self.run_id, metrics=metrics[first : first + MOST_METRICS])


def _key(name: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what it reports of its use, and says of the tables it makes and of libraries that it is built
    on.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        import mlflow  # which sets its level anew

        for name in (mlflow.__name__, "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        yield
