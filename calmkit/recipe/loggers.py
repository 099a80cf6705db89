"""loggers: the names that `loggers` of a recipe may hold, and what may be set of each.

The constructor of a class is the schema of its settings, as with parts; what writes is in `calmkit.training`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from calmkit.registry import Manager, Part

LOGGERS = "loggers"


@final
@dataclass(frozen=True, kw_only=True)
class CsvSettings:
    """`metrics.csv` in the run folder."""


@final
@dataclass(frozen=True, kw_only=True)
class TensorBoardSettings:
    """Event files under `tensorboard/` in the run folder.

    Source: https://www.tensorflow.org/tensorboard
    """


@final
@dataclass(frozen=True, kw_only=True)
class WandbSettings:
    """Weights & Biases, under `wandb/` in the run folder, and on its server where it may be reached.

    Attributes:
        project: Under which it shows the run.
        entity: The team or user that it belongs to; null: the one that is logged in.
        offline: Nothing leaves the machine; `wandb sync` sends it later.

    Source: https://docs.wandb.ai/ref/python/init
    """

    project: str = "calmkit"
    entity: str | None = None
    offline: bool = True


@final
@dataclass(frozen=True, kw_only=True)
class MlflowSettings:
    """MLflow, in the database `mlflow/mlflow.db` in the run folder.

    Attributes:
        experiment: Under which it shows the run.
        uri: A tracking store or server for several runs, such as sqlite:////data/mlflow.db; null: in the run
            folder.

    Source: https://mlflow.org/docs/latest/tracking.html
    """

    experiment: str = "calmkit"
    uri: str | None = None


@final
@dataclass(frozen=True, kw_only=True)
class TrackioSettings:
    """Trackio, in a database under `trackio/` in the run folder; nothing leaves the machine.

    Attributes:
        project: Under which it shows the run.
        folder: Of the database, for several runs in one dashboard; null: `trackio` in the run folder.

    Source: https://huggingface.co/docs/trackio
    """

    project: str = "calmkit"
    folder: str | None = None


KNOWN: Mapping[str, Part] = {
    name: Part(LOGGERS, name, cls, "calmkit")
    for name, cls in {
        "csv": CsvSettings,
        "tensorboard": TensorBoardSettings,
        "wandb": WandbSettings,
        "mlflow": MlflowSettings,
        "trackio": TrackioSettings,
    }.items()
}


def parts_of(kind: str, manager: Manager) -> Mapping[str, Part]:
    """The parts of a kind by name; loggers are calmkit's own."""
    return KNOWN if kind == LOGGERS else manager.parts[kind]
