"""The ceiling at the positions of an evaluation: patterns worked out by hand, and real packing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import small_runs
import torch
from torch import Tensor

from calmkit.interfaces import KnownSource, Split
from calmkit.recipe.assemble import assemble
from calmkit.recipe.load import load_recipe
from calmkit.recipe.parts import build_corpus, build_tokenizer
from calmkit.registry import make_manager
from calmkit.text.ceiling import best_brier_terms, ceiling, ceiling_scores, letters_before
from calmkit.text.corpora.markov import MarkovCorpus
from calmkit.text.packing import PackedRows
from calmkit.text.prepare import prepare_data
from calmkit.text.token_file import TokenFile
from calmkit.text.tokenizers.bytes import EOS, BytesTokenizer
from calmkit.text.units import chunk_size_of
from calmkit.training.evaluate import evaluate

END = 9


class Primes(KnownSource):
    """best_brier(seen, length) is the `length`-th power of a prime's inverse: a product tells its factors."""

    def documents(self, split: Split) -> Iterator[str]:
        raise NotImplementedError

    def identity(self) -> str:
        raise NotImplementedError

    def best_brier(self, seen: int, length: int) -> float:
        return (1 / (2, 3, 5)[min(seen, 2)]) ** length

    def entropy(self, seen: int) -> float:
        return (4.0, 2.0, 1.0)[min(seen, 2)]


@pytest.mark.parametrize(
    ("seen", "letters", "expected"),
    [
        (2, [1, 1, 1, 1], [1 / 5, 1 / 25, 1 / 125, 1 / 625]),
        (0, [1, 1, 1, 1], [1 / 2, 1 / 4, 1 / 8, 1 / 16]),
        (2, [0, 1, 1, 1], [1, 1 / 2, 1 / 4, 1 / 8]),  # an end is known; a new document knows nothing
        (1, [1, 1, 0, 1], [1 / 3, 1 / 9, 1 / 9, 1 / 18]),
        (2, [1, 0, 0, 1], [1 / 5, 1 / 5, 1 / 5, 1 / 10]),
        (0, [0, 0, 0, 0], [1, 1, 1, 1]),
    ],
)
def test_stretches_between_ends_multiply(seen: int, letters: list[int], expected: list[float]) -> None:
    assert best_brier_terms(Primes(), seen, letters) == pytest.approx(expected)


def test_letters_before_by_hand() -> None:
    letter = torch.tensor([[1, 1, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0]]).bool()
    assert letters_before(letter).tolist() == [[0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 2, 0]]


def scores(chunks: Tensor, predict: Tensor) -> dict[str, float]:
    return ceiling(Primes(), [(chunks, predict)], END)


def test_a_row_by_hand() -> None:
    """Four letters, an end, and a unit that does not count, as tokens and as units of two and of four."""
    row = torch.tensor([[0, 0, 0, 0, 0, END, END, END]])
    one = scores(row.unsqueeze(-1), torch.tensor([[True] * 6 + [False] * 2]))
    # positions 0, 1, 2 have seen 0, 1, 2 letters; the last has three letters and the end before it
    assert one["ceiling_brier_1"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 5) / 3)
    assert one["ceiling_brier_4"] == pytest.approx((1 / 16 + 1 / 81 + 1 / 125) / 3)
    assert one["ceiling_nll_per_token"] == pytest.approx((4 + 2 + 1 + 1 + 1 + 0) / 6)
    product = 1.0
    for n in (1, 2, 3, 4):
        product *= one[f"ceiling_brier_{n}"]
    assert one["ceiling_brier_lm"] == pytest.approx(100 * product**0.25)
    two = scores(row.view(1, 4, 2), torch.tensor([[True, True, True, False]]))
    assert two["ceiling_brier_1"] == pytest.approx((1 / 2 + 1 / 5) / 2)
    assert two["ceiling_nll_per_token"] == one["ceiling_nll_per_token"]
    four = scores(row.view(1, 2, 4), torch.tensor([[True, True]]))
    assert four["ceiling_brier_3"] == pytest.approx((1 / 8 + 1 / 5) / 2)
    assert four["ceiling_nll_per_token"] == pytest.approx((4 + 2 + 1 + 1 + 1) / 8)


def test_a_unit_that_is_given_is_not_counted() -> None:
    row = torch.zeros(1, 2, 4, dtype=torch.long)
    given = scores(row, torch.tensor([[False, True]]))
    assert given["ceiling_brier_1"] == pytest.approx(1 / 5)
    assert given["ceiling_nll_per_token"] == pytest.approx(1)


