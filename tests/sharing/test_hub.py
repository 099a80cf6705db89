"""The hub, as a folder of this machine: pushed to, fetched from, and every refusal told."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import pytest
from click.testing import CliRunner, Result

import calmkit
from calmkit.cli.main import cli
from calmkit.sharing.hub import is_id
from calmkit.training.errors import RunFailed

hub = pytest.importorskip("huggingface_hub", reason="the extra hf is not installed")


@final
class LocalHub:
    """Models in folders, with the signatures of `HfApi` that are called."""

    def __init__(self, root: Path) -> None:
        self.root, self.private, self.log = root, dict[str, bool](), list[str]()

    def create_repo(self, repo_id: str, *, private: bool | None, repo_type: str, exist_ok: bool) -> str:
        assert (repo_type, exist_ok) == ("model", True)
        if repo_id.startswith("nobody/"):
            raise OSError("401 Client Error.\nInvalid user name or secret.")
        self.private.setdefault(repo_id, bool(private))  # the hub leaves one alone that is there
        return f"https://hub.example/{repo_id}"

    def model_info(self, repo_id: str) -> Any:
        return SimpleNamespace(private=self.private[repo_id])

    def upload_folder(self, *, repo_id: str, folder_path: str, **how: Any) -> None:
        from huggingface_hub.utils import filter_repo_objects

        assert how.pop("repo_type") == "model"
        assert how.pop("commit_message")
        home, source = self.root / repo_id, Path(folder_path)
        home.mkdir(parents=True, exist_ok=True)
        for name in filter_repo_objects(
            [p.name for p in home.iterdir()], allow_patterns=how["delete_patterns"]
        ):
            (home / name).unlink()
        there = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
        for name in filter_repo_objects(there, allow_patterns=how["allow_patterns"]):
            shutil.copyfile(source / name, home / name)

    def snapshot_download(self, repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        from huggingface_hub.utils import filter_repo_objects

        self.log.append(f"{repo_id}@{revision}")
        home = self.root / repo_id
        if not home.is_dir() or revision == "never":
            raise FileNotFoundError("404 Client Error.\nRepository Not Found for url.")
        fetched = self.root / "fetched" / repo_id
        shutil.rmtree(fetched, ignore_errors=True)
        fetched.mkdir(parents=True)
        for name in filter_repo_objects([p.name for p in home.iterdir()], allow_patterns=allow_patterns):
            shutil.copyfile(home / name, fetched / name)
        return str(fetched)


@pytest.fixture
def local(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    there = LocalHub(tmp_path / "hub")
    monkeypatch.setattr(hub, "HfApi", lambda: there)
    monkeypatch.setattr(hub, "snapshot_download", there.snapshot_download)
    return there


def export(shop: Path, folder: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["export", str(shop / "run"), str(folder), "--to", "hf", *words])


def test_what_is_pushed_is_loaded_by_its_id(shop: Path, tmp_path: Path, local: LocalHub) -> None:
    old = local.root / "me" / "it" / "model-00001-of-00002.safetensors"  # of an earlier push
    old.parent.mkdir(parents=True)
    old.touch()
    done = export(shop, tmp_path / "out", "--push", "me/it", "--private", "--license", "apache-2.0")
    assert done.exit_code == 0, done.output
    assert done.output == f"exported: {tmp_path}/out\npushed: https://hub.example/me/it\n"
    assert local.private == {"me/it": True}
    pushed = {path.name for path in (local.root / "me" / "it").iterdir()}
    assert pushed == {path.name for path in (tmp_path / "out").iterdir()}
    card = (local.root / "me" / "it" / "README.md").read_text()
    assert 'calmkit.load("me/it")' in card
    assert "license: apache-2.0\n" in card
    (local.root / "me" / "it" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    model = calmkit.load("me/it", revision="v1")
    assert local.log == ["me/it@v1"]
    assert not (local.root / "fetched" / "me" / "it" / "pytorch_model.bin").exists()
    assert model.generate("the", max_tokens=12, seed=2) == calmkit.load(shop / "run").generate(
        "the", max_tokens=12, seed=2
    )


def test_a_public_model_is_not_pushed_to_as_if_it_were_private(
    shop: Path, tmp_path: Path, local: LocalHub
) -> None:
    local.private["me/it"] = False
    refused = export(shop, tmp_path / "out", "--push", "me/it", "--private")
    assert refused.exit_code == 1
    assert "me/it is there already and is public, so nothing was uploaded with --private" in refused.output
    assert not (local.root / "me").exists()
    assert (tmp_path / "out" / "config.json").is_file()  # kept, as the message says


def test_a_push_that_the_hub_refuses_keeps_the_folder_and_says_how_to_try_again(
    shop: Path, tmp_path: Path, local: LocalHub
) -> None:
    refused = export(shop, tmp_path / "out", "--push", "nobody/it")
    assert refused.exit_code == 1
    assert "OSError: 401 Client Error. Invalid user name or secret. Check the id " in refused.output
    assert f"`hf upload nobody/it {tmp_path}/out` tries again" in refused.output
    assert json.loads((tmp_path / "out" / "config.json").read_text())["calmkit_format"] == 1


@pytest.mark.usefixtures("local")
def test_a_model_that_cannot_be_had_is_told_with_both_places_that_were_looked_in() -> None:
    told = "There is no folder me/none here, and the hub's model of that name can't be had: FileNotFoundErr"
    with pytest.raises(RunFailed, match=told):
        calmkit.load("me/none")
    with pytest.raises(RunFailed, match="at revision 'never' can't be had"):
        calmkit.load("me/none", revision="never")


def test_a_folder_goes_before_an_id_and_has_no_revisions(shop: Path, local: LocalHub) -> None:
    with pytest.raises(RunFailed, match="run is no model of the hub, and has no revisions; leave it out"):
        calmkit.load(shop / "run", revision="v1")
    with pytest.raises(RunFailed, match="nowhere/at/all is no run folder"):
        calmkit.load("nowhere/at/all")
    (Path("me") / "it").mkdir(parents=True)
    with pytest.raises(RunFailed, match="me/it is no run folder"):
        calmkit.load("me/it")
    Path("me/it").rmdir()
    assert local.log == []


def test_without_the_library_the_command_that_installs_it_is_told(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(RunFailed, match=r"pip install 'calmkit\[hf\]'"):
        calmkit.load("me/it")
    refused = export(shop, tmp_path / "out", "--push", "me/it")
    assert "pip install 'calmkit[hf]'" in refused.output
    assert not (tmp_path / "out").exists()


def test_without_a_network_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library's own words, with nothing in its cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        RunFailed, match=r"me/it here, and the hub's model of that name can't be had: .*network"
    ):
        calmkit.load("me/it")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("me/it", True),
        ("me/it-2.b_c", True),
        ("it", False),
        ("a/b/c", False),
        ("../it", False),
        ("/it", False),
    ],
)
def test_the_form_of_an_id(text: str, is_one: bool) -> None:
    assert is_id(text) == is_one
