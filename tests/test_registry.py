"""The one door: built-ins and guests come in through it; what is wrong stays out, named with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from calmkit import registry
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Choice, Corpus, Draw, GenerativeHead, SampleOptions, Sampler, Split
from calmkit.registry import BUILTINS, KINDS, Rejected, UnknownPart, make_manager


class Plain(Sampler):
    """A sampler with a setting."""

    def __init__(self, *, temperature: float = 1.0) -> None:
        self.options = SampleOptions(temperature=temperature)

    def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
        raise AssertionError("never called")


class Bare(Corpus):
    """A corpus without a constructor of its own."""

    def documents(self, split: Split) -> Iterator[str]:
        yield split

    def identity(self) -> str:
        return "bare"


class Abstract(Sampler):
    """Lacks `choose`."""

    def __init__(self) -> None:
        pass


class Positional(Plain):
    """Takes a setting before the star."""

    def __init__(self, temperature: float) -> None:
        super().__init__(temperature=temperature)


class Unreadable(Plain):
    """Its annotation names nothing."""

    def __init__(self, *, temperature: "Nowhere" = None) -> None:
        super().__init__(temperature=1.0)


def plugin(**hooks: Callable[[], Any]) -> object:
    """A plugin object with these hooks, marked as a module's would be."""
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


def samplers(**classes: Any) -> object:
    def calmkit_samplers() -> dict[str, Any]:
        return classes

    return plugin(calmkit_samplers=calmkit_samplers)


class Fake(EntryPoint):
    """An entry point that loads what it is given, or raises it."""

    loads: Any

    def load(self) -> Any:
        if isinstance(self.loads, BaseException):
            raise self.loads
        return self.loads


def guest(loads: Any, name: str = "guest") -> EntryPoint:
    entry_point = Fake(name=name, value="guest", group="calmkit")
    vars(entry_point)["loads"] = loads
    return entry_point


