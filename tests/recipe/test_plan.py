"""What `plan` says is what a real model of the recipe costs, and it makes no weight and fetches nothing."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import calmkit.recipe.plan as module
from calmkit.cli.main import cli
from calmkit.interfaces import Context, EventSpec, GenerativeHead, HeadInfo, Posterior, SampleOptions
from calmkit.metrics.flops import autoencoder_train_flops, count_flops
from calmkit.recipe.assemble import assemble
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe
from calmkit.recipe.plan import count_devices, plan
from calmkit.recipe.schema import TrainerSection
from calmkit.registry import Manager, Part, make_manager
from calmkit.text.token_file import TokenFile
from calmkit.text.tokenizers.bytes import BytesTokenizer
from calmkit.training.outlook import look_ahead

V, ROWS, STEPS, FIRST_STEPS, K = 257, 2 * 3 * 5, 7, 11, 4  # rows: batch x accumulate x devices
MINE = f"""
calmkit: 1
data: {{name: stdlib, sequence_length: 32}}
tokenizer: bytes
autoencoder: {{name: vae, chunk_size: {K}, latent_dim: 6, hidden_dim: 8}}
backbone: {{name: transformer, hidden_dim: 16, depth: 2, heads: 2}}
head: {{name: energy, num_draws: 3, num_targets: 4, depth: 1}}
sampler: {{name: vote, temperature: 0.5, candidates: 9}}
stages:
  autoencoder: {{max_steps: {FIRST_STEPS}, batch_size: 2}}
  lm: {{max_steps: {STEPS}, batch_size: 2}}
