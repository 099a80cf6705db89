"""Byte-level byte-pair encoding, trained on the corpus' own train split and kept in the cache.

Source: Sennrich et al., Neural Machine Translation of Rare Words with Subword Units, 2016, section 3.2.
https://arxiv.org/abs/1508.07909. On bytes: Radford et al., Language Models are Unsupervised Multitask
Learners, 2019, section 2.2, whose pre-tokenizer `tokenizers` calls ByteLevel.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import final

from calmkit.data.atomic_write import replacing
from calmkit.data.digest import digest
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import DataError, TextCorpus, Tokenizer
from calmkit.text.tokenizer_json import JsonTokenizer, LateTokenizer, read_tokenizer, utf8

EOS = "<|endoftext|>"
SMALLEST = 257  # every byte, and end-of-text


@final
class BpeTokenizer(LateTokenizer):
    """Byte-level BPE of `vocab_size` tokens, trained on the corpus. A small corpus may give fewer.

    Args:
        vocab_size: V with the 256 bytes and end-of-text, so at least 257.
    """

    def __init__(self, *, vocab_size: int = 4096) -> None:
        if vocab_size < SMALLEST:
            raise ValueError(
                f"bpe: vocab_size must be at least {SMALLEST} (256 bytes and end-of-text), got {vocab_size}; "
                "tokenizer=bytes is the smallest"
            )
        self.vocab_size = vocab_size
        self.eos_id = 0

    def ready(self) -> JsonTokenizer:
        """Refuses: which merges there are, only a corpus can say."""
        raise RuntimeError("bpe is not trained yet; use what prepare(corpus, cache) returns")

    def prepare(self, corpus: TextCorpus, cache: Path) -> Tokenizer:
        """Train on the train split, or take it from `cache/tokenizers`.

        Raises:
            DataError: The train split is empty, or the file in the cache is damaged.
        """
        path = cache / "tokenizers" / f"bpe-{digest('1', corpus.identity(), str(self.vocab_size))}.json"
        seal = path.with_suffix(".seal")
        if not path.exists():
            serialised = train_bpe(corpus.documents("train"), self.vocab_size)
            with replacing(seal) as temporary:
                temporary.write_text(digest(serialised), encoding="utf-8")
            with replacing(path) as temporary:
                temporary.write_text(serialised, encoding="utf-8")
        if seal.exists() and seal.read_bytes() != digest(path.read_bytes()).encode():
            raise DataError(f"the tokenizer in the cache is damaged; delete {path} and start again")
        try:
            return read_tokenizer(path, eos=EOS)
        except DataError as error:
            raise DataError(
                f"the tokenizer in the cache is damaged; delete {path} and start again"
            ) from error


def train_bpe(documents: Iterator[str], vocab_size: int) -> str:
    """The text of a tokenizer.json. Equal documents give equal text.

    Raises:
        DataError: There are no documents.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    count = 0

    def counted() -> Iterator[str]:
        nonlocal count
        for text in documents:
            utf8(text)
            count += 1
            yield text

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.encode_special_tokens = True
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(counted(), trainer)
    if not count:
        raise DataError(
            "bpe: the train split of the corpus is empty, so there is nothing to learn from; give it text"
        )
    return tokenizer.to_str(pretty=True)


@hookimpl
def calmkit_tokenizers() -> dict[str, type[Tokenizer]]:
    """Trained on the corpus."""
    return {"bpe": BpeTokenizer}
