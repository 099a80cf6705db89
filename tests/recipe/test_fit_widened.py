"""Recipes whose parts don't fit each other or their data are refused before data are read, with the cure.

Each case is a file that extends a tiny recipe; a refusal names the line where the culprit stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small_images import pixels, write_idx
from torch import Tensor

from calmkit.cli.main import cli
from calmkit.heads.regression import RegressionHead
from calmkit.images.corpora.digits import DigitsCorpus
from calmkit.interfaces import Context, EventSpec, GenerativeHead, HeadInfo, Posterior, SampleOptions
from calmkit.recipe.assemble import validate
from calmkit.recipe.errors import RecipeError
from calmkit.recipe.load import load_recipe
from calmkit.registry import Manager, Part, make_manager
from calmkit.text.corpora.stdlib import StdlibCorpus

ANY = "{name: any_order, hidden_dim: 32, depth: 1, decoder_depth: 1, heads: 2}"


@pytest.fixture(autouse=True)
def nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal that comes after data were read is none."""

    def read(self: Any, split: Any) -> Iterator[str]:
        raise AssertionError("data were read")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DigitsCorpus, "images", read)
    monkeypatch.setattr(StdlibCorpus, "documents", read)


def child(parent: str, *lines: str) -> str:
    """A recipe of these lines; the first of them is line 3."""
    Path("mine.yaml").write_text("\n".join([f"extends: {parent}", "name: mine", *lines]) + "\n")
    return "mine.yaml"


def refused(parent: str, *lines: str, manager: Manager | None = None) -> str:
    manager = manager or make_manager(guests=[])
    with pytest.raises(RecipeError) as caught:
        validate(load_recipe(child(parent, *lines), (), manager), manager)
    return str(caught.value)


