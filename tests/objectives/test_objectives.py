"""Objectives: what is learnt of another model's draws, by hand, by law, and in runs that are stopped."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import differences, go_on, small_recipe, small_run, stopped, tensors, workshop

from calmkit.head_calls import head_loss
from calmkit.heads.energy import EnergyHead
from calmkit.heads.energy_score import energy_loss
from calmkit.heads.mixture import MixtureHead
from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import Batch, Context, EventSpec, Posterior
from calmkit.metrics.flops import count_flops
from calmkit.model import CalmModel
from calmkit.objectives.distil import DistilObjective
from calmkit.objectives.drawn import draws_of, in_values_of
from calmkit.objectives.prefer import PreferObjective
from calmkit.recipe.assemble import assemble, validate
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.plan import plan
from calmkit.registry import make_manager
from calmkit.studies.store import Keys
from calmkit.text.rewards import reward_of
from calmkit.text.tokenizers.bytes import BytesTokenizer
from calmkit.training.begun_with import check_same_runs
from calmkit.training.errors import RunFailed
from calmkit.training.run import Run

SHORT = ("stages.autoencoder.max_steps=2", "stages.lm.max_steps=3", "evaluation.untrained=false",
         "trainer.log_every=1", "evaluation.max_rows=1", "evaluation.sample_tokens=4")  # fmt: skip
DISTIL = ("stages.lm.objective=distil", "stages.lm.objective.num_targets=3")
PREFER = ("stages.lm.objective=prefer", "stages.lm.objective.reward=vowels", "stages.lm.objective.beta=0.1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workshop(tmp_path_factory.mktemp("objectives")) as folder:
        yield folder


@pytest.fixture(autouse=True)
def float32() -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Run:
    return small_run(folder, "teacher", "head=flow", "head.num_steps=2", "sampler=direct", *SHORT)


def of_teacher(teacher: Run, *more: str) -> tuple[str, ...]:
    return (f"stages.autoencoder.init_from={teacher.folder}", *SHORT, *more)


# --- targets of a head ---


def test_energy_takes_all_targets_of_a_unit_at_once() -> None:
    """Alike: the score against all R values. By weight: with one value certain, the score against it."""
    head, context = EnergyHead(4, EventSpec((3,)), init_std=0.5), Context(torch.randn(5, 4))
    values = torch.randn(6, 5, 3)
    certain = torch.zeros(6, 5)
    certain[2] = 1
    for target, points in (
        (Posterior.among(values), values),
        (Posterior.among(values, certain), values[2:3]),
    ):
        torch.manual_seed(1)
        found = head_loss(head, context, target)
        torch.manual_seed(1)
        torch.testing.assert_close(found, energy_loss(head.sample(context, head.num_draws), points))


def test_a_head_that_takes_no_set_gets_one_of_the_draws() -> None:
    """The loss of regression is the squared distance to the target: one of the two, and both turn up."""
    head, context = RegressionHead(4, EventSpec((1,))), Context(torch.zeros(200, 4))
    values = torch.tensor([0.0, 100.0]).reshape(2, 1, 1).expand(2, 200, 1)
    found = head_loss(head, context, Posterior.among(values)).sqrt().round(decimals=-1)
    assert set(found.tolist()) == {0.0, 100.0}


def test_learning_weighted_draws_gives_the_tilted_law() -> None:
    """Two clusters, the second with reward 1 and a fifth of the reference's draws: with beta = 1/2 its share
    is 0.2 e^2 / (0.2 e^2 + 0.8) = 0.6488 for many candidates. With n of them the expected share of the
    weights is a sum over the binomial law, 0.6035 for n = 16, and that is what is learnt, within 0.03.
    """
    share, beta, n = 0.2, 0.5, 16
    tilt = math.exp(1 / beta)
    of_k = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    wanted = sum(p * k * tilt / (k * tilt + n - k) for k, p in enumerate(of_k))
    limit = share * tilt / (share * tilt + 1 - share)
    assert (round(wanted, 4), round(limit, 4)) == (0.6035, 0.6488)
    torch.manual_seed(0)
    head, context = MixtureHead(4, EventSpec((1,)), num_components=2, depth=1), Context(torch.ones(256, 4))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.04)
    shares = []
    for _ in range(150):
        second = (torch.rand(n, 256) < share).float()
        drawn = (2 * second - 1).unsqueeze(-1) + 0.1 * torch.randn(n, 256, 1)
        weights = (second / beta).softmax(0)
        shares.append(float((weights * second).sum(0).mean()))
        loss = head_loss(head, context, Posterior.among(drawn, weights)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(sum(shares) / len(shares) - wanted) < 4.5 * 0.2 / math.sqrt(150 * 256)  # their sd is 0.18
    drawn = head.sample(Context(torch.ones(1, 4)), 20_000)
    assert abs(float((drawn > 0).float().mean()) - wanted) < 0.03


def test_weights_are_a_softmax_of_rewards_by_hand() -> None:
    """Rewards 0, 1, 3 with beta = 2: e^0, e^0.5, e^1.5."""
    objective = PreferObjective(reward="any", beta=2.0)
    objective.begin({}, lambda data: data.sum(-1))

    weights = objective.weights(torch.tensor([[[0.0]], [[1.0]], [[3.0]]]))
    wanted = torch.tensor([1, math.exp(0.5), math.exp(1.5)])
    torch.testing.assert_close(weights[:, 0], wanted / wanted.sum())


def test_rewards_of_a_chunk_by_hand() -> None:
    """'a1 E': one digit, one upper case, two vowels, one space of four; half of an 'ä' counts for nothing."""
    tokenizer = BytesTokenizer()
    ids = torch.tensor([list(b"a1 E"), [*"ä".encode(), *b"77"], [tokenizer.eos_id] * 4])
    found = {name: reward_of(name, tokenizer)(ids).tolist() for name in ("digits", "upper_case", "vowels")}
    assert found == {"digits": [0.25, 1.0, 0.0], "upper_case": [0.25, 0.0, 0.0], "vowels": [0.5, 0.0, 0.0]}
    assert reward_of("length", tokenizer)(ids).tolist() == [4.0, 2.0, 0.0]
    assert reward_of("spaces", tokenizer)(ids[:1]).tolist() == [0.25]


# --- a model and another one ---


def two_models(folder: Path, *given: str) -> tuple[CalmModel, CalmModel, Batch]:
    manager = make_manager()
    recipe, other = small_recipe(folder, manager=manager), small_recipe(folder, *given, manager=manager)
    student = assemble(recipe, manager, {"vocab_size": 257})
    teacher = assemble(other, manager, {"vocab_size": 257}).eval().requires_grad_(False)
    chunks = torch.randint(0, 256, (2, 6, 4))
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[0, :2] = False
    return student, teacher, Batch(chunks, valid)


def test_distil_is_the_head_s_loss_on_draws_of_the_teacher(folder: Path) -> None:
    student, teacher, batch = two_models(folder, "head=flow", "head.num_steps=2", "sampler=direct")
    teacher.autoencoder.load_state_dict(student.autoencoder.state_dict())
    objective = DistilObjective(num_targets=3)
    objective.begin({"teacher": teacher}, None)
    torch.manual_seed(1)
    found = objective.loss(student, batch)
    torch.manual_seed(1)
    context = teacher.context(batch.data, batch.valid)[batch.valid]
    drawn = teacher.head.sample(context, 3)
    student.encode(batch.data).sample(1)  # what the embedder may read is drawn before the head's draws
    own = student.context(batch.data, batch.valid)[batch.valid]
    wanted = student.head.loss(own, Posterior.among(drawn))
    torch.testing.assert_close(found.per_unit, wanted)
    assert torch.equal(found.keep, batch.valid)
    found.per_unit.mean().backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert any(p.grad is not None for p in student.head.parameters())


def test_ids_of_a_teacher_are_read_by_the_student_s_autoencoder(folder: Path) -> None:
    ids = ("autoencoder=token_chunks", "head=local_ar", "stages.autoencoder=null")
    student, teacher, batch = two_models(folder, *ids)
    drawn = draws_of(teacher, batch, batch.valid, 3, None)
    assert drawn.shape == (3, 10, 4)
    torch.manual_seed(1)
    found = in_values_of(student, teacher, batch, batch.valid, drawn)
    torch.manual_seed(1)
    assert torch.equal(found, student.autoencoder.encode(drawn).sample(1)[0])
    objective = DistilObjective(num_targets=3)
    objective.begin({"teacher": teacher}, None)
    assert objective.loss(student, batch).per_unit.shape == (10,)


def test_rows_in_which_nothing_counts_have_an_empty_loss(folder: Path) -> None:
    student, teacher, batch = two_models(folder)
    nothing = Batch(batch.data, torch.zeros_like(batch.valid))
    objective = PreferObjective(reward="vowels")
    objective.begin({"reference": teacher}, lambda data: data.float().mean(-1))
    assert objective.loss(student, nothing).per_unit.shape == (0,)
    assert objective.measured(student, nothing) == {}


# --- runs ---


def test_a_student_goes_on_as_if_nobody_had_stopped_it(folder: Path, teacher: Run) -> None:
    """And not with a teacher whose weights changed since."""
    copied = Path(shutil.copytree(teacher.folder, folder / "copied"))
    given = of_teacher(teacher, *DISTIL, f"stages.lm.objective.teacher={copied}")
    whole = small_run(folder, "student", *given)
    stopped(small_run, "lm", 1, folder, "stopped", *given)
    assert differences(whole, go_on(folder / "stopped")) == []
    assert not [name for name in tensors(whole) if "teacher" in name or "objective" in name]
    assert whole.lock["runs"].keys() == {"stages.autoencoder.init_from", "stages.lm.objective.teacher"}
    assert whole.facts["train_flops_by_part"]["objective"] > 0
    manager = make_manager()
    check_same_runs(whole, whole.recipe(manager), manager)
    Run(copied).weights.write_bytes(b"others")
    with pytest.raises(RunFailed, match=r"objective.teacher names changed since .*student began"):
        check_same_runs(whole, whole.recipe(manager), manager)


def test_prefer_raises_the_reward_of_draws(folder: Path, teacher: Run) -> None:
    """At a low beta: more vowels than before the first step, and BrierLM is told beside."""
    given = of_teacher(teacher, "head=flow", "head.num_steps=2", "sampler=direct", *PREFER)
    given += ("evaluation.untrained=true", "evaluation.max_rows=3", "stages.lm.max_steps=16")
    given += ("stages.lm.optimizer.lr=2e-2", "stages.lm.eval_every=16")
    run = small_run(folder, "prefer", *given, f"stages.lm.init_from={teacher.folder}")
    found = run.evaluation
    assert found["reward"] > found["untrained_reward"]
    assert "brier_lm" in found


def test_refusals_name_what_is_missing_or_unlike(folder: Path, teacher: Run) -> None:
    manager = make_manager()

    def refused(*given: str) -> str:
        with pytest.raises(RecipeError) as told:
            validate(small_recipe(folder, *given, manager=manager), manager)
        return str(told.value)

    run = f"stages.lm.objective.teacher={teacher.folder}"
    assert "'distil' needs a finished run as its teacher" in refused(*DISTIL)
    assert "needs a finished run as its reference" in refused(*PREFER)
    assert "or stages.lm.init_from=RUN" in refused(*PREFER)
    assert "know no reward 'vowls'" in refused(*PREFER, "stages.lm.objective.reward=vowls")
    assert "needs the name of a reward" in refused("stages.lm.objective=prefer")
    assert "latent_dim 8, here 4" in refused(*DISTIL, run, "autoencoder.latent_dim=4")
    assert "chunk_size 4, here 2" in refused(*DISTIL, run, "autoencoder.chunk_size=2")
    assert "'nowhere' is not there" in refused(*DISTIL, "stages.lm.objective.teacher=nowhere")
    assert "it has no resolved.yaml" in refused(*DISTIL, f"stages.lm.objective.teacher={folder}")
    assert "did you mean 'distil'" in refused("stages.lm.objective=distill")


def test_another_autoencoder_of_the_same_settings_is_refused_before_a_step(
    folder: Path, teacher: Run
) -> None:
    """Before stage 1 where that would train it anew and otherwise, else behind it."""
    given = (*SHORT, *DISTIL, f"stages.lm.objective.teacher={teacher.folder}", "seed=2")
    with pytest.raises(RunFailed, match=r"rest on another .* with another seed; take it from there too"):
        small_run(folder, "unlike", *given)
    assert not (folder / "unlike").exists()
    other = small_run(folder, "other", *SHORT, "seed=2")
    with pytest.raises(RunFailed, match="rests on another autoencoder than this run's"):
        small_run(folder, "unlike", *given, f"stages.autoencoder.init_from={other.folder}")


def test_a_plan_counts_the_forward_pass_and_the_draws_of_the_teacher(folder: Path, teacher: Run) -> None:
    """A row has 8 units: an energy student with a flow teacher, 3 draws of 2 midpoint steps each."""
    manager = make_manager()
    given = of_teacher(teacher, *DISTIL, f"stages.lm.objective.teacher={teacher.folder}")
    recipe = small_recipe(folder, *given, manager=manager)
    other: Any = teacher.load(device="cpu").model
    counted = count_flops(other, 8, draws=3)
    read = counted.training["embedder"] + counted.training["backbone"]
    forward = counted.training["autoencoder"] + read // 3
    assert counted.inference["head"] is not None
    wanted = forward + 8 * counted.inference["head"]
    found = plan(recipe, manager).stages["lm"]
    assert found.train_flops["objective"] == wanted * found.rows_per_step * found.steps


def test_what_a_teacher_froze_saves_its_pupil_nothing(folder: Path, teacher: Run) -> None:
    """Reading a row and drawing cost what they cost, and the plan says what the run writes down."""
    frozen = ("head=flow", "head.num_steps=2", "sampler=direct", "stages.lm.freeze=[backbone]")
    other = small_run(folder, "frozen", *of_teacher(teacher, *frozen))
    counted = []
    for run in (teacher, other):
        given = of_teacher(teacher, *DISTIL, f"stages.lm.objective.teacher={run.folder}")
        pupil = plan(small_recipe(folder, *given), make_manager()).stages["lm"].train_flops
        counted.append(pupil["objective"])
    assert counted[0] == counted[1]
    assert small_run(folder, "pupil", *given).facts["train_flops_by_part"]["objective"] == counted[1]


def test_a_key_of_a_study_knows_a_teacher_by_content(folder: Path, teacher: Run) -> None:
    """`data` changes no key that was made before; a copy of a teacher is that teacher."""
    keys = Keys(make_manager())
    plain = keys.of_trial(small_recipe(folder))
    assert plain == keys.of_trial(small_recipe(folder, "stages.lm.objective=data"))
    copy = folder / "copy"
    copy.mkdir()
    (copy / "model").mkdir()
    (copy / "model" / "model.safetensors").write_bytes(teacher.weights.read_bytes())

    def key(run: Path) -> str:
        return keys.of_trial(small_recipe(folder, *DISTIL, f"stages.lm.objective.teacher={run}"))

    assert key(copy) == key(teacher.folder) != plain
