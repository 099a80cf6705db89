"""A ready tokenizer from the text of a tokenizer.json: what `bpe`, `file` and `hub` all become.

Three habits of such files would harm a corpus and are undone: truncation and padding cut or fill
documents, a template adds tokens of its own, and a text that happens to hold the letters of a special
token becomes that token.

Source: https://huggingface.co/docs/tokenizers/api/tokenizer
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import final

from calmkit.data.atomic_write import replacing
from calmkit.data.digest import digest
from calmkit.interfaces import DataError, TextCorpus, Tokenizer

FILE_NAME = "tokenizer.json"
COMMON_EOS = (  # first found, first taken
    "<|endoftext|>",  # GPT-2, GPT-NeoX, Qwen, Phi
    "<|end_of_text|>",  # Llama 3
    "</s>",  # Llama 1 and 2, Mistral, T5
    "<eos>",  # Gemma
    "<\uff5cend\u2581of\u2581sentence\uff5c>",  # DeepSeek
    "[EOS]",
)
BYTE_FALLBACK = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def utf8(text: str) -> bytes:
    """The bytes of a text.

    Raises:
        DataError: It holds half a surrogate pair, as Python makes of bytes that are not UTF-8.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"character {error.start} of the text is U+{ord(text[error.start]):04X}, half a surrogate pair, "
            "which UTF-8 cannot hold; give text that is UTF-8"
        ) from error


def find_eos(vocabulary: dict[str, int], eos: str | None, where: str) -> str:
    """The token that ends a text: the one asked for, or the first of the common names.

    Raises:
        DataError: There is none.
    """
    for name in COMMON_EOS if eos is None else (eos,):
        if name in vocabulary:
            return name
    special = [
        name for name in sorted(vocabulary, key=vocabulary.__getitem__) if re.fullmatch(r"[<\[].*[>\]]", name)
    ]
    tried = " or ".join(COMMON_EOS) if eos is None else repr(eos)
    raise DataError(
        f"{where}: the vocabulary has no {tried}; set tokenizer.eos to its token for the end of a text"
        + (f" (among {', '.join(special[:8])})" if special else "")
    )


@final
class JsonTokenizer(Tokenizer):
    """Ready. Text in, ids out, exactly as the vocabulary says, and nothing added."""

    def __init__(
        self,
        serialised: str,
        *,
        eos: str | None = None,
        vocab_size: int | None = None,
        where: str = FILE_NAME,
    ) -> None:
        """From the text of a tokenizer.json.

        Args:
            serialised: The text.
            eos: Its end-of-text token; None: one of the common names.
            vocab_size: V; None: as large as its ids need. What it has beyond these is never used.
            where: What to call it in messages.

        Raises:
            DataError: The text is no tokenizer, has no end-of-text, or has more ids than `vocab_size`.
        """
        import tokenizers

        try:
            inner = tokenizers.Tokenizer.from_str(serialised)
        except Exception as error:  # `tokenizers` raises a bare Exception
            raise DataError(
                f"{where} is no tokenizer.json ({error}); give one that `tokenizers` wrote"
            ) from error
        inner.no_truncation()
        inner.no_padding()
        vocabulary = inner.get_vocab(with_added_tokens=True)
        self.eos = find_eos(vocabulary, eos, where)
        inner.add_special_tokens([self.eos])  # keeps its id; from now on text does not make it
        inner.encode_special_tokens = True  # letters of a special token are letters
        self._inner = inner
        self.where = where
        self.eos_id = vocabulary[self.eos]
        needed = max(vocabulary.values()) + 1  # there may be holes
        if vocab_size is not None and vocab_size < needed:
            raise DataError(
                f"{where} has {needed} ids, tokenizer.vocab_size says {vocab_size}; {needed} or more would do"
            )
        self.vocab_size = vocab_size or needed

    def prepare(self, corpus: TextCorpus, cache: Path) -> Tokenizer:
        """Itself."""
        del corpus, cache
        return self

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Without a template's own tokens.

        Raises:
            DataError: A text gives end-of-text in its middle, as some vocabularies without merges do.
        """
        for text in texts:
            utf8(text)
        encodings = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        batch = [encoding.ids for encoding in encodings]
        for text, ids in zip(texts, batch, strict=True):
            if self.eos_id in ids:
                raise DataError(
                    f"{self.where}: a text that begins {text[:40]!r} gives end-of-text in its middle; "
                    f"remove {self.eos!r} from the text, or set tokenizer.eos to another token"
                )
        return batch

    def decode(self, ids: Sequence[int]) -> str:
        """Without end-of-text."""
        return self._inner.decode([token for token in ids if token != self.eos_id], skip_special_tokens=False)

    def token_lengths(self) -> Sequence[int]:
        """Measured behind another token, so that the mark of a word's start counts as its space."""
        vocabulary = self._inner.get_vocab(with_added_tokens=True)
        added = self._inner.get_added_tokens_decoder()
        byte_level = "ByteLevel" in json.dumps(json.loads(self._inner.to_str())["decoder"])
        before = next((vocabulary[text] for text in ("a", "e", "the") if text in vocabulary), None)
        lengths = [0] * self.vocab_size
        for text, token in vocabulary.items():
            if token in added:
                lengths[token] = len(text.encode())
            elif byte_level:
                lengths[token] = len(text)  # its alphabet has one letter for each byte
            elif BYTE_FALLBACK.fullmatch(text):
                lengths[token] = 1
            else:
                lengths[token] = self._added_bytes(before, token)
        lengths[self.eos_id] = 0
        return lengths

    def _added_bytes(self, before: int | None, token: int) -> int:
        context = [] if before is None else [before]
        with_token, without = self._inner.decode([*context, token]), self._inner.decode(context)
        return len(with_token.encode()) - len(without.encode())

    def fingerprint(self) -> str:
        """A hash of the file's meaning: the order of keys and white space don't count."""
        meaning = json.dumps(json.loads(self._inner.to_str()), sort_keys=True)
        return f"json-{digest(meaning, str(self.eos_id))}"

    def save(self, folder: Path) -> None:
        """As tokenizer.json, with the name of end-of-text beside it."""
        with replacing(folder / FILE_NAME) as temporary:
            temporary.write_text(self._inner.to_str(pretty=True), encoding="utf-8")
        with replacing(folder / "tokenizer_eos.json") as temporary:
            stated = {"eos": self.eos, "vocab_size": self.vocab_size}
            temporary.write_text(json.dumps(stated), encoding="utf-8")

    def restore(self, folder: Path) -> Tokenizer:
        """What `save` wrote."""
        return restore(folder)


