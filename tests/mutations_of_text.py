"""What may happen to the text of a recipe: each gives the new text, and whether it must be refused."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Mapping

EVIL = (
    "!!python/object/apply:os.system ['touch calmkit_was_here']",
    "!!python/name:os.system",
    "!!python/module:calmkit_was_here",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "!local 3",
    "&a [1, 2]",
    "*a",
    "{<<: {a: 1}}",
)
"""Text behind a key that no recipe may hold."""
LITERAL = (
    "${oc.env:PATH}",
    "${seed}",
    "${oc.create:1}",
    "{{ 7 * 7 }}",
    "${missing:}",
    "\x1b[31mred",
    "'=1+1'",
)
"""Text that other programs would compute with; here it is a text and nothing else."""
Changed = tuple[str | bytes, bool]


def _at_value(draw: random.Random, text: str, value: str) -> str:
    """The text with another value behind one of its keys."""
    lines = text.splitlines()
    places = [n for n, line in enumerate(lines) if re.match(r"\s*[a-z_]+: *[^\s{\[]", line)]
    at = draw.choice(places)
    lines[at] = f"{lines[at].partition(':')[0]}: {value}"
    return "\n".join(lines) + "\n"


def _deleted(draw: random.Random, text: str) -> Changed:
    lines = text.splitlines(keepends=True)
    first = draw.randrange(len(lines))
    del lines[first : first + draw.choice((1, 1, 1, 2, 5))]
    return "".join(lines), False


def _doubled(draw: random.Random, text: str) -> Changed:
    lines = text.splitlines(keepends=True)
    at = draw.choice([n for n, line in enumerate(lines) if re.match(r"[a-z_]+:", line)])
    return "".join([*lines[: at + 1], lines[at], *lines[at + 1 :]]), True


def _cut(draw: random.Random, text: str) -> Changed:
    whole = text.encode()
    return whole[: draw.randrange(len(whole))], False


def _noise(draw: random.Random, text: str) -> Changed:
    content = bytearray(text.encode())
    for _ in range(draw.choice((1, 1, 2, 8))):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content), False


def _inserted(draw: random.Random, text: str) -> Changed:
    at = draw.randrange(len(text))
    put = draw.choice(["\t", "\0", "\x07", "\r", "\n", "---\n", "...\n", "{", "]", "- ", ": ", "# ",
                       "'", '"', "%",
                       "? ", "\u2028", "\ufeff", "|", ">", "\x85", "\U0001f642", "  "])  # fmt: skip
    return text[:at] + put + text[at:], False


def _tabs(draw: random.Random, text: str) -> Changed:
    del draw
    return re.sub(r"^(  )+", "\t", text, flags=re.M), False


def _evil(draw: random.Random, text: str) -> Changed:
    return _at_value(draw, text, draw.choice(EVIL)), True


def _literal(draw: random.Random, text: str) -> Changed:
    value = draw.choice(LITERAL)
    return _at_value(draw, text, value), False


def _deep(draw: random.Random, text: str) -> Changed:
    depth = draw.choice((50, 500, 2000, 20000))
    left, right = draw.choice((("[", "]"), ("{a: ", "}")))
    return text + f"{draw.choice(('seed2', 'name2', 'head2'))}: {left * depth}1{right * depth}\n", True


def _block_deep(draw: random.Random, text: str) -> Changed:
    return text + "deep:\n" + "".join(" " * n + "a:\n" for n in range(1, draw.choice((50, 900)))), True


def _laughs(draw: random.Random, text: str) -> Changed:
    del draw
    names = "abcdefghi"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{now}: &{now} [{', '.join([f'*{last}'] * 9)}]" for last, now in itertools.pairwise(names)]
    return "\n".join(lines) + "\n" + text, True


def _merge_key(draw: random.Random, text: str) -> Changed:
    return text + draw.choice(("<<: {seed: 3}\n", "<<: *x\n", "<<: [{seed: 3}]\n")), True


def _twice(draw: random.Random, text: str) -> Changed:
    return text + draw.choice(("---\n", "...\n---\n")) + text, True


def _odd_key(draw: random.Random, text: str) -> Changed:
    return text + draw.choice(("? [a, b]\n: 1\n", "? {a: 1}\n: 1\n", "'': 1\n", "null: 1\n", "1: 1\n",
                               "=: 1\n", "'a.b': 1\n", "'stages.lm.max_steps': 3\n", "source: {}\n",
                               "!!str x: 1\n")), True  # fmt: skip


def _encoded(draw: random.Random, text: str) -> Changed:
    how = draw.choice(("utf-16", "utf-8-sig", "utf-32", "crlf", "cr", "latin"))
    if how in ("crlf", "cr"):
        return text.replace("\n", "\r\n" if how == "crlf" else "\r").encode(), False
    return ("# \xe9\n" + text).encode("latin-1", "replace") if how == "latin" else text.encode(
        how
    ), how != "utf-8-sig"


OF_TEXT: Mapping[str, Callable[[random.Random, str], Changed]] = {
    "lines deleted": _deleted,
    "a line doubled": _doubled,
    "cut": _cut,
    "bytes changed": _noise,
    "characters put in": _inserted,
    "tabs": _tabs,
    "tags, anchors and aliases": _evil,
    "interpolations and templates": _literal,
    "nested deeply": _deep,
    "nested deeply in blocks": _block_deep,
    "aliases of aliases": _laughs,
    "merge keys": _merge_key,
    "two documents": _twice,
    "odd keys": _odd_key,
    "another encoding": _encoded,
}
