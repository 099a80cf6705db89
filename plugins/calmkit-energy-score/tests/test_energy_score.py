"""The metric on its own, its contract and its door; then from a recipe to a ranking, calmkit as it is."""

from __future__ import annotations

import csv
import json
import math
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from calmkit_energy_score import EnergyScore

import calmkit
from calmkit.registry import Manager, make_manager
from calmkit.testing import check_measure, units_by_hand

RECIPE = """\
calmkit: 1
name: small
data: {name: text, train: corpus.jsonl, valid_fraction: 0.3, sequence_length: 32}
tokenizer: {name: bytes}
autoencoder: {name: vae, chunk_size: 4, latent_dim: 8, hidden_dim: 16}
backbone: {name: gru, hidden_dim: 16, depth: 1}
head: {name: energy, num_draws: 4, num_targets: 8}
stages:
  autoencoder: {max_steps: 2, batch_size: 8}
  lm: {max_steps: 2, batch_size: 8}
evaluation: {draws: 3, max_rows: 16, untrained: false, sample_tokens: 16, metrics: [energy_score]}
trainer: {accelerator: cpu, devices: 1, precision: 32-true}
"""


def score(draws: list[list[float]], target: list[float], **settings: float) -> dict[str, float]:
    """Of one unit."""
    held = units_by_hand(torch.tensor(draws).unsqueeze(1), torch.tensor([target]))
    measure = EnergyScore(**settings)  # type: ignore[arg-type]
    metric = measure.metric()
    measure.update(metric, held)
    found = metric.compute()
    return {"energy": float(found[""]), "crps": float(found["crps"])}


@pytest.mark.parametrize("settings", [{}, {"exponent": 1.5}, {"num_draws": 8, "num_targets": 2}])
def test_contract(settings: dict[str, float]) -> None:
    check_measure(EnergyScore, **settings)


def test_one_unit_by_hand() -> None:
    # draws (0, 0) and (3, 4), truth (3, 0): distances 3 and 4, mean 3.5; 5 among the draws, half of it 2.5
    found = score([[0.0, 0.0], [3.0, 4.0]], [3.0, 0.0])
    assert found["energy"] == pytest.approx(1.0)
    # first dimension (3 + 0) / 2 - 3 / 2 = 0, second (0 + 4) / 2 - 4 / 2 = 0
    assert found["crps"] == pytest.approx(0.0, abs=1e-6)


def test_the_exponent_by_hand() -> None:
    # roots: (2 + 0) / 2 - 2 / 2 = 0; of draws 0, 0, 4 against 4: (2 + 2 + 0) / 3 - (0 + 2 + 2) / 6 = 2 / 3
    assert score([[0.0], [4.0]], [4.0], exponent=0.5)["energy"] == pytest.approx(0.0, abs=1e-6)
    found = score([[0.0], [0.0], [4.0]], [4.0], exponent=0.5)
    assert found["energy"] == pytest.approx(2 / 3)
    assert found["crps"] == pytest.approx(2 * 4 / 3 - (0 + 4 + 4) / 6)  # its exponent is always 1


def test_many_draws_meet_the_closed_form_of_a_gaussian() -> None:
    """CRPS of N(0, 1) at y is y (2 F(y) - 1) + 2 f(y) - 1 / sqrt(pi)."""
    draws = torch.randn(4000, 1, 1, generator=torch.Generator().manual_seed(0))
    y = 0.7
    cumulative, density = (
        0.5 * (1 + math.erf(y / math.sqrt(2))),
        math.exp(-y * y / 2) / math.sqrt(2 * math.pi),
    )
    exact = y * (2 * cumulative - 1) + 2 * density - 1 / math.sqrt(math.pi)
    found = score(draws[:, 0].tolist(), [y])
    assert found["crps"] == pytest.approx(exact, abs=0.03)
    assert found["energy"] == pytest.approx(found["crps"], rel=1e-5)  # one dimension: the same number


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_draws": 1}, "num_draws must be at least 2, got 1"),
        ({"num_targets": 0}, "num_targets must be at least 1, got 0"),
        ({"exponent": 2.0}, r"exponent must lie in \(0, 2\), got 2.0"),
    ],
)
def test_an_impossible_setting_is_refused(settings: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=f"energy_score: {told}"):
        EnergyScore(**settings)  # type: ignore[arg-type]


def installed() -> Manager:
    """The house with this guest, by the entry point that its pyproject states."""
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8")
    ((name, value),) = tomllib.loads(text)["project"]["entry-points"]["calmkit"].items()
    return make_manager([EntryPoint(name, value, "calmkit")])


def test_the_entry_point_of_pyproject_opens_the_door() -> None:
    manager = installed()
    assert manager.rejected == []
    assert manager.find("metrics", "energy_score").cls is EnergyScore
    assert {"energy_score", "energy_score_crps"} <= manager.numbers().keys()


def test_from_a_recipe_to_a_ranking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, measure again with other settings, compare, in the words and the direction of the guest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALMKIT_CACHE", str(tmp_path / "cache"))
    lines = [json.dumps({"text": f"the cat saw {number} red hens and sat " * 6}) for number in range(60)]
    Path("corpus.jsonl").write_text("\n".join(lines) + "\n")
    Path("small.yaml").write_text(RECIPE)
    manager, runs = installed(), []
    for head in ("energy", "mixture", "regression"):
        recipe = calmkit.load_recipe("small.yaml", [f"head={head}"], manager)
        runs.append(calmkit.train(recipe, out=tmp_path / head, say=lambda line: None, manager=manager))
    first = runs[0].evaluation
    assert first["energy_score_low"] < first["energy_score"] < first["energy_score_high"]
    assert first["energy_score_settings"] == "num_draws=None, num_targets=16, exponent=1.0"

    table = runs[0].folder / "evaluation-documents-energy_score.csv"
    with table.open(newline="") as file:
        documents = list(csv.DictReader(file))
    total = sum(float(line["energy_score"]) for line in documents)
    assert total / sum(float(line["units"]) for line in documents) == pytest.approx(first["energy_score"])

    found = calmkit.compare(runs, primary="energy_score", manager=manager)
    scores = {run.folder.name: run.evaluation["energy_score"] for run in runs}
    best = min(scores, key=scores.__getitem__)
    text = found.text()
    assert "energy score, latent units as the runs were set up" in text
    assert "less is better" in text
    assert f"{best} has the lowest mean, energy score {scores[best]:.3f} latent units" in text
    assert "proper score" in text
    assert found.results["cells"][0]["summary"]["energy_score"]["text_low"] is not None
    for form in (found.latex(), found.markdown(), found.csv().split("\n", 1)[0]):
        assert "energy_score" in form or "energy score, latent units" in form
    assert "energy score, latent units" in found.report(tmp_path / "report.html").read_text()

    again = calmkit.evaluate(
        runs[0].folder, ["evaluation.metrics=[{name: energy_score, num_draws: 9}]"], manager
    )
    assert again["brier_lm"] == first["brier_lm"]
    assert again["energy_score"] != first["energy_score"]
    told = calmkit.compare(runs, primary="energy_score", manager=manager).results["warnings"]
    assert "energy score was taken with different settings" in told[-1]
