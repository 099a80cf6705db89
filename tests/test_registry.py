"""The one door: built-ins and guests come in through it; what is wrong stays out, named with its reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from calmkit import registry
from calmkit.built_in import BUILTINS
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import (
    Choice,
    Context,
    Corpus,
    Draw,
    Embedder,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    IterativeHead,
    Measure,
    MeasureInfo,
    Number,
    Posterior,
    SampleOptions,
    Sampler,
    Split,
    TextCorpus,
    TokenAutoencoder,
)
from calmkit.recipe.convert import Misfit, convert, to_node
from calmkit.recipe.errors import Mark
from calmkit.registry import KINDS, Rejected, UnknownPart, make_manager, sizes_of
from calmkit.testing import check_embedder, check_head


class Plain(Sampler):
    """A sampler with a setting."""

    def __init__(self, *, temperature: float = 1.0) -> None:
        self.options = SampleOptions(temperature=temperature)

    def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
        raise AssertionError("never called")


class Bare(TextCorpus):
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


class Required(Plain):
    """Cannot do without a setting."""

    def __init__(self, *, candidates: int) -> None:
        super().__init__()


class Unannotated(Plain):
    """Does not say what its setting is."""

    def __init__(self, *, candidates=3) -> None:  # type: ignore[no-untyped-def]
        super().__init__()


class Unwritable(Plain):
    """Takes what no YAML holds."""

    def __init__(self, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()


class OtherDefault(Plain):
    """Its default is not what it says it takes."""

    def __init__(self, *, candidates: int = "many") -> None:  # type: ignore[assignment]
        super().__init__()


class Anything(Plain):
    """Takes whatever comes."""

    def __init__(self, **options: float) -> None:
        super().__init__()


class AnyNumber(Plain):
    """Takes however much comes."""

    def __init__(self, *sizes: int, candidates: int = 3) -> None:
        super().__init__()


class FromAFile(Bare):
    """A corpus must be told where it lies."""

    def __init__(self, *, path: str) -> None:
        pass


class Reads(Embedder):
    """Keeps what it reads to itself."""

    def __init__(self, hidden_dim: int, event: EventSpec, chunk_size: int, vocab_size: int) -> None:
        super().__init__()

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        raise AssertionError("never called")


class Misreads(Reads):
    """Reads what there is not."""

    reads = "pixels"  # type: ignore[assignment]


class NoInfo(GenerativeHead):
    """States nothing."""

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__()

    def loss(self, context: Context, target: Posterior) -> Tensor:
        raise AssertionError("never called")

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        raise AssertionError("never called")


class OtherInfo(NoInfo):
    """States its facts in words of its own."""

    info = ("one_step",)  # type: ignore[assignment]


class LateInfo(NoInfo):
    """States its facts when it is built, and a recipe is composed before that."""

    def __init__(self, hidden_dim: int, event: EventSpec) -> None:
        super().__init__(hidden_dim, event)
        self.info = HeadInfo(sampling="one_step")  # type: ignore[misc]


class NotIterative(NoInfo):
    """Says that it takes steps, and can't say how many."""

    info = HeadInfo(sampling="iterative")


class SecretlyIterative(IterativeHead, NoInfo):
    """Takes steps, and says that it takes one."""

    info = HeadInfo(sampling="one_step")

    def network_calls(self, options: SampleOptions | None = None) -> int | None:
        return 5


class LaterGood(NoInfo):
    """States its facts."""

    info = HeadInfo(sampling="one_step")


class Stubborn(type(GenerativeHead)):  # type: ignore[misc]
    """A metaclass whose classes answer no question."""

    @property
    def info(cls) -> HeadInfo:
        raise RuntimeError("ask somebody else")


class Unaskable(NoInfo, metaclass=Stubborn):
    """Raises where it is looked at."""


def heads(**classes: Any) -> object:
    def calmkit_heads() -> dict[str, Any]:
        return classes

    return plugin(calmkit_heads=calmkit_heads)


