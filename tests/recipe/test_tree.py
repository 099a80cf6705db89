"""Text stays text, every scalar knows its place, and what recipes do without is refused where it stands."""

from __future__ import annotations

import pytest

from calmkit.recipe.errors import Mark, RecipeError
from calmkit.recipe.tree import Items, Keys, Scalar, leaves, parse


def test_scalars_are_not_guessed() -> None:
    tree = parse("a: off\nb: 010\nc: 1:30\nd: 1e-4\ne: 2024-01-01\nf: null\ng: 'null'\nh:\n", "x.yaml")
    assert isinstance(tree, Keys)
    texts = {key: node.text for key, node in tree.nodes.items() if isinstance(node, Scalar)}
    assert texts == {
        "a": "off", "b": "010", "c": "1:30", "d": "1e-4", "e": "2024-01-01", "f": "null", "g": "null", "h": ""
    }  # fmt: skip
    nulls = [key for key, node in tree.nodes.items() if isinstance(node, Scalar) and node.is_null]
    assert nulls == ["f", "h"]


def test_marks_count_from_one() -> None:
    tree = parse("a: 1\nb: {c: [x, y]}\n", "x.yaml")
    assert dict(leaves(tree)) == {
        "a": Mark("x.yaml", 1, 1),
        "b": Mark("x.yaml", 2, 1),
        "b.c": Mark("x.yaml", 2, 5),
    }
    assert isinstance(tree, Keys)
    assert isinstance(tree.nodes["b"], Keys)
    items = tree.nodes["b"].nodes["c"]
    assert isinstance(items, Items)
    assert [item.mark for item in items.nodes] == [Mark("x.yaml", 2, 9), Mark("x.yaml", 2, 12)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a: 1\nb: {c: 1, c: 2}\n",
            "error[CK103]: the key 'c' stands twice\n  --> x.yaml:2:11  (b.c)\n"
            "  help: the first is at x.yaml:2:5",
        ),
        (
            "a: !!python/object:os.system x\n",
            "error[CK102]: recipes have no YAML tags, here '!!python/object:os.system'\n"
            "  --> x.yaml:1:4  (a)\n  help: write the plain value",
        ),
        (
            "a: !mine x\n",
            "error[CK102]: recipes have no YAML tags, here '!mine'\n  --> x.yaml:1:4  (a)\n"
            "  help: write the plain value",
        ),
        (
            "a: &b {c: 1}\nd: *b\n",
            "error[CK102]: recipes have no anchors and aliases\n  --> x.yaml:1:4\n"
            "  help: for a text that begins with '*' or '&' write quotes: '*b'",
        ),
        (
            "a: {b: 1\nc: 2\n",
            "error[CK101]: this is not YAML: while parsing a flow mapping expected ',' or '}', but got ':'\n"
            "  --> x.yaml:2:2\n  help: the line is: c: 2",
        ),
        (
            "a: \x07\n",
            "error[CK101]: this is not YAML: the character #x0007 is not allowed\n  --> x.yaml:1:4",
        ),
        ("[a]: 1\n", "error[CK101]: a key must be a text\n  --> x.yaml:1:1"),
    ],
)
def test_refused(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(text, "x.yaml")
    assert str(caught.value) == said


def test_an_empty_text_is_a_null() -> None:
    tree = parse("# nothing\n", "x.yaml")
    assert isinstance(tree, Scalar)
    assert tree.is_null