@pytest.fixture(autouse=True)
def few_builtins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two built-in parts: most tests here are about the door, not about the house."""
    monkeypatch.setattr(registry, "BUILTINS", ("calmkit.samplers.direct", "calmkit.heads.regression"))


@pytest.fixture
def all_builtins(few_builtins: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "BUILTINS", BUILTINS)


@pytest.mark.usefixtures("all_builtins")
def test_builtins_come_through_the_door() -> None:
    manager = make_manager([])
    assert manager.plugins == list(BUILTINS)
    assert manager.rejected == []
    wanted = {
        "autoencoders": {"vae", "deterministic", "sigma_vae", "token_chunks"},
        "embedders": {"tokens", "latents", "both"},
        "backbones": {"transformer", "gru"},
        "heads": {"energy", "flow", "diffusion", "mixture", "regression", "local_ar"},
        "samplers": {"direct", "vote", "rejection", "greedy"},
        "corpora": {"stdlib", "text", "hub", "markov"},
        "tokenizers": {"bytes", "bpe", "file", "hub", "ids"},
        "launchers": {"local", "slurm"},
    }
    assert {kind: set(parts) for kind, parts in manager.parts.items()} == wanted
    assert set(wanted) == set(KINDS)


@pytest.mark.usefixtures("all_builtins")
def test_every_builtin_is_final_and_has_a_summary() -> None:
    for parts in make_manager([]).parts.values():
        for part in parts.values():
            assert vars(part.cls).get("__final__"), part
            assert part.summary.endswith("."), part


def test_a_guest_joins() -> None:
    manager = make_manager([guest(samplers(plain=Plain))])
    part = manager.find("samplers", "plain")
    assert (part.cls, part.plugin, part.summary) == (Plain, "guest", "A sampler with a setting.")
    setting = part.settings["temperature"]
    assert (setting.annotation, setting.default, setting.required) == (float, 1.0, False)
    built = manager.build("samplers", "plain", {"temperature": 0.5})
    assert built.options.temperature == 0.5
    assert manager.rejected == []


def test_a_part_without_a_constructor_has_no_settings() -> None:
    def calmkit_corpora() -> dict[str, type[Corpus]]:
        return {"bare": Bare}

    manager = make_manager([guest(plugin(calmkit_corpora=calmkit_corpora))])
    assert manager.find("corpora", "bare").settings == {}
    assert manager.build("corpora", "bare", {}).identity() == "bare"


def test_one_plugin_may_bring_several_kinds() -> None:
    def calmkit_corpora() -> dict[str, type[Corpus]]:
        return {"bare": Bare}

    def calmkit_samplers() -> dict[str, type[Sampler]]:
        return {"plain": Plain}

    both = plugin(calmkit_corpora=calmkit_corpora, calmkit_samplers=calmkit_samplers)
    manager = make_manager([guest(both)])
    assert "bare" in manager.parts["corpora"]
    assert "plain" in manager.parts["samplers"]


def _raises() -> dict[str, Any]:
    raise RuntimeError("the hook broke")


BAD: dict[str, tuple[Any, str]] = {
    "import fails": (ImportError("no module named secret"), "ImportError: no module named secret"),
    "syntax error": (SyntaxError("invalid syntax"), "SyntaxError: invalid syntax"),
    "exits on import": (SystemExit(3), "SystemExit: 3"),
    "no hooks": (SimpleNamespace(), "it registers no part"),
    "unmarked hook": (SimpleNamespace(calmkit_samplers=lambda: {"plain": Plain}), "it registers no part"),
    "unknown hook": (plugin(calmkit_headz=lambda: {}), "unknown hook 'calmkit_headz'"),
    "hook raises": (plugin(calmkit_samplers=_raises), "RuntimeError: the hook broke"),
    "hook takes an argument": (plugin(calmkit_samplers=lambda house: {}), "house"),
    "not a dict": (plugin(calmkit_samplers=lambda: [Plain]), "must return a dict of names and classes"),
    "returns nothing": (plugin(calmkit_samplers=lambda: None), "must return a dict of names and classes"),
    "not a subclass": (samplers(odd=dict), "not a subclass of Sampler"),
    "an instance": (samplers(odd=Plain()), "not a subclass of Sampler"),
    "wrong kind": (plugin(calmkit_heads=lambda: {"odd": Plain}), "not a subclass of GenerativeHead"),
    "abstract": (samplers(odd=Abstract), "'odd' is refused: it is abstract; it lacks: choose"),
    "positional setting": (samplers(odd=Positional), "must be (*, ...); it takes ('temperature',)"),
    "unreadable annotation": (samplers(odd=Unreadable), "name 'Nowhere' is not defined"),
    "used name": (samplers(direct=Plain), "the name 'direct' is taken by calmkit.samplers.direct"),
    "name is no text": (plugin(calmkit_samplers=lambda: {3: Plain}), "the name 3 is not a text"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_guest_is_left_out_with_its_reason(case: str) -> None:
    loads, reason = BAD[case]
    good = guest(samplers(plain=Plain), name="z-good")  # guests are read in the order of their names
    manager = make_manager([guest(loads, name="a-bad"), good])
    assert len(manager.rejected) == 1
    assert manager.rejected[0].plugin == "a-bad"
    assert reason in manager.rejected[0].reason
    assert set(manager.parts["samplers"]) == {"direct", "plain"}
    assert set(manager.parts["heads"]) == {"regression"}
    with pytest.raises(UnknownPart, match="left out: a-bad: "):
        manager.find("heads", "odd")


def test_the_good_parts_of_a_guest_stay() -> None:
    manager = make_manager([guest(samplers(odd=Abstract, plain=Plain))])
    assert set(manager.parts["samplers"]) == {"direct", "plain"}
    assert manager.plugins[-1] == "guest"
    assert [r.plugin for r in manager.rejected] == ["guest"]


def test_two_guests_with_one_name() -> None:
    pair = [guest(samplers(plain=Plain), name="b"), guest(samplers(plain=Plain), name="a")]
    manager = make_manager(pair)
    assert manager.find("samplers", "plain").plugin == "a"
    assert manager.rejected == [Rejected("b", "samplers: the name 'plain' is taken by a")]


def test_one_distribution_may_have_two_entry_points() -> None:
    one, two = guest(samplers(plain=Plain), name="a"), guest(samplers(other=Plain), name="b")
    for entry_point in (one, two):
        vars(entry_point)["dist"] = SimpleNamespace(name="pair", version="1.2")
    manager = make_manager([one, two])
    assert manager.rejected == []
    assert manager.find("samplers", "other").plugin == "pair 1.2"


def test_unknown_part_names_near_misses_and_the_names_there_are() -> None:
    manager = make_manager([])
    with pytest.raises(UnknownPart) as caught:
        manager.find("heads", "regresion")
    assert str(caught.value) == (
        "No part 'regresion' among the heads. Did you mean 'regression'? There are: regression."
    )


def test_managers_share_nothing() -> None:
    first = make_manager([guest(samplers(plain=Plain))])
    assert "plain" in first.parts["samplers"]
    assert "plain" not in make_manager([]).parts["samplers"]


def test_a_wrong_builtin_is_our_own_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "BUILTINS", ("calmkit.interfaces.head",))
    with pytest.raises(AssertionError, match=r"a built-in part is wrong: .*registers no part"):
        make_manager([])


def test_sizes_come_first() -> None:
    assert KINDS["heads"].base is GenerativeHead
    assert KINDS["heads"].sizes == ("hidden_dim", "event")
    assert KINDS["embedders"].sizes == ("hidden_dim", "event", "chunk_size", "vocab_size")