def embedders(**classes: Any) -> object:
    def calmkit_embedders() -> dict[str, Any]:
        return classes

    return plugin(calmkit_embedders=calmkit_embedders)


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
        "transforms": {"normalise", "patchify", "adaptor"},
        "autoencoders": {
            "vae",
            "deterministic",
            "sigma_vae",
            "past_vae",
            "sphere_vae",
            "token_chunks",
            "patches",
            "image_vae",
            "image_sigma_vae",
        },
        "embedders": {"tokens", "latents", "both"},
        "conditioners": {"label", "prefix"},
        "backbones": {"transformer", "gru", "any_order"},
        "orders": {"left_to_right", "random", "confidence"},
        "heads": {
            *("energy", "flow", "diffusion", "mixture", "regression", "local_ar"),
            *("strata", "tied_mixture", "mean_flow", "consistency"),
        },
        "objectives": {"data", "distil", "prefer"},
        "samplers": {"direct", "vote", "rejection", "greedy", "sharpen", "rows", "beam"},
        "corpora": {"stdlib", "text", "hub", "markov", "digits", "idx", "cifar", "folder"},
        "tokenizers": {"bytes", "bpe", "file", "hub", "ids"},
        "launchers": {"local", "slurm"},
        "metrics": {
            *("latent_energy", "variogram", "reward"),
            *("brier", "nll", "latent_nll", "tokens_per_second", "reconstruction"),
            "draw_nats",
            *("fd", "kd", "precision", "recall", "class_accuracy", "nearest_ratio", "network_accuracy"),
            *("nats_per_dim", "bar_gaussian", "bar_copy", "images_per_second", "reconstruction_psnr"),
        },
        "data_kinds": {"text", "images"},
    }
    assert {kind: set(parts) for kind, parts in manager.parts.items() if parts} == wanted
    assert set(wanted) <= set(KINDS)


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
    "required setting": (samplers(odd=Required), "its setting 'candidates' has no default"),
    "unannotated setting": (samplers(odd=Unannotated), "its setting 'candidates' has no annotation"),
    "unwritable setting": (samplers(odd=Unwritable), "'dtype' is of type dtype, which no recipe can hold"),
    "default of another type": (
        samplers(odd=OtherDefault),
        "the default 'many', which is not of its own type",
    ),
    "any keyword": (samplers(odd=Anything), "its constructor takes **options, so nobody can tell"),
    "any argument": (samplers(odd=AnyNumber), "its constructor takes *sizes, so nobody can tell"),
    "a name with a space": (samplers(**{"od d": Plain}), "allowed are letters (a-z, A-Z), digits and '_'"),
    "a name with a slash": (samplers(**{"od/d": Plain}), "the name 'od/d' can't be written in a recipe"),
    "a name that is a number": (samplers(**{"3": Plain}), "the name '3' can't be written in a recipe"),
    "a name of other letters": (samplers(**{"größe": Plain}), "can't be written in a recipe"),
    "an empty name": (samplers(**{"": Plain}), "the name '' is not a text"),
    "the name of nothing": (samplers(null=Plain), "the name 'null' is what a recipe writes for nothing"),
    "no info": (heads(odd=NoInfo), "it states no info on the class (found None), such as `info = HeadInfo("),
    "info of another type": (heads(odd=OtherInfo), "(found ('one_step',))"),
    "info on the instance": (heads(odd=LateInfo), "it states no info on the class"),
    "iterative in words": (heads(odd=NotIterative), "is 'iterative', yet it is no IterativeHead"),
    "iterative in deed": (heads(odd=SecretlyIterative), "is 'one_step', yet it is an IterativeHead"),
    "no reads": (embedders(odd=Reads), "it states no reads on the class (found None); one of data, latents,"),
    "unknown reads": (embedders(odd=Misreads), "(found 'pixels'); one of data, latents, both would do"),
    "no answer": (heads(odd=Unaskable), "'odd' can't be looked at: RuntimeError: ask somebody else"),
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


def measures(**classes: Any) -> object:
    return plugin(calmkit_metrics=lambda: classes)


def described(*keys: str, base: type[Measure] = Measure, **facts: Any) -> type[Measure]:
    """A measure with these numbers."""
    number = Number("n", better="lower", meaning="None.")
    return type("Described", (base,), {"info": MeasureInfo(dict.fromkeys(keys, number), **facts)})


BAD_MEASURES: dict[str, tuple[type, str]] = {
    "no info": (type("Bare", (Measure,), {}), "'new' has no info, or one that is no MeasureInfo: None"),
    "another info": (type("Odd", (Measure,), {"info": {"a": 1}}), "no MeasureInfo: {'a': 1}"),
    "not ASCII": (described("größe"), "'new' yields 'new_größe', which is no column"),
    "no column": (described("a b"), "'new' yields 'new_a b', which is no column"),
    "ignored facts": (
        described("", events=frozenset({"tokens"})),
        "its needs and events would say nothing",
    ),
    "no direction": (dict, "not a subclass of Measure"),
}


@pytest.mark.parametrize("case", BAD_MEASURES)
def test_a_measure_that_says_too_little_is_left_out(case: str) -> None:
    cls, reason = BAD_MEASURES[case]
    manager = make_manager([guest(measures(new=cls, good=described("")))])
    assert [reason in rejected.reason for rejected in manager.rejected] == [True]
    assert set(manager.parts["metrics"]) == {"good"}


def test_two_measures_never_yield_one_number() -> None:
    first, second = described("", "wide"), described("")
    manager = make_manager([guest(measures(a=first, a_wide=second, b=described("")))])
    assert set(manager.numbers()) == {"a", "a_wide", "b"}
    assert manager.rejected == [
        Rejected("guest", "metrics: 'a_wide' yields 'a_wide', a number of 'a' already")
    ]


