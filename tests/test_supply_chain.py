"""What is installed with calmkit: bounded, pinned for the checks, and nothing that nobody uses."""

from __future__ import annotations

import ast
import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECTS = [ROOT / "pyproject.toml", *sorted((ROOT / "plugins").glob("*/pyproject.toml"))]
BY_CALENDAR = {"rich", "pyarrow"}
"""Their majors come by the calendar, so the next one says nothing about what breaks."""
NO_BOUND = BY_CALENDAR | {"packaging"}
MODULES = {"pyyaml": "yaml", "scikit-learn": "sklearn", "pillow": "PIL", "lm-eval": "lm_eval"}
"""Distributions whose module has another name."""
PROGRAMS = {"pytest-xdist", "pre-commit", "build", "ruff", "mypy", "mkdocs", "mkdocs-material"}
"""Run, and imported by nobody."""
FOR_OTHERS = {"beartype"}
"""Imported by jaxtyping's import hook."""


def requirements(project: Path) -> dict[str, list[Requirement]]:
    """What a project asks for, by the extra that asks; the core under its own name."""
    told = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    groups = {told["name"]: told["dependencies"], **told.get("optional-dependencies", {})}
    return {group: [Requirement(text) for text in texts] for group, texts in groups.items()}


def asked() -> dict[str, Requirement]:
    """Every requirement of the core and its extras, by name."""
    return {r.name: r for group in requirements(ROOT / "pyproject.toml").values() for r in group}


def pinned() -> dict[str, str]:
    """The constraints file."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.parent.name)
def test_every_requirement_ends_below_what_may_break(project: Path) -> None:
    groups = requirements(project)
    unbounded = {
        requirement.name
        for group in groups.values()
        for requirement in group
        if not any(part.operator in ("<", "<=", "==", "~=") for part in requirement.specifier)
    }
    assert unbounded <= NO_BOUND


def test_lightning_is_newer_than_its_malware_and_than_two_code_executions() -> None:
    lightning = asked()["lightning"].specifier
    assert not [v for v in ("2.6.2", "2.6.3", "2.6.4", "2.6.5", "3.0.0") if v in lightning]
    assert "2.6.6" in lightning
    assert Version(importlib.metadata.version("lightning")) in lightning


def test_the_docs_are_built_with_what_their_theme_works_with() -> None:
    assert "2.0" not in asked()["mkdocs"].specifier
    assert "1.6.1" in asked()["mkdocs"].specifier


@pytest.mark.parametrize("extra", ["calmkit", "dev", "docs"])
def test_the_constraints_pin_what_the_checks_install_within_its_range(extra: str) -> None:
    versions = pinned()
    for requirement in requirements(ROOT / "pyproject.toml")[extra]:
        version = versions[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement} does not allow the pinned {version}"


def test_the_checks_install_within_the_constraints() -> None:
    script = ROOT / ".ci" / "run"
    if not script.is_file():
        pytest.skip("no .ci/run here: not a checkout")
    assert 'PIP_CONSTRAINT="$PWD/constraints.txt"' in script.read_text(encoding="utf-8")


def imported(*folders: str) -> set[str]:
    """The top-level names that files of these folders import."""
    found: set[str] = set()
    for file in (f for folder in folders for f in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                if name in ("import_module", "importorskip", "find_spec"):
                    words = [a.value for a in node.args if isinstance(a, ast.Constant)]
                    found |= {str(word).partition(".")[0] for word in words}
    return found


def test_nothing_is_asked_for_that_nobody_imports() -> None:
    used = imported("calmkit", "tests", "benchmarks")
    wanted = {name for name in asked() if MODULES.get(name, name) not in used}
    assert wanted <= PROGRAMS | FOR_OTHERS


FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
"""Modules whose files are programs."""
LOADERS = {"yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "os.system", "os.popen"}


def dangers(tree: ast.AST) -> list[str]:
    """What would run, or let run, something that a file says."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [module or ""] + [alias.name for alias in node.names]
            found += [name for name in names if name.partition(".")[0] in FORBIDDEN]
        if not isinstance(node, ast.Call):
            continue
        told, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        found += [told] if told in LOADERS | {"eval", "exec", "compile", "__import__"} else []
        if told.endswith("torch.load") and given.get("weights_only") != "True":
            found.append("torch.load without weights_only")
        found += [f"{told}({k}={v})" for k, v in given.items() if k == "shell" and v != "False"]
        found += [f"{told}({k}={v})" for k, v in given.items() if k == "trust_remote_code"]
        found += [f"{told}({k}={v})" for k, v in given.items() if k == "allow_pickle" and v != "False"]
        if told.endswith("np.load") and "allow_pickle" not in given:
            found.append("np.load without allow_pickle=False")
        if told.endswith("Environment") and "jinja2" in told and given.get("autoescape") != "True":
            found.append("jinja2 without autoescape")
    return found


@pytest.mark.parametrize("folder", ["calmkit", "plugins"])
def test_nothing_that_a_file_says_is_ever_run(folder: str) -> None:
    files = [file for file in (ROOT / folder).rglob("*.py") if "tests" not in file.parts]
    found = {file.as_posix(): dangers(ast.parse(file.read_text(encoding="utf-8"))) for file in files}
    assert {file: told for file, told in found.items() if told} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "eval(text)",
        "exec(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "load(id, trust_remote_code=True)",
        "np.load(p)",
        "np.load(p, allow_pickle=True)",
        "jinja2.Environment(loader=x)",
    ],
)
def test_what_would_run_a_file_is_seen(line: str) -> None:
    assert len(dangers(ast.parse(line))) == 1
