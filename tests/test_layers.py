"""The house rules that a syntax tree can see: imports point down, and a few things are never done.

Each rule is a function from a parsed file to its violations, and is shown to fail on lines written for it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import calmkit
from calmkit.built_in import BUILTINS

PACKAGE = Path(calmkit.__file__).parent

# DESIGN, section 1, from the ground up. Rooms of one line: '|' don't know each other, ',' may.
ORDER = """
interfaces, hookspecs, cores, sums, printed
nn, dynamics
autoencoders | transforms | conditioners | embedders | backbones | orders | heads | samplers | launchers
head_calls, decoding
model
objectives
beams
generation
rows, metrics
part_settings
admission
built_in
registry
recipe
data
results
training
sharing
report
text | images
studies | testing
cli
__main__
"""
FLOORS = [(re.split(r"[,|]", line.replace(" ", "")), "," in line) for line in ORDER.split("\n") if line]
FLOOR = {room: (height, friends) for height, (rooms, friends) in enumerate(FLOORS) for room in rooms}

HEAVY = {
    "PIL": (),
    "datasets": (),
    "diffusers": (),
    "lm_eval": ("text/interop/lm_eval",),
    "lightning": ("training/", "data/datamodule.py"),
    "matplotlib": (),
    "pyarrow": (),
    "sklearn": (),
    "tokenizers": (),
    "torchdyn": (),
    "torchmetrics": ("metrics/", "training/", "text/", "images/"),  # lightning loads it anyway
    "transformers": (),
}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Modules that a tree imports, with lines; `from a import b` gives both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base, node.lineno
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def room_of(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


def points_up(path: str, tree: ast.Module) -> list[str]:
    """Imports of rooms that are not below; those inside functions count too."""
    room, found = room_of(path), []
    if room == "__init__":  # re-exports the rooms' public names, lazily
        return []
    if room not in FLOOR:
        return [f"room '{room}' has no place in the order of DESIGN section 1"]
    height, friends = FLOOR[room]
    for name, line in imports(tree):
        parts = name.split(".")
        if name.startswith("."):
            found.append(f"line {line}: relative import {name}")
        elif parts[0] == "calmkit" and len(parts) > 1 and parts[1] in FLOOR and parts[1] != room:
            other = FLOOR[parts[1]][0]
            if other > height or (other == height and not friends):
                found.append(f"line {line}: {room} imports {name}")
    return found


def top_level(tree: ast.Module) -> ast.Module:
    """What runs when the module loads: no function bodies, nothing for type checkers only."""

    class Loaded(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST:
            if ast.unparse(node.test).endswith("TYPE_CHECKING"):
                return ast.Module(node.orelse, [])
            return self.generic_visit(node)

    return Loaded().visit(ast.parse(ast.unparse(tree)))


def heavy_on_load(path: str, tree: ast.Module) -> list[str]:
    return [
        f"{name} is imported when the module loads"
        for name, _ in imports(top_level(tree))
        if name.split(".")[0] in HEAVY and not path.startswith(HEAVY[name.split(".")[0]])
    ]


def other_lightning(path: str, tree: ast.Module) -> list[str]:
    """Only `lightning.pytorch`: one package, one name."""
    del path
    roots = ("pytorch_lightning", "lightning_fabric", "lightning.fabric")
    return [f"line {line}: {name}" for name, line in imports(tree) if name.startswith(roots)]


def names_a_device(path: str, tree: ast.Module) -> list[str]:
    del path
    calls = (n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "cuda")
    return [f"line {n.lineno}: {ast.unparse(n)}" for n in calls]


def unpickles(path: str, tree: ast.Module) -> list[str]:
    del path
    found = [f"line {line}: {name}" for name, line in imports(tree) if name.split(".")[0] in PICKLES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = [k for k in node.keywords if k.arg == "weights_only" and ast.unparse(k.value) == "True"]
            if not safe:
                found.append(f"line {node.lineno}: torch.load without weights_only=True")
    return found


def asks_whether_it_has(path: str, tree: ast.Module) -> list[str]:
    del path
    names = (n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "hasattr")
    return [f"line {n.lineno}: hasattr; a capability is a type" for n in names]


def calls_a_head(path: str, tree: ast.Module) -> list[str]:
    """Heads are called by `calmkit.head_calls`, as their facts ask for; the kit asks them itself."""
    if room_of(path) in ("head_calls", "heads", "testing"):
        return []
    asked = ("loss", "log_prob", "place_log_probs", "sample", "sample_guided")
    calls = (n.func for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute))
    return [
        f"line {call.lineno}: {ast.unparse(call)}; calmkit.head_calls has head_loss, head_log_prob, "
        "head_draws and guided_draws"
        for call in calls
        if call.attr in asked and ast.unparse(call.value).split(".")[-1] == "head"
    ]


KINDS_OF_DATA = ("text", "images")
ASK_THE_KIND = (
    "head_calls", "model", "generation", "beams", "rows",
    "recipe", "training", "sharing", "results", "report", "studies",
)  # fmt: skip


def knows_a_kind(path: str, tree: ast.Module) -> list[str]:
    """What serves every kind of data imports none; only the registry hands them out."""
    if room_of(path) not in ASK_THE_KIND:
        return []
    kinds = tuple(f"calmkit.{kind}" for kind in KINDS_OF_DATA)
    return [f"line {line}: {name}" for name, line in imports(tree) if ".".join(name.split(".")[:2]) in kinds]


def knows_a_guest(path: str, tree: ast.Module) -> list[str]:
    del path
    guests = ("plugins", "calmkit_")
    return [f"line {line}: {name}" for name, line in imports(tree) if name.split(".")[0].startswith(guests)]


def without_source(path: str, tree: ast.Module) -> list[str]:
    """A part's module says where its idea comes from, with a link."""
    if "calmkit." + path.removesuffix(".py").replace("/", ".") not in BUILTINS:
        return []
    linked = re.search(r"https?://\S+", ast.get_docstring(tree) or "")
    return [] if linked else ["no link to its source in the module's docstring"]


