"""What a recipe holds because of its kind of data: sections that others have not, a length of rows, and what
of an evaluation is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from calmkit.interfaces import EVALUATION_OF_A_KIND
from calmkit.recipe.errors import Problem
from calmkit.recipe.resolved import RESOLVED
from calmkit.recipe.schema import OF_A_KIND, SECTIONS, Evaluation
from calmkit.recipe.tree import Keys, Node, Scalar
from calmkit.registry import Manager


def corpus_of(data: Keys) -> str:
    """The name in a data section, as far as there is one."""
    name = data.nodes.get("name")
    return name.text if isinstance(name, Scalar) else ""


def has_length(data: Keys, manager: Manager) -> bool:
    """Whether the rows of a data section are as long as it says; true where its kind is not known."""
    corpus = manager.parts["corpora"].get(corpus_of(data))
    kind = None if corpus is None else manager.parts["data_kinds"].get(str(corpus.cls.data_kind))
    return kind is None or bool(kind.cls.row_length)


def sections_of_kind(tree: Keys, corpus: str, manager: Manager) -> Iterator[Problem]:
    """Sections that the kind of data needs and the tree lacks (CK131), or has and should not (CK130).

    Args:
        tree: A complete one.
        corpus: Its name, one that there is.
        manager: Where corpora and kinds are looked up.
    """
    kind = str(manager.find("corpora", corpus).cls.data_kind)
    found = manager.parts["data_kinds"].get(kind)
    if found is None:  # told where the kind is asked for
        return
    for section in OF_A_KIND:
        node = tree.nodes.get(section)
        mark = tree.key_marks.get(section, tree.mark)
        if section not in found.cls.sections:
            if _is_there(node):
                message = f"data '{corpus}' are {kind}, which have no {section}"
                yield Problem("CK130", message, mark, section, f"write {section}=null")
        elif node is None:
            yield Problem("CK131", f"the recipe needs '{section}'", tree.mark, section)
        elif not _is_there(node):
            message = f"data '{corpus}' are {kind}, which need a {section}"
            parts = SECTIONS[section]
            help = f"{parts}: {', '.join(sorted(manager.parts[parts])) or 'none'}"
            yield Problem("CK131", message, mark, section, help)


def unread_of_kind(tree: Keys, evaluation: Evaluation, corpus: str, manager: Manager) -> Iterator[Problem]:
    """Keys of `evaluation` that say something and are read by no model of that kind of data (CK130).

    What a run wrote of itself says every key that there is, and so it is taken as it is.

    Args:
        tree: A complete one.
        evaluation: What it says.
        corpus: Its name, one that there is.
        manager: Where corpora and kinds are looked up.
    """
    said = tree.nodes.get("evaluation")
    kind = str(manager.find("corpora", corpus).cls.data_kind)
    for key in unread(corpus, manager):
        default = getattr(Evaluation(), key)
        if not isinstance(said, Keys) or key not in said.nodes or getattr(evaluation, key) == default:
            continue
        mark = said.key_marks.get(key, said.mark)
        if PurePath(mark.place).name != RESOLVED:
            message = f"data '{corpus}' are {kind}, whose evaluation reads no {key}"
            help = f"leave it out, or write evaluation.{key}={default or repr(default)}, which says nothing"
            yield Problem("CK130", message, mark, f"evaluation.{key}", help)


def unread(corpus: str, manager: Manager) -> list[str]:
    """The keys of `evaluation` that no model of the kind of a corpus reads; none where it is not known."""
    kind = manager.parts["data_kinds"].get(str(manager.find("corpora", corpus).cls.data_kind))
    return [] if kind is None else [k for k in EVALUATION_OF_A_KIND if k not in kind.cls.words.evaluation]


def _is_there(node: Node | None) -> bool:
    return node is not None and not (isinstance(node, Scalar) and node.is_null)
