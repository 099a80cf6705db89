"""What all built-in samplers may ask of the head: the same names, the same meaning, the same refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.backbones.gru import GRUBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.heads.local_ar import LocalARHead
from calmkit.interfaces import SampleOptions, Sampler
from calmkit.model import CalmModel
from calmkit.recipe.assemble import build_sampler, validate
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe
from calmkit.recipe.plan import plan
from calmkit.registry import make_manager
from calmkit.samplers.direct import DirectSampler
from calmkit.samplers.greedy import GreedySampler
from calmkit.samplers.rejection import RejectionSampler
from calmkit.samplers.sharpen import SharpenSampler
from calmkit.samplers.vote import VoteSampler
from calmkit.text.generation import generate

SAMPLERS = {
    "direct": DirectSampler,
    "vote": VoteSampler,
    "rejection": RejectionSampler,
    "greedy": GreedySampler,
    "sharpen": SharpenSampler,
}


def test_these_are_all_the_samplers() -> None:
    parts = make_manager(guests=[]).parts["samplers"]
    assert {name for name, part in parts.items() if issubclass(part.cls, Sampler)} == set(SAMPLERS)


@pytest.mark.parametrize("name", SAMPLERS)
def test_settings_become_wishes_to_the_head(name: str) -> None:
    assert SAMPLERS[name]().options.set_fields() == frozenset()
    wished = SAMPLERS[name](head_temperature=0.7, num_steps=8, solver="euler").options
    assert wished == SampleOptions(temperature=0.7, num_steps=8, solver="euler")


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    "settings", [{"head_temperature": 0.0}, {"head_temperature": -1.0}, {"num_steps": 0}]
)
def test_refuses_impossible_settings_by_name(name: str, settings: dict[str, Any]) -> None:
    (setting,) = settings
    with pytest.raises(ValueError, match=f"{name}: {setting} .*got .*would do"):
        SAMPLERS[name](**settings)


# What each head offers, by HeadInfo: the wish that is honoured, and those that are refused.
OFFERS = {
    "energy": {"head_temperature"},
    "mixture": {"head_temperature"},
    "regression": set(),
    "flow": {"head_temperature", "num_steps", "solver"},
    "diffusion": {"head_temperature", "num_steps", "solver"},
}
WISHES = {"head_temperature": "0.5", "num_steps": "2", "solver": "euler"}


@pytest.mark.parametrize("head", OFFERS)
@pytest.mark.parametrize(
    "sampler", [name for name in SAMPLERS if name != "sharpen"]
)  # which asks for known weights first
def test_a_wish_is_refused_when_the_recipe_is_composed_unless_the_head_offers_it(
    head: str, sampler: str
) -> None:
    manager = make_manager(guests=[])
    for wish, value in WISHES.items():
        value = "ddim" if (head, wish) == ("diffusion", "solver") else value
        overrides = [f"head={head}", f"sampler={sampler}", f"sampler.{wish}={value}"]
        recipe = load_recipe("tiny/energy", overrides, manager)
        if wish in OFFERS[head]:
            option = wish.removeprefix("head_")
            assert str(getattr(build_sampler(recipe, manager).options, option)) == value
            continue
        with pytest.raises(RecipeError) as caught:
            build_sampler(recipe, manager)
        said = str(caught.value)
        option = wish.removeprefix("head_")
        assert f"CK143]: sampler '{sampler}' asks for '{option}', not honoured by head '{head}'" in said
        assert f"command line (sampler.{wish}={value})" in said
        assert f"sampler.{wish}=null asks for nothing" in said


def test_validate_refuses_it_before_any_data_is_read() -> None:
    manager = make_manager(guests=[])
    overrides = ["head=regression", "sampler=vote", "sampler.head_temperature=0.5"]
    with pytest.raises(RecipeError, match=r"CK143.*'vote' asks for 'temperature'"):
        validate(load_recipe("tiny/energy", overrides, manager), manager)


@pytest.mark.parametrize(
    ("head", "settings", "place", "said"),
    [
        ("flow", {"solver": "foo"}, "solver", "head 'flow' for what it can't do: solver 'foo' is refused"),
        (
            "flow",
            {"solver": "dopri5", "num_steps": "4"},
            "num_steps",
            "num_steps got 4 beside solver 'dopri5'",
        ),
        ("diffusion", {"solver": "foo"}, "solver", "scheduler 'foo' is not known"),
        ("diffusion", {"num_steps": "5000"}, "num_steps", "at most train_timesteps 1000, got 5000"),
        ("diffusion", {"solver": "ddim", "num_steps": "7"}, "num_steps", "'ddim' must divide"),
    ],
)
def test_a_value_that_the_head_cannot_do_is_refused_with_its_place(
    head: str, settings: dict[str, str], place: str, said: str
) -> None:
    """The head's class offers the options; only the built head knows which values it can do."""
    manager = make_manager(guests=[])
    overrides = [f"head={head}", "sampler=direct", *(f"sampler.{k}={v}" for k, v in settings.items())]
    recipe = load_recipe("tiny/energy", overrides, manager)
    for check in (validate, plan):
        with pytest.raises(RecipeError) as caught:
            check(recipe, manager)
        (problem,) = caught.value.problems
        assert (problem.code, problem.key) == ("CK143", f"sampler.{place}")
        assert said in problem.message
        assert f"command line (sampler.{place}={settings[place]})" in str(problem)


def test_a_refusal_of_what_the_sampler_left_to_the_head_is_told_of_what_it_set() -> None:
    """The head has 7 steps of its own, which ddim can't do: the recipe's solver is the setting to change."""
    manager = make_manager(guests=[])
    overrides = ["head=diffusion", "head.num_steps=7", "sampler=direct", "sampler.solver=ddim"]
    with pytest.raises(RecipeError, match=r"got 7") as caught:
        validate(load_recipe("tiny/energy", overrides, manager), manager)
    assert caught.value.problems[0].key == "sampler.solver"


def token_model() -> tuple[CalmModel, Tensor]:
    """A softmax model at K = 1 over four tokens, and its law after the prompt (0)."""
    autoencoder = TokenChunks(4, chunk_size=1)
    parts = TokensEmbedder(4, autoencoder.event, 1, 4), GRUBackbone(hidden_dim=4)
    head = LocalARHead(4, autoencoder.event)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    model = CalmModel(autoencoder, *parts, head).eval()
    context = model.context(torch.tensor([[[0], [0]]]))[0, 1]
    return model, torch.stack([head.log_prob(context, torch.tensor([token])) for token in range(4)]).exp()


@pytest.mark.parametrize(
    ("sampler", "power"),
    [
        (DirectSampler(head_temperature=0.5), 2.0),
        # the head's temperature sharpens each draw, the sampler's the law of draws: exponents multiply
        (RejectionSampler(temperature=0.5, head_temperature=0.5), 4.0),
        (RejectionSampler(temperature=2 / 3, head_temperature=2.0), 0.75),
    ],
)
def test_the_wish_reaches_every_draw_of_a_generation(sampler: Sampler, power: float) -> None:
    model, p = token_model()
    rows = 5000
    (unit,) = generate(model, [[0]] * rows, sampler, eos_id=3, max_units=1, seed=1)
    law = p**power / (p**power).sum()
    assert law.min() > 1e-3  # 5 rows and more expected of each token, as the chi-square wants
    seen = unit.data[:, 0].bincount(minlength=4) / rows
    # chi-square with 3 degrees of freedom exceeds 33 with probability 3e-7
    assert ((seen - law).square() / law).sum().item() * rows < 33
