"""A value is read by the type of its field, and by nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calmkit.recipe.convert import Misfit, convert, to_node
from calmkit.recipe.errors import Mark
from calmkit.recipe.tree import Keys, parse


def read(annotation: Any, text: str, default: Any = None) -> Any:
    tree = parse(f"value: {text}\n", "x.yaml")
    assert isinstance(tree, Keys)
    return convert(annotation, tree.nodes["value"], default)


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (str, "off", "off"),
        (str, "010", "010"),
        (str, "1:30", "1:30"),
        (str, "true", "true"),
        (str, "'null'", "null"),
        (str, "''", ""),
        (str, "${HOME}", "${HOME}"),
        (str, "'???'", "???"),
        (int, "010", 10),
        (int, "-3", -3),
        (int, "'8'", 8),
        (float, "1e-4", 1e-4),
        (float, "3", 3.0),
        (bool, "true", True),
        (bool, "false", False),
        (int | None, "null", None),
        (int | None, "~", None),
        (int | None, "3", 3),
        (str | None, "null", None),
        (str | None, "'null'", "null"),
        (int | float, "3", 3),
        (int | float, "3.5", 3.5),
        (int | str, "3", 3),
        (int | str, "'3'", "3"),
        (int | str, "auto", "auto"),
        (Literal["euler", "off"], "off", "off"),
        (Literal[1, 2], "2", 2),
        (tuple[float, float], "[0.9, 1]", (0.9, 1.0)),
        (tuple[int, ...], "[1, 2, 3]", (1, 2, 3)),
        (list[str], "[a, off, 010]", ["a", "off", "010"]),
        (list[str], "[]", []),
        (str, "inf", "inf"),
        (float | str, "'inf'", "inf"),
        (str | list[str], "[a]", ["a"]),
        (str | list[str], "a", "a"),
        (dict[str, str], "{a: off, b: 1:30}", {"a": "off", "b": "1:30"}),
        (dict[str, int], "{a: 1}", {"a": 1}),
        (Path, "a/b", Path("a/b")),
        (Any, "3", "3"),
    ],
)
def test_read_by_type(annotation: Any, text: str, value: Any) -> None:
    found = read(annotation, text)
    assert found == value
    assert type(found) is type(value)


def test_any_takes_the_type_of_the_default() -> None:
    assert read(Any, "3", default=1.5) == 3.0
    assert read(Any, "true", default=False) is True


@pytest.mark.parametrize(
    ("annotation", "text", "said"),
    [
        (int, "3.0", "must be a whole number, got '3.0'"),
        (int, "1:30", "must be a whole number, got '1:30'"),
        (int, "true", "must be a whole number, got 'true'"),
        (int, "null", "must be a whole number, got null"),
        (int, "[1]", "must be a whole number, got a list"),
        (float, "fast", "must be a number, got 'fast'"),
        *(
            (annotation, text, f"must be a finite number, got '{text}'")
            for annotation in (float, float | None, int | float, float | str)
            for text in (".inf", "-.inf", "+.inf", ".Inf", "inf", "Infinity", "1e999", ".nan", ".NaN", "nan")
        ),
        (tuple[float, float], "[0.9, .inf]", "must be a finite number, got '.inf'"),
        (dict[str, float], "{a: 1e999}", "must be a finite number, got '1e999'"),
        (bool, "on", "must be true or false, got 'on'"),
        (bool, "1", "must be true or false, got '1'"),
        (bool, "True", "must be true or false, got 'True'"),
        (str, "null", "must be a text, got null"),
        (str, "{a: 1}", "must be a text, got a mapping"),
        (int | None, "x", "must be a whole number or null, got 'x'"),
        (Literal["a", "b"], "c", "must be one of a, b, got 'c'"),
        (Literal["a"], "c", "must be 'a', got 'c'"),
        (tuple[float, float], "[0.9]", "must be a list of 2 values, got a list"),
        (tuple[float, float], "[0.9, x]", "must be a number, got 'x'"),
        (list[int], "3", "must be a list, got '3'"),
        (dict[str, int], "[a]", "must be a mapping, got a list"),
    ],
)
def test_misfits(annotation: Any, text: str, said: str) -> None:
    with pytest.raises(Misfit) as caught:
        read(annotation, text)
    assert str(caught.value) == said


@settings(deadline=None)
@given(
    st.one_of(
        st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()
    )
)
def test_a_value_survives_its_tree(value: Any) -> None:
    annotation = type(value) | None if value is not None else int | None
    assert convert(annotation, to_node(value, Mark("x"))) == value
