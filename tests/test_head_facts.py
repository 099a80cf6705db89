"""Every fact that a head declares is honoured by the program: a head is called as its `HeadInfo` says."""

from __future__ import annotations

import ast
from dataclasses import fields, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from fake_parts import BASE, WideHead, fake_manager
from guest_student_t import StudentTHead
from small_runs import SHORT, column, small_run, workshop
from torch import Tensor, nn

import calmkit
from calmkit.autoencoders.vae import VAE
from calmkit.backbones.gru import GRUBackbone
from calmkit.cli.main import cli
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.head_calls import guided_draws, head_draws, head_log_prob, head_loss
from calmkit.heads.energy import EnergyHead
from calmkit.heads.flow import FlowHead
from calmkit.heads.local_ar import LocalARHead
from calmkit.interfaces import (
    Batch,
    Context,
    DensityHead,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    Posterior,
    SampleOptions,
)
from calmkit.metrics.flops import count_flops
from calmkit.model import CalmModel
from calmkit.recipe.assemble import validate
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe
from calmkit.registry import make_manager
from calmkit.testing import check_head
from calmkit.text.metrics.likelihood import unit_nats
from calmkit.text.metrics.rollout import brier_draws
from calmkit.text.metrics.throughput import network_calls_per_draw

V, K, H, D = 10, 4, 8, 6
GUEST = EntryPoint("student-t", "guest_student_t", "calmkit")
HALF = torch.bfloat16


class Spy(DensityHead):
    """Writes down how it was called: dtypes of what it was given, and whether autocast was on."""

    info = HeadInfo(sampling="one_step")

    def __init__(self, hidden_dim: int = H, event: EventSpec | None = None, **facts: Any) -> None:
        super().__init__()
        self.info = replace(self.info, **facts)  # type: ignore[misc]
        self.project = nn.Linear(hidden_dim, D)
        self.seen: list[set[Any]] = []

    def _see(self, context: Context, *tensors: Tensor | None) -> Tensor:
        given = (context.h, context.memory, *tensors)
        on = torch.is_autocast_enabled("cpu")
        self.seen.append({on, *(t.dtype for t in given if t is not None)})
        return self.project(context.h)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return (self._see(context, target.mean, target.log_std) - target.mean).square().sum(-1)

    def log_prob(self, context: Context, z: Tensor) -> Tensor:
        return -(self._see(context, z) - z).square().sum(-1)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return self._see(context).expand(num, *context.h.shape[:-1], D)


def ask_all(head: DensityHead, dtype: torch.dtype, memory: bool = False) -> list[Tensor]:
    """Loss, density and draws of two units under autocast."""
    past = torch.randn(2, 3, H).to(dtype) if memory else None
    context = Context(torch.randn(2, H).to(dtype), past)
    target = Posterior(torch.randn(2, D).to(dtype), torch.zeros(2, D).to(dtype))
    with torch.autocast("cpu", HALF):
        return [
            head_loss(head, context, target),
            head_log_prob(head, context, target.mean),
            head_draws(head, context, 3),
        ]


@pytest.mark.parametrize("memory", [False, True])
def test_a_head_that_does_not_claim_half_precision_is_called_in_float32(memory: bool) -> None:
    head = Spy().float()
    answers = ask_all(head, HALF, memory)
    assert head.seen == [{False, torch.float32}] * 3
    assert [answer.dtype for answer in answers] == [torch.float32] * 3


def test_a_head_that_claims_it_is_called_as_training_runs() -> None:
    head = Spy(half_precision=True).float()
    answers = ask_all(head, HALF)
    assert head.seen == [{True, HALF}] * 3
    assert answers[2].dtype == HALF


def test_what_is_wider_than_half_stays_as_it_is() -> None:
    head = Spy()
    ask_all(head, torch.float64)
    assert head.seen == [{False, torch.float64}] * 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_are_refused_for_a_head_that_does_not_hold_in_it(
    dtype: torch.dtype,
) -> None:
    with pytest.raises(
        ValueError, match=r"Spy does not hold in half precision .* 'project.weight' is of half"
    ):
        ask_all(Spy().to(dtype), dtype)
    ask_all(Spy(half_precision=True).to(HALF), HALF)


