"""`evaluation.metrics`: names, or names with settings; read back as written; refused at their place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torchmetrics
from small_runs import small_recipe, workshop

from calmkit.interfaces import HeldOut, HeldOutMeasure, MeasureInfo, Number
from calmkit.recipe.dump import to_yaml
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe
from calmkit.recipe.parts import build_metrics
from calmkit.recipe.schema import PartSpec
from calmkit.registry import Manager, Part, make_manager


class Wide(HeldOutMeasure):
    """Two settings, one of a name of its own."""

    info = MeasureInfo(Number("wide", better="lower", meaning="Nothing."))

    def __init__(self, *, factor: float = 1.0, num: int | None = None) -> None:
        self.factor, self.num = factor, num

    def metric(self) -> torchmetrics.Metric:
        raise AssertionError("never called")

    def update(self, metric: torchmetrics.Metric, held: HeldOut) -> None:
        raise AssertionError("never called")


def house() -> Manager:
    manager = make_manager([])
    manager.parts["metrics"] |= {name: Part("metrics", name, Wide, "guest") for name in ("wide", "other")}
    return manager


MANAGER = house()
DEFAULT = PartSpec("wide", {"factor": 1.0, "num": None})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    with workshop(tmp_path):
        yield tmp_path


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("wide", (DEFAULT,)),
        ("[]", ()),
        ("[wide]", (DEFAULT,)),
        (
            "[{name: wide, num: 3}, other]",
            (PartSpec("wide", {"factor": 1.0, "num": 3}), PartSpec("other", DEFAULT.options)),
        ),
    ],
)
def test_what_is_said_is_read_and_written(folder: Path, said: str, read: tuple[PartSpec, ...]) -> None:
    recipe = small_recipe(folder, f"evaluation.metrics={said}", manager=MANAGER)
    assert recipe.evaluation.metrics == read
    (folder / "again.yaml").write_text(to_yaml(recipe))
    assert load_recipe(folder / "again.yaml", manager=MANAGER) == recipe
    assert {name: type(one) for name, one in build_metrics(recipe, MANAGER).items()} == {
        spec.name: Wide for spec in read
    }


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "[wid]",
            "CK120]: unknown metric 'wid'\n.*did you mean 'wide'?  metrics: bar_copy, bar_gaussian, brier, ",
        ),
        ("[{name: wide, fac: 2}]", "CK130]: unknown key 'fac' of metric 'wide'.*did you mean 'factor'?"),
        ("[{name: wide, factor: x}]", "CK132]: evaluation.metrics.factor must be a number, got 'x'"),
        ("[{factor: 2}]", "CK131]: evaluation.metrics needs 'name'"),
        ("[[wide]]", "CK132]: evaluation.metrics must be a name, or a mapping of a name and settings"),
        ("{wide: 3}", "CK132]: evaluation.metrics must be a list such as [a, {name: b, setting: 1}]"),
        ("null", "CK132]: evaluation.metrics must be a list such as"),
        ("[wide, {name: wide}]", "CK133]: the metric 'wide' stands twice"),
    ],
)
def test_what_no_metric_is_is_refused_at_its_place(folder: Path, said: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        small_recipe(folder, f"evaluation.metrics={said}", manager=MANAGER)
    text = str(caught.value)
    for part in told.split(".*"):
        assert part in text
    assert f"--> command line (evaluation.metrics={said})" in text