SERVES_EVERY_KIND = (
    "head_calls.py", "model.py", "generation.py", "rows.py", "beams.py",
    "training/", "sharing/", "studies/", "report/", "results/",
)  # fmt: skip
OF_A_KIND = re.compile(
    "tokens?|documents?|tokeni[sz]e\\w*|chunks?|brier|bos|eos|pixels?|images?|((uni|bi|tri|n)-?)?grams?|bytelm"
    "|givt|mar|ear|latentlm|megabyte|lcm|coconut",
    re.IGNORECASE,
)
"""Words of text, of images, and names of systems; `text` alone is also what a YAML file holds."""


def words_in(text: str) -> list[str]:
    """`BrierLM_of the_tokens` -> Brier, LM, of, the, tokens."""
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)


def told_in(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name and string of a tree, docstrings too, with lines; a source may name whose idea it was."""
    fields = ("id", "arg", "attr", "name", "asname", "module")
    for node in ast.walk(tree):
        texts = [getattr(node, field, None) for field in fields]
        texts += [node.value] if isinstance(node, ast.Constant) else []
        yield from ((text, getattr(node, "lineno", 0)) for text in texts if isinstance(text, str))


def speaks_of_a_kind(path: str, tree: ast.Module) -> list[str]:
    """What serves every kind of data asks the kind for its words (`calmkit.interfaces.KindWords`)."""
    if not path.startswith(SERVES_EVERY_KIND):
        return []
    found = (
        (word, line)
        for text, line in told_in(tree)
        for word in words_in(re.split(r"\nSources?\b", text)[0])
        if not text.startswith("WANDB_")  # a key of somebody's account
    )
    return [f"line {line}: {word}" for word, line in found if OF_A_KIND.fullmatch(word)]


RULES: list[Callable[[str, ast.Module], list[str]]] = [
    points_up,
    heavy_on_load,
    other_lightning,
    names_a_device,
    unpickles,
    asks_whether_it_has,
    calls_a_head,
    knows_a_kind,
    knows_a_guest,
    without_source,
    speaks_of_a_kind,
]


@cache
def sources() -> dict[str, ast.Module]:
    """Every file of the package, parsed once. Recipes are no Python."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {f.relative_to(PACKAGE).as_posix(): ast.parse(f.read_text(encoding="utf-8")) for f in files}


@pytest.mark.parametrize("rule", RULES)
def test_house(rule: Callable[[str, ast.Module], list[str]]) -> None:
    found = [f"calmkit/{path}: {seen}" for path, tree in sources().items() for seen in rule(path, tree)]
    assert not found, "\n".join(found)


def test_the_whole_house_was_read() -> None:
    rooms = {room_of(path) for path in sources()} - {"__init__"}
    assert {"interfaces", "heads", "model", "cli"} <= rooms <= set(FLOOR)
    parts = {"calmkit." + path.removesuffix(".py").replace("/", ".") for path in sources()}
    assert set(BUILTINS) <= parts


BROKEN = [
    (points_up, "heads/a.py", "import calmkit.model"),
    (points_up, "heads/a.py", "from calmkit.head_calls import head_loss"),
    (points_up, "head_calls.py", "from calmkit.model import CalmModel"),
    (points_up, "heads/a.py", "from calmkit import model"),
    (points_up, "heads/a.py", "def f():\n    from calmkit.training import train"),
    (points_up, "heads/a.py", "from calmkit.samplers.vote import vote"),
    (points_up, "heads/a.py", "from . import b"),
    (points_up, "studies/a.py", "from calmkit.testing import check_head"),
    (points_up, "report/a.py", "from calmkit.studies.plan import plan_study"),
    (points_up, "launchers/a.py", "from calmkit.training import run"),
    (points_up, "part_settings.py", "from calmkit.admission import broken"),
    (points_up, "registry.py", "import calmkit.recipe.schema"),
    (points_up, "cellar/a.py", ""),
    (heavy_on_load, "heads/a.py", "import diffusers"),
    (heavy_on_load, "heads/a.py", "from torchmetrics import Metric"),
    (heavy_on_load, "cli/a.py", "if True:\n    import matplotlib.pyplot"),
    (heavy_on_load, "data/a.py", "class A:\n    import lightning.pytorch"),
    (other_lightning, "training/a.py", "import pytorch_lightning"),
    (names_a_device, "heads/a.py", "x = x.cuda()"),
    (names_a_device, "heads/a.py", "torch.cuda.empty_cache()"),
    (unpickles, "data/a.py", "import pickle"),
    (unpickles, "data/a.py", "torch.load(path)"),
    (unpickles, "data/a.py", "torch.load(path, weights_only=False)"),
    (asks_whether_it_has, "model.py", "if hasattr(head, 'log_prob'): pass"),
    (calls_a_head, "metrics/a.py", "x = model.head.log_prob(context, z)"),
    (calls_a_head, "training/a.py", "head.loss(context, target)"),
    (calls_a_head, "generation.py", "model.head.sample_guided(guided)"),
    (calls_a_head, "model.py", "self.head.loss(context, target)"),
    (knows_a_kind, "studies/a.py", "from calmkit.text.kind import Text"),
    (knows_a_kind, "training/a.py", "def f():\n    from calmkit.images import kind"),
    (knows_a_guest, "heads/a.py", "import calmkit_laplace_head"),
    (without_source, "heads/energy.py", '"""A head."""'),
    (speaks_of_a_kind, "model.py", "num_tokens = 3"),
    (speaks_of_a_kind, "head_calls.py", "num_tokens = 3"),
    (speaks_of_a_kind, "rows.py", "def draw(*, chunk_size): pass"),
    (speaks_of_a_kind, "training/a.py", "from calmkit.interfaces import Tokenizer"),
    (speaks_of_a_kind, "training/a.py", "score = found['brier_lm']"),
    (speaks_of_a_kind, "generation.py", "batch.eos_id"),
    (speaks_of_a_kind, "studies/a.py", '"""One cell per pixel."""'),
    (speaks_of_a_kind, "report/a.py", "class ImageGrid: pass"),
    (speaks_of_a_kind, "training/a.py", "per_document = {}"),
    (speaks_of_a_kind, "studies/a.py", "DOCUMENTS = ()"),
    (speaks_of_a_kind, "report/a.py", "f'{n}-gram'"),
    (speaks_of_a_kind, "results/a.py", "x = 'as GIVT does'"),
]


@pytest.mark.parametrize(("rule", "path", "source"), BROKEN)
def test_a_broken_rule_is_seen(rule: Callable[[str, ast.Module], list[str]], path: str, source: str) -> None:
    assert len(rule(path, ast.parse(source))) >= 1


ALLOWED = [
    (points_up, "cli/a.py", "from calmkit.model import CalmModel"),
    (points_up, "text/corpora/text.py", "from calmkit.interfaces import Corpus"),
    (knows_a_kind, "cli/a.py", "from calmkit.text.official_run import import_official"),
    (points_up, "metrics/a.py", "from calmkit.generation import generate"),
    (points_up, "__init__.py", "from calmkit.cli import main"),
    (heavy_on_load, "metrics/a.py", "from torchmetrics import Metric"),
    (heavy_on_load, "data/datamodule.py", "import lightning.pytorch as pl"),
    (heavy_on_load, "heads/a.py", "def f():\n    import diffusers"),
    (heavy_on_load, "heads/a.py", "if TYPE_CHECKING:\n    import diffusers"),
    (calls_a_head, "head_calls.py", "head.loss(context, target)"),
    (calls_a_head, "metrics/a.py", "head_loss(model.head, context, target); autoencoder.loss(chunks)"),
    (unpickles, "data/a.py", "torch.load(path, weights_only=True)"),
    (without_source, "heads/energy.py", '"""A head. https://arxiv.org/abs/2510.27688"""'),
    (without_source, "nn/a.py", ""),
    (speaks_of_a_kind, "text/a.py", "num_tokens = 3"),
    (speaks_of_a_kind, "recipe/a.py", "recipe.tokenizer"),
    (speaks_of_a_kind, "studies/a.py", "text = path.read_text()"),
    (speaks_of_a_kind, "report/a.py", "histogram, program = early, market"),
]


@pytest.mark.parametrize(("rule", "path", "source"), ALLOWED)
def test_a_kept_rule_is_not_seen(
    rule: Callable[[str, ast.Module], list[str]], path: str, source: str
) -> None:
    assert rule(path, ast.parse(source)) == []