def test_batches_are_weighted_by_their_positions() -> None:
    short, long = torch.zeros(1, 1, 4, dtype=torch.long), torch.zeros(2, 3, 4, dtype=torch.long)
    both = [(chunks, torch.ones(chunks.shape[:2], dtype=torch.bool)) for chunks in (short, long)]
    together = ceiling(Primes(), both, END)
    assert together["ceiling_brier_1"] == pytest.approx((3 / 2 + 4 / 5) / 7)


@pytest.mark.parametrize(("document_length", "chunk_size"), [(15, 1), (15, 4), (14, 4), (15, 8)])
def test_whole_documents_in_a_row(document_length: int, chunk_size: int, tmp_path: Path) -> None:
    """Packed rows of one document each: position 0 sees nothing, one letter on it sees one, and so on."""
    corpus = MarkovCorpus(
        order=2, alphabet=3, document_length=document_length, train_tokens=100, valid_tokens=64
    )
    file = TokenFile.build(corpus, "valid", BytesTokenizer(), tmp_path)
    rows = PackedRows(file, chunk_size, 16, EOS, keep_remainder=True)
    batch = rows.__getitems__(range(len(rows)))
    found = ceiling(corpus, [(batch.data, batch.valid)], EOS)
    fill = 15 - document_length  # end-of-text at the left of a document that is no whole number of chunks
    terms = []
    for place in range(0, 16 if chunk_size >= 4 else 13, chunk_size):
        window = [int(fill <= at < 15) for at in range(place, place + 4)]
        terms.append(best_brier_terms(corpus, max(0, place - fill), window))
    for n in (1, 2, 3, 4):
        expected = sum(term[n - 1] for term in terms) / len(terms)
        assert found[f"ceiling_brier_{n}"] == pytest.approx(expected)
    nats = sum(corpus.entropy(seen) for seen in range(document_length)) / 16
    assert found["ceiling_nll_per_token"] == pytest.approx(nats)


SOFTMAX = ["autoencoder=token_chunks", "autoencoder.chunk_size=1", "head=local_ar", "stages.autoencoder=null"]


@pytest.mark.parametrize(
    ("overrides", "known"),
    [
        ([], True),
        (SOFTMAX, True),
        (["tokenizer=bpe", "tokenizer.vocab_size=300"], False),  # joins letters
        (["data=text", "data.train=c.jsonl", "data.sequence_length=64"], False),
    ],
)
def test_an_evaluation_names_the_ceiling_where_it_is_known(
    overrides: list[str], known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On all rows that the evaluation measures, and on no others."""
    manager = make_manager(guests=[])
    monkeypatch.chdir(tmp_path)
    Path("c.jsonl").write_text(small_runs.corpus())
    sizes = [] if "data=text" in overrides else ["data.train_tokens=8192", "data.valid_tokens=2048"]
    given = [*overrides, *sizes, "evaluation.max_rows=5", "evaluation.batch_size=2"]
    recipe = load_recipe("tiny/markov", given, manager)
    corpus = build_corpus(recipe, manager)
    prepared = prepare_data(corpus, build_tokenizer(recipe, manager), tmp_path)
    model = assemble(recipe, manager, prepared.sizes)
    data = small_runs.rows_of(recipe, prepared, model, 1, recipe.evaluation.max_rows)
    found = ceiling_scores(recipe, manager, prepared, data, model)
    if not known:
        assert found == {}
        return
    assert isinstance(corpus, MarkovCorpus)
    best = [corpus.best_brier(min(seen, 2), 1) for seen in range(255)] + [1.0]
    scored = best[:253] if chunk_size_of(model) == 1 else best[::4]
    assert found["ceiling_brier_1"] == pytest.approx(sum(scored) / len(scored))


def test_a_run_tells_its_ceiling(tmp_path: Path) -> None:
    world = ["data=markov", "data.train_tokens=4096", "data.valid_tokens=640", "data.document_length=31"]
    said: list[str] = []
    with small_runs.workshop(tmp_path) as folder:
        lenient = "stages.autoencoder.gate=null"
        run = small_runs.small_run(folder, "run", *world, *small_runs.SHORT, lenient, say=said.append)
        trained = {name: value for name, value in run.evaluation.items() if name.startswith("ceiling_")}
        assert len(trained) == 6
        assert f"BrierLM of the true source, the ceiling: {trained['ceiling_brier_lm']:.3f}" in said
        again = evaluate(run.folder)
        assert {name: again[name] for name in trained} == trained
