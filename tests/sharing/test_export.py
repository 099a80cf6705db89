"""Exported runs: the same samples and numbers elsewhere, nothing of this machine, and every fault named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from small_runs import SHORT, small_run, tensors

import calmkit
from calmkit.cli.main import cli
from calmkit.recipe.errors import RecipeError
from calmkit.registry import Manager, make_manager
from calmkit.sharing.export import export_run
from calmkit.training.errors import RunFailed
from calmkit.training.exported import config_digest
from calmkit.training.run import Run

BPE = "tokenizer={name: bpe, vocab_size: 300}"  # as the run of `conftest.py` has it


@pytest.fixture(scope="module")
def manager() -> Manager:
    return make_manager([])


@pytest.fixture
def out(shop: Path, tmp_path: Path) -> Path:
    """A copy of the export, to be damaged."""
    return Path(shutil.copytree(shop / "elsewhere" / "out", tmp_path / "out"))


def calm(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def test_the_folder_holds_what_a_hub_shows_and_nothing_of_this_machine(shop: Path, out: Path) -> None:
    names = {path.name for path in out.iterdir()}
    assert names == {
        "README.md", "config.json", "evaluation.json", "lock.yaml", "model.safetensors", "resolved.yaml",
        "tokenizer.json", "tokenizer_eos.json",
    }  # fmt: skip
    assert (out / "model.safetensors").read_bytes() == Run(shop / "run").weights.read_bytes()
    said = json.loads((out / "config.json").read_text())
    assert said["calmkit_format"] == 1
    assert said["architectures"] == ["CalmModel"]
    assert said["parts"] == {}
    assert said["recipe"]["data"]["train"] == "corpus.jsonl"
    assert said["recipe"]["head"]["num_draws"] == 4
    texts = [path.read_text() for path in out.iterdir() if path.suffix != ".safetensors"]
    assert str(shop) in (shop / "run" / "resolved.yaml").read_text()
    assert not any(str(shop) in text or "/home/" in text for text in texts)
    card = (out / "README.md").read_text()
    low, high = (f"{Run(shop / 'run').evaluation[f'brier_lm_{end}']:.6g}" for end in ("low", "high"))
    assert f"| {low} | {high} |" in card
    assert Run(shop / "run").lock["data"] in card
    assert "&lt;b&gt;\\|of letters" in card


def test_samples_and_numbers_are_equal_to_the_last_bit(shop: Path, out: Path) -> None:
    mine, theirs = (calmkit.load(folder) for folder in (shop / "run", str(out)))
    assert not theirs.model.training
    assert {parameter.device.type for parameter in theirs.model.parameters()} == {"cpu"}
    state = theirs.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in mine.model.state_dict().items())
    assert mine.generate("the cat", max_tokens=12, seed=3) == theirs.generate(
        "the cat", max_tokens=12, seed=3
    )
    words = ("-p", "the cat", "--seed", "3", "--max-tokens", "12", "--device", "cpu")
    assert calm("generate", str(out), *words).stdout == mine.generate("the cat", max_tokens=12, seed=3) + "\n"
    assert Run(out).facts == Run(shop / "run").facts
    before = Run(shop / "run").evaluation
    assert Run(out).evaluation == before
    result = calm("eval", str(out), "--json")  # its corpus is in the current folder, as `corpus.jsonl`
    assert result.exit_code == 0, result.output
    again = json.loads(result.stdout)
    assert {k: v for k, v in again.items() if not k.endswith("per_second")} == {
        k: v for k, v in before.items() if not k.endswith("per_second")
    }
    assert calmkit.load(out).model is not None  # it is still whole


def test_a_large_model_is_exported_in_several_files(shop: Path, tmp_path: Path) -> None:
    export_run(Run(shop / "run"), tmp_path / "out", largest=40_000, say=lambda line: None)
    assert len(list(tmp_path.glob("out/model-*.safetensors"))) > 2
    one, several = (calmkit.load(folder).generate("a", seed=1) for folder in (shop / "run", tmp_path / "out"))
    assert one == several
    (tmp_path / "out" / "model-00002-of-00004.safetensors").unlink()
    with pytest.raises(
        RunFailed, match=r"model-00002-of-00004\.safetensors is missing\. Download or copy it"
    ):
        calmkit.load(tmp_path / "out")


def test_an_exported_run_is_exported_again_and_begins_others_but_does_not_go_on(
    shop: Path, out: Path
) -> None:
    export_run(Run(out), out.parent / "again", say=lambda line: None)
    first, second = (json.loads((out.parent / name / "config.json").read_text()) for name in ("out", "again"))
    assert first == second
    refused = calm("train", str(out))
    assert refused.exit_code == 1
    assert f"stages.autoencoder.init_from={out} stages.lm.init_from={out}" in refused.output
    begun = ("stages.lm=null", f"stages.autoencoder.init_from={out}")
    taken, whole = tensors(small_run(shop, "begun", *SHORT, BPE, *begun)), tensors(Run(out))
    assert taken
    assert all(torch.equal(value, whole[name]) for name, value in taken.items())


def altered(change: Callable[[dict[str, Any]], object], *, signed: bool = True) -> Callable[[Path], object]:
    """A change of config.json, with the checksum that goes with it."""

    def alter(path: Path) -> None:
        said = json.loads(path.read_text())
        change(said)
        if signed:
            said["sha256"] = config_digest(said)
        path.write_text(json.dumps(said))

    return alter


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


FAULTS: list[tuple[str, Callable[[Path], object], str]] = [
    *(
        (name, fault, rf"{name} was cut or altered.*export the run again")
        for name in ("model.safetensors", "tokenizer.json", "lock.yaml", "resolved.yaml")
        for fault in (flipped, cut)
    ),
    *(
        (name, Path.unlink, rf"{name} is missing.*export the run again")
        for name in ("config.json", "model.safetensors", "tokenizer_eos.json", "lock.yaml")
    ),
    ("resolved.yaml", Path.unlink, r"resolved\.yaml is missing|it has no resolved\.yaml"),
    ("config.json", cut, r"config\.json can't be read"),
    ("config.json", altered(lambda said: said["facts"].update(chunk_size=5), signed=False), "cut or altered"),
    ("config.json", altered(lambda said: said["recipe"].update(seed=7)), "hold two recipes"),
    ("config.json", altered(lambda said: said.pop("calmkit_format"), signed=False), "is not of calmkit"),
    (
        "config.json",
        altered(lambda said: said.update(calmkit_format=2, calmkit_version="9.0"), signed=False),
        r"of version 2 of calmkit's format, made by calmkit '9\.0'; .* reads version 1\. Install a newer",
    ),
    (
        "config.json",
        altered(lambda said: said.update(parts={"heads/absent": "calmkit-absent 1.0"})),
        "made with 'heads/absent' of the plugin 'calmkit-absent 1.0', which is not installed here",
    ),
    (
        "config.json",
        altered(lambda said: said["files"].update({"../run/lock.yaml": "0"})),
        r"names a file outside of its folder, '\.\./run/lock\.yaml'",
    ),
]


@pytest.mark.parametrize(("name", "fault", "told"), FAULTS)
def test_what_is_wrong_with_a_folder_is_named_with_the_cure(
    out: Path, manager: Manager, name: str, fault: Callable[[Path], object], told: str
) -> None:
    fault(out / name)
    with pytest.raises(RunFailed, match=told):
        calmkit.load(out, manager)


def test_the_command_line_tells_it_too(out: Path) -> None:
    (out / "tokenizer.json").unlink()
    said = calm("generate", str(out), "--max-tokens", "4")
    assert said.exit_code == 1
    assert "tokenizer.json is missing. Download or copy it again, or export the run again." in said.output
    (out / "resolved.yaml").unlink()
    said = calm("generate", str(out), "--max-tokens", "4")
    assert said.exit_code == 2
    assert "it has no resolved.yaml" in said.output


def test_a_key_that_others_add_is_no_fault(out: Path) -> None:
    altered(lambda said: said.update(torch_dtype="float32"), signed=False)(out / "config.json")
    assert calmkit.load(out).generate("a", max_tokens=4) is not None


def test_what_is_there_already_is_left_alone(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(RunFailed, match="full is there already; name another folder, or delete it"):
        export_run(Run(shop / "run"), tmp_path / "full")
    (tmp_path / "empty").mkdir()
    export_run(Run(shop / "run"), tmp_path / "empty", say=lambda line: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]


def test_an_export_that_fails_leaves_nothing(shop: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(shop / "run", tmp_path / "run"))
    (run / "model" / "tokenizer" / "words.pkl").write_bytes(b"\x80")
    with pytest.raises(RunFailed, match=r"words\.pkl can't be exported: .* need no code to be read"):
        export_run(Run(run), tmp_path / "out")
    (run / "model" / "tokenizer" / "words.pkl").rename(run / "model" / "tokenizer" / "config.json")
    with pytest.raises(RunFailed, match=r"config\.json can't be exported: a file of that name"):
        export_run(Run(run), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_without_a_model_is_refused_in_its_own_words(tmp_path: Path, shop: Path) -> None:
    run = Path(shutil.copytree(shop / "run", tmp_path / "run"))
    facts = json.loads((run / "model" / "config.json").read_text())
    (run / "run.sha256").unlink()
    (run / "model" / "config.json").write_text(
        json.dumps({k: v for k, v in facts.items() if k != "lm_steps"})
    )
    with pytest.raises(RunFailed, match="holds a trained autoencoder and nothing on top of it"):
        export_run(Run(run), tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--to", "official", "--push", "me/it"), "--push goes with --to hf"),
        (("--to", "hf", "--safetensors"), "--safetensors goes with --to official"),
        (("--to", "hf", "--private"), "--private goes with --push"),
        (("--to", "hf", "--push", "it"), "--push is ORG/NAME, such as me/my-model; got 'it'"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    shop: Path, words: tuple[str, ...], told: str
) -> None:
    refused = calm("export", str(shop / "run"), str(shop / "never"), *words)
    assert refused.exit_code == 2
    assert told in refused.output
    assert not (shop / "never").exists()


def test_an_override_that_fits_no_weights_is_refused(out: Path) -> None:
    with pytest.raises(RecipeError, match="CK130"):
        calmkit.load(out, overrides=["sampler.nothing=1"])
    with pytest.raises(RunFailed, match="other shapes than the recipe"):
        calmkit.load(out, overrides=["backbone.hidden_dim=8"])