def model_of(head: GenerativeHead) -> CalmModel:
    autoencoder = VAE(V, chunk_size=K, latent_dim=D, hidden_dim=8)
    embedder = TokensEmbedder(H, autoencoder.event, K, V)
    return CalmModel(autoencoder, embedder, GRUBackbone(hidden_dim=H), head).float().eval()


def test_every_way_to_the_head_leads_through_the_model() -> None:
    """Training, BrierLM, likelihood and FLOPs, all under autocast as a run has them."""
    head = Spy()
    model, chunks = model_of(head), torch.randint(V, (2, 5, K))
    valid = torch.ones(2, 5, dtype=torch.bool)
    with torch.autocast("cpu", HALF):
        model.loss(Batch(chunks, valid)).per_unit.mean().backward()
        brier_draws(model, chunks, valid, 2)
        unit_nats(model, chunks, valid, "bound")
        count_flops(model, 3)
    assert len(head.seen) >= 4
    assert all(seen == {False, torch.float32} for seen in head.seen)


class NoUnits(Spy):
    """Refuses to be asked for nothing."""

    def _see(self, context: Context, *tensors: Tensor | None) -> Tensor:
        assert len(context.h)
        return super()._see(context, *tensors)


def test_a_head_is_never_asked_for_zero_units() -> None:
    model = model_of(NoUnits())
    model.predict_first = False  # a row of one unit has none that is predicted
    chunks, valid = torch.randint(V, (2, 1, K)), torch.ones(2, 1, dtype=torch.bool)
    assert model.loss(Batch(chunks, valid)).per_unit.shape == (0,)
    assert unit_nats(model, chunks, valid, "bound")[0].shape[0] == 0
    assert brier_draws(model, chunks, valid, 2)[0].shape == (0, 4)
    ids, z = model.draw(Context(torch.zeros(0, H)), 3)
    assert (ids.shape, z.shape) == ((3, 0, K), (3, 0, D))
    assert model.log_prob(Context(torch.zeros(0, H)), torch.zeros(0, D)).shape == (0,)


PLAIN = ("sampler=direct", "sampler.head_temperature=null")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE)


def refused(monkeypatch: pytest.MonkeyPatch, info: HeadInfo, *overrides: str) -> str:
    monkeypatch.setattr(WideHead, "info", info)
    manager = fake_manager()
    with pytest.raises(RecipeError) as caught:
        validate(load_recipe("base.yaml", [*PLAIN, *overrides], manager), manager)
    return str(caught.value)


@pytest.mark.usefixtures("base")
def test_a_head_that_reads_a_memory_is_refused_when_the_recipe_is_composed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = refused(monkeypatch, HeadInfo(sampling="one_step", needs_memory=True))
    assert said.startswith(
        "error[CK148]: head 'wide' reads the whole past (its HeadInfo.needs_memory is true), which no "
        "backbone of calmkit hands on and generation does not feed back\n  --> base.yaml:8:3  (head)\n"
        "  help: heads that read the condition alone: ids, narrow"
    )


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(("precision", "mixed"), [("bf16-true", "bf16-mixed"), ("16-true", "16-mixed")])
def test_weights_in_half_precision_are_refused_when_the_recipe_is_composed(
    monkeypatch: pytest.MonkeyPatch, precision: str, mixed: str
) -> None:
    said = refused(monkeypatch, HeadInfo(sampling="one_step"), f"trainer.precision={precision}")
    assert said == (
        f"error[CK148]: trainer.precision {precision} makes the weights of head 'wide' half, which it does "
        "not hold in (its HeadInfo.half_precision is false)\n"
        f"  --> command line (trainer.precision={precision})\n"
        f"  help: {mixed} keeps the weights in float32 and calls this head in float32"
    )


