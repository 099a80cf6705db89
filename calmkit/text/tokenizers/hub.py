"""The tokenizer.json of a model on the Hugging Face hub, fetched once and kept by `huggingface_hub`.

Source: https://huggingface.co/docs/huggingface_hub/guides/download
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import final

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import DataError, NeedsLibraries, Tokenizer
from calmkit.text.tokenizer_json import FILE_NAME, FoundTokenizer, JsonTokenizer, read_tokenizer


@final
class HubTokenizer(FoundTokenizer, NeedsLibraries):
    """The tokenizer of a model on the hub, fetched when first needed; a finished run needs no network.

    Args:
        id: Of the model, such as `openai-community/gpt2`.
        eos: Its end-of-text token; None: the first of the common names it has.
        revision: A branch, tag or commit.
        vocab_size: V; None: as large as its ids need, which must be fetched to know. A stated one lets a
            recipe be planned without network, and is checked when the tokenizer is fetched: fewer are
            refused, more are never used.

    Raises:
        ValueError: A `vocab_size` without room for an id.
    """

    def __init__(
        self,
        *,
        id: str,
        eos: str | None = None,
        revision: str | None = None,
        vocab_size: int | None = None,
    ) -> None:
        super().__init__("hub", vocab_size)
        self.id, self.eos, self.revision = id, eos, revision

    def libraries(self) -> Mapping[str, str]:
        """The client of the hub."""
        return {"huggingface_hub": "pip install 'calmkit[hf]', or use tokenizer=file"}

    @functools.cached_property
    def _fetched(self) -> JsonTokenizer:
        try:
            import huggingface_hub
        except ImportError as error:
            raise DataError(
                'the tokenizer `hub` needs the package `huggingface_hub`: pip install "calmkit[hf]", '
                "or use tokenizer=file"
            ) from error
        try:
            path = huggingface_hub.hf_hub_download(self.id, FILE_NAME, revision=self.revision)
        except Exception as error:  # a missing model, a gate, no network: kinds of several libraries
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DataError(
                f"the tokenizer of '{self.id}' cannot be fetched: {reason}. Check the id, the revision "
                "and the network; log in with `hf auth login` if it is gated; or download its tokenizer.json "
                "and use tokenizer=file"
            ) from error
        return read_tokenizer(Path(path), self.eos, self.stated_size)

    def ready(self) -> JsonTokenizer:
        """From the hub or its cache, once."""
        return self._fetched


@hookimpl
def calmkit_tokenizers() -> dict[str, type[Tokenizer]]:
    """From the hub."""
    return {"hub": HubTokenizer}