def test_a_corpus_may_have_to_be_told_where_it_lies() -> None:
    def calmkit_corpora() -> dict[str, type[Corpus]]:
        return {"file": FromAFile}

    manager = make_manager([guest(plugin(calmkit_corpora=calmkit_corpora))])
    assert manager.find("corpora", "file").settings["path"].required


def test_a_class_that_answers_no_question_leaves_its_neighbours_in() -> None:
    manager = make_manager([guest(heads(odd=Unaskable, other=LaterGood))])
    assert set(manager.parts["heads"]) == {"regression", "other"}


def test_the_kit_says_what_the_door_says() -> None:
    with pytest.raises(AssertionError, match="law 'info states the facts of a head': it states no info"):
        check_head(NoInfo)
    with pytest.raises(AssertionError, match=r"law 'reads is 'data', .*': it states no reads"):
        check_embedder(Reads)


NO_INFO = """
from torch import nn
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import GenerativeHead

class NoInfo(GenerativeHead):
    def __init__(self, hidden_dim, event):
        super().__init__()
        self.project = nn.Linear(hidden_dim, event.shape[0])
    def loss(self, context, target):
        return (self.project(context.h) - target.mean).square().sum(-1)
    def sample(self, context, num=1, options=None):
        return self.project(context.h).expand(num, *context.h.shape[:-1], -1)

@hookimpl
def calmkit_heads():
    return {"noinfo": NoInfo}
"""
ONE_STEP = """
from calmkit.interfaces import GenerativeHead, HeadInfo

class Head(GenerativeHead):
    info = HeadInfo(sampling="onestep")
"""


def installed(folder: Path, name: str, module: str) -> None:
    """A distribution as pip leaves one, with an entry point for its module."""
    (folder / f"{name}.py").write_text(module)
    facts = folder / f"{name}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[calmkit]\n{name} = {name}\n")


def test_system_a_bad_guest_is_named_and_stops_nobody(tmp_path: Path) -> None:
    """As a user meets it: two distributions that are wrong, and somebody else's commands."""
    installed(tmp_path, "guest_noinfo", NO_INFO)
    installed(tmp_path, "guest_onestep", ONE_STEP)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])

    def calmkit(*words: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; from calmkit.cli.main import cli; cli()"
        environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "400"}
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)

    listed = calmkit("ls", "plugins", "--json")
    assert listed.returncode == 0, listed.stderr
    left_out = {row["name"]: row for row in json.loads(listed.stdout) if row["state"] == "left out"}
    assert "heads: 'noinfo' is refused: it states no info" in left_out["guest_noinfo 1.0"]["parts or reason"]
    said = left_out["guest_onestep 1.0"]["parts or reason"]
    assert said.startswith("ValueError: HeadInfo: sampling is 'onestep'; it must be one of one_step, ")
    other = calmkit("validate", "tiny/energy", "head=local_ar")
    assert other.returncode == 2
    assert "error[CK141]: head 'local_ar' takes tokens events" in other.stderr
    assert calmkit("validate", "tiny/energy").returncode == 0


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
    assert sizes_of("embedders", Embedder) == ("hidden_dim", "event", "chunk_size", "vocab_size")
    assert sizes_of("autoencoders", TokenAutoencoder) == ("vocab_size",)


TYPES: list[tuple[Any, Any, Any]] = [
    (int, 3, True),
    (float, 3, "3"),
    (bool, False, 0),
    (str, "a", None),
    (Path, "a.txt", 3),
    (int | None, None, 1.5),
    (Literal["a", "b"], "a", "c"),
    (list[int], (1, 2), ["a"]),
    (tuple[int, float], (1, 2.5), (1,)),
    (tuple[str, ...], (), "a"),
    (dict[str, float], {"a": 1}, {"a": "b"}),
    (str | list[str], ["a"], [3]),
]


@pytest.mark.parametrize(("annotation", "good", "bad"), TYPES, ids=lambda value: str(value))
def test_the_default_of_a_setting_is_read_back_as_it_is_written(annotation: Any, good: Any, bad: Any) -> None:
    def reason(default: Any) -> str | None:
        def init(self: Any, *, width: Any = default) -> None:
            del self, width

        init.__annotations__["width"] = annotation
        return registry.refusal("samplers", "odd", type("Odd", (Plain,), {"__init__": init}))

    assert reason(good) is None
    assert "not of its own type" in str(reason(bad))

    def read_back(default: Any) -> Any:
        try:
            return convert(annotation, to_node(default, Mark("")))
        except Misfit:
            return "refused"

    assert read_back(good) in (good, Path(str(good)), list(good) if isinstance(good, tuple) else good)
    assert read_back(bad) != bad
