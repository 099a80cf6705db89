"""Any tokenizer.json on the disk, as `tokenizers` and `transformers` write it.

Source: https://huggingface.co/docs/tokenizers/api/tokenizer
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import final

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Tokenizer
from calmkit.text.tokenizer_json import FILE_NAME, FoundTokenizer, JsonTokenizer, read_tokenizer


@final
class FileTokenizer(FoundTokenizer):
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
        super().__init__("file", vocab_size)
        self.path, self.eos = path, eos

    @functools.cached_property
    def _read(self) -> JsonTokenizer:
        path = Path(self.path).expanduser()
        return read_tokenizer(path / FILE_NAME if path.is_dir() else path, self.eos, self.stated_size)

    def ready(self) -> JsonTokenizer:
        """From the disk, once."""
        return self._read


@hookimpl
def calmkit_tokenizers() -> dict[str, type[Tokenizer]]:
    """From the disk."""
    return {"file": FileTokenizer}