CASES = {
    "confidence order, head without density": (
        ("tiny/mar", "order: {name: confidence}"),
        "error[CK141]: order 'confidence' keeps the draws that are most likely, and head 'diffusion' "
        "knows no "
        "density\n  --> mine.yaml:3:9  (order)\n"
        "  help: heads that do: mixture, tied_mixture; orders that fit 'any_order' and head 'diffusion': "
        "random",
    ),
    "an order that wants any order, causal backbone": (
        ("tiny/givt_causal", "order: {name: random}"),
        "error[CK141]: order 'random' wants a backbone of any order, and 'transformer' is none\n"
        "  --> mine.yaml:3:9  (order)\n"
        "  help: orders that fit 'transformer' and head 'mixture': left_to_right; backbones that fit this "
        "order: any_order",
    ),
    "an order that is causal, backbone of any order": (
        ("tiny/mar", "order: {name: left_to_right}"),
        "error[CK141]: order 'left_to_right' wants a causal backbone, and 'any_order' is none\n"
        "  --> mine.yaml:3:9  (order)\n"
        "  help: orders that fit 'any_order' and head 'diffusion': random; backbones that fit this order: "
        "gru, "
        "transformer",
    ),
    "backbone of any order without an order": (
        ("tiny/givt_causal", f"backbone: {ANY}"),
        "error[CK141]: backbone 'any_order' reads units in any order, and the recipe names none\n"
        "  --> mine.yaml:3:12  (order)\n"
        "  help: orders that fit 'any_order' and head 'mixture': confidence, random",
    ),
    "more steps than units": (
        ("tiny/mar", "order:", "  steps: 17"),
        "error[CK143]: order 'random': steps is 17, yet only 16 units are to be drawn, at least one in each "
        "step; steps 16 or less would do, and None is one unit per step.\n  --> mine.yaml:4:3  (order.steps)",
    ),
    "beams in any order": (
        ("tiny/mar", "head: {name: mixture}", "sampler: {name: beam}"),
        "error[CK143]: sampler 'beam' keeps rows side by side from left to right, and backbone 'any_order' "
        "reads units in any order\n  --> mine.yaml:4:11  (sampler)\n"
        "  help: causal backbones: gru, transformer; sampler=rows draws without beams",
    ),
    "beams without a density": (
        ("tiny/givt_causal", "head: {name: flow}", "sampler: {name: beam, temperature: null}"),
        "error[CK143]: sampler 'beam' keeps the likeliest rows, and head 'flow' knows no density\n"
        "  --> mine.yaml:4:11  (sampler)\n"
        "  help: heads that do: mixture, tied_mixture; sampler=rows draws without beams",
    ),
    "a vote on images": (
        ("tiny/givt_causal", "sampler: {name: vote, temperature: 0.5}"),
        "error[CK143]: sampler 'vote' chooses among draws of single units, and autoencoder 'image_vae' "
        "decodes "
        "whole rows only\n  --> mine.yaml:3:11  (sampler)\n  help: samplers of rows: beam, rows",
    ),
    "rows on text": (
        ("tiny/energy", "sampler: {name: rows}"),
        "error[CK143]: sampler 'rows' draws rows of a fixed number of units, and those of data 'stdlib' have "
        "none\n  --> mine.yaml:3:11  (sampler)\n  help: samplers of units: direct, greedy, rejection, "
        "sharpen, vote",
    ),
    "guidance without a conditioner": (
        ("tiny/givt_causal", "conditioner: null", "sampler: {guidance: 1.5}"),
        "error[CK143]: sampler 'rows' asks for guidance 1.5, and the recipe has no conditioner\n"
        "  --> mine.yaml:4:11  (sampler.guidance)\n"
        "  help: conditioner=label, where data have labels; sampler.guidance=1 is no guidance",
    ),
    "guidance that training never shows": (
        ("tiny/givt_causal", "conditioner: {drop: 0.0}", "sampler: {guidance: 1.5}"),
        "error[CK143]: guidance 1.5 pushes away from the null condition, which training never shows "
        "(conditioner.drop=0)\n  --> mine.yaml:4:11  (sampler.guidance)\n"
        "  help: conditioner.drop=0.1; sampler.guidance=1 is no guidance",
    ),
    "the first unit of a row untrained": (
        ("tiny/mar", "predict_first: false"),
        "error[CK143]: predict_first=false leaves the first unit untrained, and sampler 'rows' draws it\n"
        "  --> mine.yaml:3:1  (predict_first)\n  help: predict_first=true trains all units of a row",
    ),
    "an autoencoder of text on images": (
        ("tiny/givt_causal", "autoencoder: {name: vae}"),
        "error[CK141]: autoencoder 'vae' is built with vocab_size, which data 'digits' (images) don't have\n"
        "  --> mine.yaml:3:15  (autoencoder)\n"
        "  help: autoencoders that would do: image_sigma_vae, image_vae, patches",
    ),
    "an autoencoder of images on text": (
        ("tiny/energy", "autoencoder: {name: patches}"),
        "error[CK141]: autoencoder 'patches' is built with image_shape, which data 'stdlib' (text) don't "
        "have\n"
        "  --> mine.yaml:3:15  (autoencoder)\n"
        "  help: autoencoders that would do: deterministic, past_vae, sigma_vae, sphere_vae, "
        "token_chunks, vae",
    ),
    "the ids of images": (
        ("tiny/givt_causal", "embedder: {name: tokens}"),
        "error[CK141]: embedder 'tokens' is built with chunk_size and vocab_size, which data 'digits' "
        "(images) "
        "don't have\n  --> mine.yaml:3:12  (embedder)\n  help: embedder=latents would do",
    ),
    "text in any order": (
        ("tiny/energy", f"backbone: {ANY}", "order: {name: random}"),
        "error[CK141]: backbone 'any_order' is built with layout, which data 'stdlib' (text) don't have\n"
        "  --> mine.yaml:3:12  (backbone)\n  help: backbones that would do: gru, transformer",
    ),
    "an order of any order on text": (
        ("tiny/energy", "order: {name: random}"),
        "error[CK141]: order 'random' wants a backbone of any order, and 'transformer' is none\n"
        "  --> mine.yaml:3:9  (order)\n"
        "  help: orders that fit 'transformer' and head 'energy': left_to_right; backbones that fit this "
        "order: "
        "none",
    ),
    "weights of draws that a head does not know": (
        ("tiny/energy", "sampler: {name: sharpen}"),
        "error[CK143]: sampler 'sharpen' goes by the weights of what a draw is picked from, and head "
        "'energy' knows none\n  --> mine.yaml:3:11  (sampler)\n"
        "  help: heads with known weights: mixture, strata, tied_mixture; sampler=vote works from draws "
        "alone",
    ),
    "labels on text": (
        ("tiny/energy", "conditioner: {name: label}"),
        "error[CK141]: conditioner 'label' reads label, which data 'stdlib' don't have\n"
        "  --> mine.yaml:3:15  (conditioner)\n  help: conditioner=null, or data with label",
    ),
    "a description that digits don't have": (
        ("tiny/givt_causal", "conditioner: {name: prefix}"),
        "error[CK141]: conditioner 'prefix' reads prefix, which data 'digits' don't have\n"
        "  --> mine.yaml:3:15  (conditioner)\n  help: conditioner=null, or data with prefix",
    ),
    "patches that don't divide the grid": (
        ("tiny/givt_causal", "transforms: [normalise, {name: patchify, patch: 3}]"),
        "error[CK145]: transform 'patchify': patch 3 does not divide the grid 4 x 4; one of [1, 2, 4] would "
        "do.\n  --> mine.yaml:3:1  (transforms.patch)",
    ),
    "patches of text": (
        ("tiny/energy", "transforms: [patchify]"),
        "error[CK145]: transform 'patchify': the units must lie in a grid of two dimensions, got layout "
        "None; "
        "an autoencoder that gives one, or no patchify, would do.\n  --> mine.yaml:3:1  (transforms)",
    ),
    "a transform that leaves one unit": (
        ("tiny/givt_causal", "transforms: [normalise, {name: patchify, patch: 4}]"),
        "error[CK149]: transform 'patchify' makes 1 unit of a row of 4 x 4 units, with nothing to predict it "
        "from\n  --> mine.yaml:3:1  (transforms)\n  help: a smaller unit; settings of transform 'patchify': "
        "patch",
    ),
    "an autoencoder that makes one unit of an image": (
        ("tiny/pixels", "autoencoder: {patch: 8}"),
        "error[CK149]: autoencoder 'patches' makes 1 unit of a row of data 'digits', with nothing to predict "
        "it from\n  --> tiny/pixels.yaml:11:15  (autoencoder)\n  help: a smaller unit; settings of "
        "autoencoder 'patches': noise, patch",
    ),
    "a row of one chunk": (
        ("tiny/energy", "data: {sequence_length: 4}"),
        "error[CK149]: a row of 4 tokens is 1 unit, with nothing to predict it from\n"
        "  --> mine.yaml:3:8  (data.sequence_length)\n  help: raise data.sequence_length; 8 would do",
    ),
    "a tokenizer on images": (
        ("tiny/givt_causal", "tokenizer: {name: bytes}"),
        "error[CK130]: data 'digits' are images, which have no tokenizer\n"
        "  --> mine.yaml:3:1  (tokenizer)\n  help: write tokenizer=null",
    ),
    "a length of images": (
        ("tiny/givt_causal", "data: {sequence_length: 32}"),
        "error[CK130]: rows of data 'digits' have a length of their own\n"
        "  --> mine.yaml:3:8  (data.sequence_length)\n  help: leave data.sequence_length out",
    ),
    "text without a tokenizer": (
        ("tiny/energy", "tokenizer: null"),
        "error[CK131]: data 'stdlib' are text, which need a tokenizer\n  --> mine.yaml:3:1  (tokenizer)\n"
        "  help: tokenizers: bpe, bytes, file, hub, ids",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_refused_at_its_line_with_the_cure_and_nothing_is_read(case: str) -> None:
    given, said = CASES[case]
    assert refused(*given) == said


def test_the_command_line_says_the_same_as_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calmkit.registry.make_manager", lambda: make_manager(guests=[]))
    given, said = CASES["a vote on images"]
    done = CliRunner().invoke(cli, ["validate", child(*given)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


def test_all_that_is_wrong_with_the_drawing_is_told_at_once() -> None:
    said = refused("tiny/mar", "sampler: {name: beam}", "order: {steps: 99}", "predict_first: false")
    told = ["head 'diffusion' knows no density", "reads units in any order", "steps is 99", "predict_first"]
    assert [said.count("error[CK143]"), *(word in said for word in told)] == [4, True, True, True, True]


def test_labels_that_the_files_lack_are_refused_before_an_image_is_read(tmp_path: Path) -> None:
    write_idx(tmp_path / "some.idx", pixels(4, 8, 8))
    said = refused("tiny/givt_causal", f"data: {{name: idx, train_images: {tmp_path / 'some.idx'}}}")
    assert said == (
        "error[CK141]: conditioner 'label' reads label, which data 'idx' don't have\n"
        "  --> tiny/givt_causal.yaml:16:15  (conditioner)\n  help: conditioner=null, or data with label"
    )


class MuteHead(GenerativeHead):
    """A head that can't be guided."""

    info = HeadInfo(sampling="one_step")

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__()
        self.inner = RegressionHead(hidden_dim, event)

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return self.inner.loss(context, target)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return self.inner.sample(context, num, options)


def test_a_head_that_cannot_be_guided_is_named_with_those_that_can() -> None:
    manager = make_manager(guests=[])
    manager.parts["heads"]["mute"] = Part("heads", "mute", MuteHead, "tests")
    lines = ("head: {name: mute}", "sampler: {temperature: null, guidance: 2.0}")
    assert refused("tiny/givt_causal", *lines, manager=manager) == (
        "error[CK143]: guidance 2, and head 'mute' can't be guided (its HeadInfo.guidance is none)\n"
        "  --> mine.yaml:4:30  (sampler.guidance)\n  help: sampler.guidance=1 is no guidance; heads that can "
        "be: consistency, diffusion, energy, flow, mean_flow, mixture, regression, strata, tied_mixture"
    )
    lines = ("head: {name: mute}", "sampler: {temperature: null, guidance: 1.0}")
    validate(load_recipe(child("tiny/givt_causal", *lines), (), manager), manager)


@pytest.mark.parametrize("sampler", ["vote", "rejection", "greedy", "sharpen"])
def test_samplers_that_ask_which_draws_are_equal_want_units_that_can_be(
    sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make_manager()
    recipe = load_recipe("tiny/mixture", [f"sampler={{name: {sampler}}}"], manager)
    validate(recipe, manager)
    monkeypatch.setattr(manager.find("autoencoders", "vae").cls, "discrete", False)
    with pytest.raises(
        RecipeError, match=f"'{sampler}' asks which draws .* 'vae' are real numbers"
    ) as caught:
        validate(recipe, manager)
    assert "samplers of units that don't ask: direct" in str(caught.value)