@pytest.mark.usefixtures("base")
def test_a_head_that_holds_in_half_precision_may_have_its_weights_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(WideHead, "info", HeadInfo(sampling="one_step", half_precision=True))
    manager = fake_manager()
    validate(load_recipe("base.yaml", [*PLAIN, "trainer.precision=bf16-true"], manager), manager)


@pytest.mark.usefixtures("base")
def test_a_temperature_is_refused_for_a_head_that_has_none_with_that_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = refused(monkeypatch, HeadInfo(sampling="one_step"), "sampler.head_temperature=0.5")
    assert "not honoured by head 'wide', which has no temperature of its own" in said


@pytest.mark.usefixtures("base")
def test_an_event_that_the_head_does_not_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(monkeypatch, HeadInfo(sampling="one_step", events=frozenset({"tokens"})))
    assert "error[CK141]: head 'wide' takes tokens events" in said


def test_the_calls_of_a_draw_follow_the_sampling() -> None:
    sampler = make_manager([]).build("samplers", "direct", {})
    event = EventSpec((D,))
    assert network_calls_per_draw(model_of(EnergyHead(H, event)), sampler) == 1
    assert network_calls_per_draw(model_of(FlowHead(H, event, num_steps=3, solver="euler")), sampler) == 3
    tokens = LocalARHead(H, EventSpec((K,), V), width=8, depth=1, heads=1)
    assert network_calls_per_draw(model_of(tokens), sampler) == K


def test_guidance_is_taken_where_the_head_says_and_refused_where_it_is_nowhere() -> None:
    """Hidden states are mixed for `condition`; a head that is guided nowhere is named."""
    here, there = Context(torch.randn(2, H)), Context(torch.randn(2, H))
    mixing = Spy(guidance="condition")
    drawn = guided_draws(mixing, ((here, 3.0), (there, -2.0)))
    torch.testing.assert_close(drawn, mixing.sample(Context(3 * here.h - 2 * there.h)))
    with pytest.raises(ValueError, match=r"Spy can't be guided .*'none'.*guidance 1 would do"):
        guided_draws(Spy(), ((here, 3.0), (there, -2.0)))


# Each field of HeadInfo, where the program reads it, and the tests that see what it does with it.
HONOURED: dict[str, tuple[set[str], list[Any]]] = {
    "sampling": (
        {"text/metrics/throughput.py", "admission.py"},
        [test_the_calls_of_a_draw_follow_the_sampling],
    ),
    "temperature": (
        {"recipe/fit.py", "cli/parts.py"},
        [test_a_temperature_is_refused_for_a_head_that_has_none_with_that_reason],
    ),
    "events": ({"recipe/fit.py"}, [test_an_event_that_the_head_does_not_take_is_refused]),
    "needs_memory": (
        {"head_calls.py", "recipe/fit.py"},
        [test_a_head_that_reads_a_memory_is_refused_when_the_recipe_is_composed],
    ),
    "options": (
        {"recipe/fit.py", "studies/sampling.py"},
        [test_a_temperature_is_refused_for_a_head_that_has_none_with_that_reason],
    ),
    "guidance": (
        {"head_calls.py", "admission.py", "cli/parts.py"},
        [test_guidance_is_taken_where_the_head_says_and_refused_where_it_is_nowhere],
    ),
    "half_precision": (
        {"head_calls.py", "recipe/fit.py"},
        [
            test_a_head_that_does_not_claim_half_precision_is_called_in_float32,
            test_weights_in_half_precision_are_refused_when_the_recipe_is_composed,
        ],
    ),
}


