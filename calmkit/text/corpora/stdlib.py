"""The English that every Python carries: the language reference and the docstrings of the standard library.

Nothing is downloaded and nothing is executed: the sources are read with `ast`. On CPython 3.11 it is 305
documents and 1.93 MB (79 topics of `pydoc_data`, 0.47 MB; the docstrings of 226 modules with at least 1
KB of them, 1.46 MB), read in about a second on one core.

Source: the texts are those of the Python documentation and library, under the PSF licence that came with the
interpreter. https://docs.python.org/3/license.html
"""

from __future__ import annotations

import ast
import functools
import gc
import inspect
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import final

from calmkit.data.digest import digest
from calmkit.data.document_split import check_fraction, choose_valid, document_hash
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Corpus, DataError, Split
from calmkit.text.sized_corpus import SizedCorpus

# Tests and fixtures are no prose; encodings and distutils repeat a few sentences a hundred times; the rest is
# absent from many installations, and the text should depend on the version of Python only.
# fmt: off
LEFT_OUT = {
    "test", "tests", "idlelib", "idle_test", "lib2to3", "turtledemo", "site-packages", "dist-packages",
    "__pycache__", "pydoc_data", "encodings", "distutils", "msilib", "ensurepip",
}
# fmt: on
MEASURED_BYTES = 1_932_343
MIN_DOCSTRINGS = 1000  # bytes: half of the modules have fewer, and together only 4 % of the text
TRIPLE_QUOTED = re.compile(rb'"""(.*?)"""', re.DOTALL)


@final
class StdlibCorpus(SizedCorpus):
    """English prose of this Python: language topics and docstrings, about 1.9 MB; nothing is downloaded.

    Args:
        valid_fraction: Share of the text that is held out, in whole documents.
        seed: Of the choice of the documents that are held out.
    """

    def __init__(self, *, valid_fraction: float = 0.05, seed: int = 0) -> None:
        check_fraction("stdlib", valid_fraction)
        self.valid_fraction = valid_fraction
        self.seed = seed

    def documents(self, split: Split) -> Iterator[str]:
        """Topics by name, then modules by path; each document is one topic, or one module's docstrings."""
        documents = library_documents()
        keys = [document_hash(text, self.seed) for text in documents]
        chosen = choose_valid(zip(keys, map(len, documents), strict=True), self.valid_fraction)
        for key, text in zip(keys, documents, strict=True):
            if (key in chosen) == (split == "valid"):
                yield text

    def identity(self) -> str:
        """Depends on the version of Python by its text."""
        return f"stdlib-{digest(*library_documents(), repr(self.valid_fraction), str(self.seed))}"

    def expected_bytes(self, split: Split) -> int:
        """By the size measured on CPython 3.11, so that nothing need be read."""
        return round(MEASURED_BYTES * (self.valid_fraction if split == "valid" else 1 - self.valid_fraction))


@functools.cache  # a constant of the interpreter: several corpora of one process read it once
def library_documents() -> tuple[str, ...]:
    """All documents, in their fixed order.

    Raises:
        DataError: This Python carries no sources of its library.
    """
    library = Path(sysconfig.get_path("stdlib"))
    collecting = gc.isenabled()
    gc.disable()  # a syntax tree is many objects and no garbage: 0.8 s instead of 2.1
    try:
        documents = (*_topics(library / "pydoc_data" / "topics.py"), *_modules(library))
    finally:
        if collecting:
            gc.enable()
    if not documents:
        raise DataError(
            f"stdlib: the Python at {sys.executable} has no library sources under {library}; "
            "use a full installation of CPython, or data=text with files of your own"
        )
    return documents


def _topics(path: Path) -> Iterator[str]:
    tree = _parse(path)
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "topics":
            topics = ast.literal_eval(node.value)
            yield from (_clean(topics[name]) for name in sorted(topics) if topics[name].strip())


def _modules(library: Path) -> Iterator[str]:
    found: list[Path] = []
    for folder, folders, files in os.walk(library):
        folders[:] = [name for name in folders if name not in LEFT_OUT]  # pruned before it is walked
        found += (Path(folder, name) for name in files if name.endswith(".py"))
    for path in sorted(found, key=lambda path: path.relative_to(library).as_posix()):
        if text := module_prose(path):
            yield text


def module_prose(path: Path) -> str:
    """The docstrings of a module, its classes and functions, in their order; empty if they are short."""
    try:
        source = path.read_bytes()
    except OSError:  # one unreadable file of an installation is no reason to have no corpus
        return ""
    if sum(map(len, TRIPLE_QUOTED.findall(source))) < MIN_DOCSTRINGS:
        return ""
    tree = _parse(path)
    return "\n\n".join(_docstrings(tree)) if tree else ""


def _docstrings(tree: ast.Module) -> Iterator[str]:
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring and (text := _clean(docstring)):
                yield text
        # definitions are statements: expressions need not be walked
        for block in ("finalbody", "orelse", "handlers", "body"):
            nodes += reversed(getattr(node, block, ()))


def _clean(text: str) -> str:
    """Without the indentation of the source, and without lone surrogates, which UTF-8 cannot hold."""
    return inspect.cleandoc(text).strip().encode("utf-8", "ignore").decode()


def _parse(path: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in the library are not the reader's concern
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


@hookimpl
def calmkit_corpora() -> dict[str, type[Corpus]]:
    """The embedded default."""
    return {"stdlib": StdlibCorpus}
