from __future__ import annotations

import gc
import sysconfig
from pathlib import Path

import pytest

from calmkit.interfaces import DataError
from calmkit.text.corpora import stdlib
from calmkit.text.corpora.stdlib import StdlibCorpus, library_documents, module_prose

PADDING = "words " * 200  # a module with fewer than 1 KB of docstrings is passed over


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A small library of our own in place of Python's."""
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    library_documents.cache_clear()
    yield tmp_path
    library_documents.cache_clear()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_docstrings_of_a_module_in_the_order_of_the_file(tmp_path):
    write(
        tmp_path / "module.py",
        f'"""Module.\n\n{PADDING}"""\n'
        "def f(x='\"\"\"no docstring\"\"\"'):\n    '''Of f.\n\n        Indented.\n    '''\n"
        "if True:\n    class C:\n        'Of C.'\n        async def g(self):\n            'Of g.'\n"
        "else:\n    def h():\n        'Of h.'\n"
        "x = 'a value'\n",
    )
    expected = ["Module.", PADDING.strip(), "Of f.", "Indented.", "Of C.", "Of g.", "Of h."]
    assert module_prose(tmp_path / "module.py") == "\n\n".join(expected)


def test_order_and_what_is_left_out(library):
    write(
        library / "pydoc_data" / "topics.py", "topics = {'b': 'Topic b.\\n', 'a': r'''Topic a.''', 'c': ' '}"
    )
    write(library / "z.py", f'"""Z {PADDING}"""')
    write(library / "a" / "b.py", f'"""AB {PADDING}"""')
    write(library / "short.py", '"""Short."""')
    write(library / "broken.py", f'"""Broken {PADDING}"""\n)')
    for folder in ("test", "site-packages", "idlelib", "a/tests"):
        write(library / folder / "c.py", f'"""Left out {PADDING}"""')
    write(library / "raises.py", f'"""Raises {PADDING}"""\nraise RuntimeError("was executed")')
    firsts = [text.split(" ")[0] + text.split(" ")[1][:2] for text in library_documents()]
    assert firsts == ["Topica.", "Topicb.", "ABwo", "Raiseswo", "Zwo"]


def test_without_sources_it_says_so(library):
    with pytest.raises(DataError, match=rf"no library sources under {library}.*data=text"):
        library_documents()
    assert gc.isenabled()


def test_the_real_one_is_large_english_and_split_by_document():
    corpus = StdlibCorpus(valid_fraction=0.05)
    train, valid = list(corpus.documents("train")), list(corpus.documents("valid"))
    whole = library_documents()
    assert sorted([*train, *valid]) == sorted(whole)
    size = sum(len(text) for text in whole)
    assert size > 1_000_000
    # no document is so small or large that the share could miss by a hundredth of the whole
    assert 0.04 < sum(len(text) for text in valid) / size <= 0.05
    assert sum(text.count(" the ") for text in whole) > size / 200
    # what is expected without reading is right within a factor of two on any version of Python
    assert 0.5 < corpus.expected_bytes("train") / sum(len(text.encode()) for text in train) < 2


def test_identity_changes_with_seed_fraction_and_text(library):
    write(library / "z.py", f'"""Z {PADDING}"""')
    before = StdlibCorpus().identity()
    assert before == StdlibCorpus().identity()
    assert len({before, StdlibCorpus(seed=1).identity(), StdlibCorpus(valid_fraction=0.1).identity()}) == 3
    write(library / "z.py", f'"""Y {PADDING}"""')
    library_documents.cache_clear()
    assert StdlibCorpus().identity() != before


def test_a_seed_gives_another_split(library):
    for number in range(40):
        write(library / f"{number}.py", f'"""Module {number}. {PADDING}"""')
    splits = [frozenset(StdlibCorpus(valid_fraction=0.5, seed=seed).documents("valid")) for seed in range(4)]
    assert len(set(splits)) == 4


def test_registers_under_its_name():
    assert stdlib.calmkit_corpora() == {"stdlib": StdlibCorpus}