def restore(folder: Path) -> JsonTokenizer:
    """The tokenizer that `JsonTokenizer.save` wrote.

    Raises:
        DataError: It isn't there, or is damaged.
    """
    try:
        stated = json.loads((folder / "tokenizer_eos.json").read_text(encoding="utf-8"))
        eos, vocab_size = stated["eos"], stated["vocab_size"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder} holds no whole tokenizer ({error}); train or export the run again"
        ) from error
    return read_tokenizer(folder / FILE_NAME, eos, vocab_size)


def read_tokenizer(path: Path, eos: str | None = None, vocab_size: int | None = None) -> JsonTokenizer:
    """A tokenizer.json from the disk.

    Raises:
        DataError: It cannot be read, or `JsonTokenizer` refuses it.
    """
    try:
        serialised = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the tokenizer {path} cannot be read ({error}); give the path of a tokenizer.json"
        ) from error
    return JsonTokenizer(serialised, eos=eos, vocab_size=vocab_size, where=str(path))


class LateTokenizer(Tokenizer):
    """A tokenizer that becomes a `JsonTokenizer` when it is first needed."""

    @abstractmethod
    def ready(self) -> JsonTokenizer:
        """The one it stands for."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """See `JsonTokenizer`."""
        return self.ready().encode(texts)

    def decode(self, ids: Sequence[int]) -> str:
        """See `JsonTokenizer`."""
        return self.ready().decode(ids)

    def token_lengths(self) -> Sequence[int]:
        """See `JsonTokenizer`."""
        return self.ready().token_lengths()

    def fingerprint(self) -> str:
        """See `JsonTokenizer`."""
        return self.ready().fingerprint()

    def save(self, folder: Path) -> None:
        """See `JsonTokenizer`."""
        self.ready().save(folder)

    def restore(self, folder: Path) -> Tokenizer:
        """What `save` wrote; needs nothing but the folder."""
        return restore(folder)


class FoundTokenizer(LateTokenizer):
    """A late tokenizer that lies somewhere, whole: no corpus is asked for it.

    Args:
        part: Its name, for messages.
        stated_size: V as a recipe says it; None: as its ids need.

    Raises:
        ValueError: A stated size without room for an id.
    """

    def __init__(self, part: str, stated_size: int | None) -> None:
        if stated_size is not None and stated_size < 1:
            raise ValueError(f"{part}: vocab_size must be at least 1, got {stated_size}; null would do.")
        self.stated_size = stated_size

    @property
    def vocab_size(self) -> int:  # type: ignore[override]
        """V; where it is stated, nothing is read for it."""
        return self.ready().vocab_size if self.stated_size is None else self.stated_size

    @property
    def eos_id(self) -> int:  # type: ignore[override]
        """The id of end-of-text."""
        return self.ready().eos_id

    def prepare(self, corpus: TextCorpus, cache: Path) -> Tokenizer:
        """What lies there.

        Raises:
            DataError: It cannot be had, is no tokenizer, has no end-of-text, or more ids than stated.
        """
        del corpus, cache
        return self.ready()