def reads_fact(source: str, name: str) -> bool:
    """Whether a module reads `info.NAME`, of whatever is called info there."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == name
        and ast.unparse(node.value).split(".")[-1] == "info"
        for node in ast.walk(ast.parse(source))
    )


@pytest.mark.parametrize("field", [field.name for field in fields(HeadInfo)])
def test_every_fact_of_a_head_is_read_by_the_program_and_has_a_test(field: str) -> None:
    assert field in HONOURED, f"HeadInfo.{field} is new: say here where the program honours it, and test it"
    files, tests = HONOURED[field]
    for file in files:
        source = (Path(calmkit.__file__).parent / file).read_text(encoding="utf-8")
        assert reads_fact(source, field), f"calmkit/{file} does not read info.{field}"
    assert tests


def test_a_fact_that_nobody_reads_is_seen() -> None:
    assert reads_fact("x = model.head.info.events", "events")
    assert not reads_fact("x = model.events", "events")


def test_facts_are_shown() -> None:
    shown = CliRunner().invoke(cli, ["show", "heads/flow"])
    assert shown.exit_code == 0, shown.output
    assert (
        "Facts: a draw is iterative; a temperature acts on its noise; takes continuous events; honours "
        "generator, num_steps, solver, temperature of a draw; is guided by its output; holds in half "
        "precision."
    ) in shown.output
    shown = CliRunner().invoke(cli, ["show", "heads/regression"])
    assert "no temperature of its own; takes continuous events; honours no option of a draw" in shown.output
    assert "is guided by its condition" in shown.output
    assert "can't be guided" in CliRunner().invoke(cli, ["show", "heads/local_ar"]).output
    assert "Facts: reads data and latents." in CliRunner().invoke(cli, ["show", "embedders/both"]).output


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"sampling": "onestep"},
        "sampling is 'onestep'; it must be one of one_step, iterative, autor",
    ),
    ({"temperature": "hot"}, "temperature is 'hot'; it must be one of none, scale, noise, logits."),
    ({"events": frozenset({"images"})}, "it must be a frozenset of continuous, tokens."),
    ({"events": {"tokens"}}, r"events is \{'tokens'\}; it must be a frozenset of"),
    ({"events": frozenset()}, "it must be at least one of continuous, tokens."),
    ({"options": frozenset({"num_step"})}, "it must be a frozenset of temperature, num_steps, solver, gen"),
    ({"options": "generator"}, "options is 'generator'; it must be a frozenset of"),
    ({"half_precision": 1}, "half_precision is 1; it must be True or False."),
    ({"needs_memory": None}, "needs_memory is None; it must be True or False."),
    ({"guidance": "both"}, "guidance is 'both'; it must be one of none, condition, output, density."),
    ({"guidance": "condition", "needs_memory": True}, "none, output or density where needs_memory is true"),
    ({"temperature": "scale"}, "temperature is 'scale'; .* where options name 'temperature', and none else"),
    ({"options": frozenset({"temperature"})}, "temperature is 'none'; it must be scale, noise or logits"),
    ({"options": frozenset({"num_steps"})}, "sampling is 'one_step'; .* iterative where options name num_st"),
]


@pytest.mark.parametrize(("facts", "said"), WRONG)
def test_facts_that_are_none_are_refused(facts: dict[str, Any], said: str) -> None:
    info = object.__new__(HeadInfo)  # past the types, which tests check before HeadInfo does and users don't
    defaults = {field.name: field.default for field in fields(HeadInfo)}
    for name, value in (defaults | {"sampling": "one_step"} | facts).items():
        object.__setattr__(info, name, value)
    with pytest.raises(ValueError, match=f"^HeadInfo: .*{said}"):
        info.__post_init__()


def test_system_a_student_t_guest_keeps_its_contract_and_trains_in_bf16(tmp_path: Path) -> None:
    """Through the door, both stages, validation, evaluation and a text, under `bf16-mixed` on any CPU."""
    check_head(StudentTHead)
    manager = make_manager([GUEST])
    assert manager.rejected == []
    with workshop(tmp_path) as folder:
        run = small_run(
            folder,
            "run",
            *SHORT,
            "head=student_t",
            "sampler=vote",
            "sampler.candidates=4",
            "trainer.precision=bf16-mixed",
            manager=manager,
        )
        assert all(torch.isfinite(torch.tensor(column(run, "lm/val/loss"))))
        assert column(run, "lm/val/loss")