trainer: {{devices: 5, accumulate: 3, precision: 32-true}}
"""


class GuestHead(GenerativeHead):
    """States nothing."""

    info = HeadInfo(sampling="one_step")

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__()
        self.out = nn.Linear(hidden_dim, event.shape[0])

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return (self.out(context.h) - target.mean).square().sum(-1)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        z = self.out(context.h)
        return z.expand(num, *z.shape)


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe in an empty folder, and no way out of the machine."""

    def refused(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("plan asked the network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr("calmkit.registry.ENTRY_POINT_GROUP", "calmkit.nobody")
    Path("mine.yaml").write_text(MINE)


@pytest.fixture(scope="module")
def manager() -> Manager:
    return make_manager(guests=[])


def test_as_the_real_model(manager: Manager) -> None:
    recipe = load_recipe("mine.yaml", (), manager)
    counted, model = plan(recipe, manager), assemble(recipe, manager, {"vocab_size": V})
    cost = count_flops(model, 32 // K)
    lm, first = counted.stages["lm"], counted.stages["autoencoder"]
    assert dict(lm.train_flops) == {name: flops * ROWS * STEPS for name, flops in cost.training.items()}
    stage_one = autoencoder_train_flops(model.autoencoder, 32 // K) * ROWS * FIRST_STEPS
    assert dict(first.train_flops) == {"autoencoder": stage_one}
    assert counted.train_flops == cost.total * ROWS * STEPS + stage_one
    assert counted.inference_flops_per_element == cost.inference_per_unit / K
    assert counted.draws_per_unit == 9
    assert counted.sampler_flops_per_element == count_flops(model, 32 // K, draws=9).inference_per_unit / K
    assert (lm.steps, lm.devices, lm.rows_per_step, lm.elements) == (STEPS, 5, ROWS, 32 * ROWS * STEPS)


def test_parameters_memory_and_disk_by_hand(manager: Manager) -> None:
    recipe = load_recipe("mine.yaml", (), manager)
    counted, model = plan(recipe, manager), assemble(recipe, manager, {"vocab_size": V})
    own = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.autoencoder.parameters())
    lm, first = counted.stages["lm"], counted.stages["autoencoder"]
    assert counted.parameters == own
    assert (lm.weights, lm.gradients, lm.moments) == (4 * (own + frozen), 4 * own, 8 * own)
    assert (first.weights, first.gradients, first.moments) == (4 * frozen, 4 * frozen, 8 * frozen)
    assert (lm.checkpoint, first.checkpoint) == (4 * (3 * own + frozen), 12 * frozen)
    assert counted.model_bytes == 4 * (own + frozen)
    assert counted.run_bytes == counted.model_bytes + first.checkpoint + 2 * lm.checkpoint
    wide = plan(load_recipe("mine.yaml", ["trainer.precision=64-true"], manager), manager)
    assert wide.stages["lm"].weights == 2 * lm.weights


def test_a_stage_that_is_not_trained_costs_nothing(manager: Manager) -> None:
    Path("run").mkdir()
    taken = plan(load_recipe("mine.yaml", ["stages.autoencoder.init_from=run"], manager), manager)
    assert taken.stages["autoencoder"].steps == 0
    assert taken.stages["autoencoder"].checkpoint == 0
    assert taken.train_flops == sum(taken.stages["lm"].train_flops.values())
    alone = plan(load_recipe("mine.yaml", ["stages.lm=null"], manager), manager)
    assert set(alone.stages) == {"autoencoder"}
    assert alone.parameters == alone.parameters_by_part["autoencoder"]


def test_no_weight_is_made_and_nothing_is_fetched(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama's tokenizer lies behind a login, the text on the hub: neither is asked."""
    seen = []

    def count(model: nn.Module, *args: Any) -> Any:
        seen.extend(p.is_meta for p in [*model.parameters(), *model.buffers()])
        return count_flops(model, *args)

    monkeypatch.setattr(module, "count_flops", count)
    plan(load_recipe("paper/calm-xl", (), manager), manager)
    assert seen
    assert all(seen)


def test_a_guest_that_states_nothing_is_measured_and_alone_is_real(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests = make_manager(guests=[])
    guests.parts["heads"]["guest"] = Part("heads", "guest", GuestHead, "guests")
    real = []

    def count(model: nn.Module, *args: Any) -> Any:
        real.extend(name for name, part in model.named_children() for p in part.parameters() if not p.is_meta)
        return count_flops(model, *args)

    monkeypatch.setattr(module, "count_flops", count)
    state = torch.get_rng_state()
    counted = plan(load_recipe("mine.yaml", ["head=guest", "sampler=direct"], guests), guests)
    assert torch.equal(torch.get_rng_state(), state)
    assert set(real) == {"head"}
    assert (
        counted.stages["lm"].train_flops["head"] == 3 * 2 * 16 * 6 * 8 * ROWS * STEPS
    )  # Linear(16, 6), 8 units
    assert counted.inference["head"] == 2 * 16 * 6 / K


def test_an_adaptive_solver_and_a_sampler_without_a_number(manager: Manager) -> None:
    adaptive = plan(load_recipe("mine.yaml", ["head=flow", "head.solver=dopri5"], manager), manager)
    assert adaptive.inference["head"] is None
    assert adaptive.inference_flops_per_element is None
    assert adaptive.train_flops > 0
    exact = plan(load_recipe("mine.yaml", ["sampler=rejection"], manager), manager)
    assert (exact.draws_per_unit, exact.sampler_flops_per_element) == (None, None)
    assert exact.inference_flops_per_element is not None


def test_the_samplers_wishes_count(manager: Manager) -> None:
    words = ["head=flow", "head.num_steps=10", "sampler=direct"]
    plain = plan(load_recipe("mine.yaml", words, manager), manager)
    fewer = plan(load_recipe("mine.yaml", [*words, "sampler.num_steps=5"], manager), manager)
    assert plain.sampler_flops_per_element == plain.inference_flops_per_element
    assert fewer.inference_flops_per_element == plain.inference_flops_per_element
    assert fewer.sampler_flops_per_element is not None
    assert plain.sampler_flops_per_element is not None
    assert fewer.sampler_flops_per_element < plain.sampler_flops_per_element


@pytest.mark.parametrize("more", [[], ["stages.lm=null"]])
def test_rows_of_one_unit_are_refused(manager: Manager, more: list[str]) -> None:
    with pytest.raises(RecipeError, match=r"CK149.*a row of 4 tokens is 1 unit(.|\n)*; 8 would do"):
        plan(load_recipe("mine.yaml", ["data.sequence_length=4", *more], manager), manager)


def test_ids_on_disk_as_the_token_file_writes_them(manager: Manager, tmp_path: Path) -> None:
    recipe = load_recipe("mine.yaml", (), manager)
    Path("a.txt").write_text("words")
    text = manager.build("corpora", "text", {"train": "a.txt", "valid": "a.txt"})
    made = TokenFile.build(text, "train", BytesTokenizer(), tmp_path)
    assert plan(recipe, manager).bytes_per_element == made.tokens.itemsize == 2
    llama = plan(load_recipe("paper/transformer-s", (), manager), manager)
    assert llama.bytes_per_element == 4


@pytest.mark.parametrize(
    ("devices", "nodes", "count"),
    [("5", 1, 5), ("0,2", 1, 2), ("3,", 1, 1), ("2", 3, 6), ("auto", 2, 2), ("-1", 1, 1)],
)
def test_devices(devices: str, nodes: int, count: int) -> None:
    assert count_devices(TrainerSection(accelerator="cpu", devices=devices, num_nodes=nodes)) == count


def test_the_verb() -> None:
    answer = CliRunner().invoke(cli, ["plan", "mine.yaml", "--json", "stages.lm.max_steps=70"])
    assert answer.exit_code == 0, answer.output
    told, manager = json.loads(answer.stdout), make_manager(guests=[])
    counted = plan(load_recipe("mine.yaml", ["stages.lm.max_steps=70"], manager), manager)
    assert told["parameters"] == counted.parameters
    assert told["train_flops"] == counted.train_flops
    assert told["inference_flops_per_token"] == counted.inference_flops_per_element
    assert told["stages"]["lm"]["steps"] == 70
    assert told["sampler"]["draws_per_unit"] == 9
    shown = CliRunner().invoke(cli, ["plan", "mine.yaml"]).stdout
    assert f"mine: {counted.parameters:,} parameters" in shown
    assert "\nnot counted: what validations hold" in shown
    assert "\nlm\tall, " in shown  # the memory of a step
    wrong = CliRunner().invoke(cli, ["plan", "mine.yaml", "head.num_drawz=3"])
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "CK130" in wrong.stderr


def test_the_verb_measures_and_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    known = []

    def once(*args: Any, **kwargs: Any) -> Any:  # shown twice, measured once
        if not known:
            known.append(look_ahead(*args, **kwargs))
        return known[0]

    monkeypatch.setattr("calmkit.training.outlook.look_ahead", once)
    words = ["stages.lm.batch_size=1", "stages.autoencoder.batch_size=1", "trainer.accelerator=cpu"]
    asked = ["plan", "mine.yaml", *words, "--json", "--device", "h100", "--world", "8", "--measure"]
    answer = CliRunner().invoke(cli, asked)
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert told["stages"]["lm"]["devices"] == told["memory"]["processes"] == told["verdict"]["world"] == 8
    assert (told["memory"]["rules"], told["memory"]["strategy"]) == ("cuda", "ddp")
    for stage, steps in (("autoencoder", FIRST_STEPS), ("lm", STEPS)):
        planned, found = told["memory"]["stages"][stage], told["measured"]["stages"][stage]
        assert planned["peak_bytes"] == sum(sum(kinds.values()) for kinds in planned["by_part"].values())
        assert planned["peak_bytes"] == max(planned["by_phase"].values())
        assert planned["peak_bytes"] == told["verdict"]["stages"][stage]["needed_bytes"]
        assert found["planned_peak_bytes"] == pytest.approx(found["peak_bytes"], rel=0.1)
        assert found["seconds_of_stage"] == pytest.approx(steps * found["seconds_per_step"])
        assert min(found["seconds_of_each_step"]) <= found["seconds_per_step"]
    assert told["verdict"]["fits"]
    assert told["verdict"]["share_is"] == "assumed"  # this machine's CPU tells nothing of an H100
    seconds = told["train_flops"] / (8 * 0.4 * 67e12)  # in float32
    assert told["verdict"]["hours"] == pytest.approx(seconds / 3600)
    shown = CliRunner().invoke(cli, [word for word in asked if word != "--json"]).stdout
    assert "\n8 x NVIDIA H100 SXM 80 GB: fits\n" in shown
    assert "at 40% of the peak rate (an assumption)" in shown
    assert "\nmeasured peak: most bytes that torch's profiler saw" in shown
    unknown = CliRunner().invoke(cli, ["plan", "mine.yaml", "--device", "abacus"])
    assert unknown.exit_code == 2
    assert "nobody knows a device 'abacus'; h100, h200," in unknown.stderr


def test_planning_loads_no_heavy_library() -> None:
    code = (
        "import sys; from calmkit.cli.main import cli; "
        "cli(['plan', 'paper/transformer-s'], standalone_mode=False); "
        "sys.exit(bool({'lightning', 'datasets', 'tokenizers', 'huggingface_hub', 'diffusers', 'torchdyn', "
        "'torchmetrics'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
