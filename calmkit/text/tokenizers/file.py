"""Any tokenizer.json on the disk, as `tokenizers` and `transformers` write it.

Source: https://huggingface.co/docs/tokenizers/api/tokenizer
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import final

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import TextCorpus, Tokenizer
from calmkit.text.tokenizer_json import FILE_NAME, JsonTokenizer, LateTokenizer, read_tokenizer


@final
class FileTokenizer(LateTokenizer):
    """A tokenizer.json of your own. It is read when first needed, so a finished run outlives the file.

    Args:
        path: The file, or the folder it is in.
        eos: Its end-of-text token; None: the first of the common names it has.
        vocab_size: V; None: as large as its ids need, which the file must be read for. A stated one is
            checked when it is read: fewer are refused, more are never used.

    Raises:
        ValueError: A `vocab_size` without room for an id.
    """

    def __init__(self, *, path: str, eos: str | None = None, vocab_size: int | None = None) -> None:
        if vocab_size is not None and vocab_size < 1:
            raise ValueError(f"file: vocab_size must be at least 1, got {vocab_size}; null would do.")
        self.path, self.eos, self._stated_size = path, eos, vocab_size

    @functools.cached_property
    def _read(self) -> JsonTokenizer:
        path = Path(self.path).expanduser()
        return read_tokenizer(path / FILE_NAME if path.is_dir() else path, self.eos, self._stated_size)

    def ready(self) -> JsonTokenizer:
        """From the disk, once."""
        return self._read

    @property
    def vocab_size(self) -> int:  # type: ignore[override]
        """V, without reading the file where it is stated."""
        return self.ready().vocab_size if self._stated_size is None else self._stated_size

    @property
    def eos_id(self) -> int:  # type: ignore[override]
        """The id of end-of-text."""
        return self.ready().eos_id

    def prepare(self, corpus: TextCorpus, cache: Path) -> Tokenizer:
        """What the file says.

        Raises:
            DataError: It cannot be read, is no tokenizer, has no end-of-text, or more ids than stated.
        """
        del corpus, cache
        return self.ready()


@hookimpl
def calmkit_tokenizers() -> dict[str, type[Tokenizer]]:
    """From the disk."""
    return {"file": FileTokenizer}
