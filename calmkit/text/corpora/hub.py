"""A data set of the Hugging Face hub, or of any builder of `datasets`, streamed: nothing is downloaded whole.

Identity and rows come from one builder, so from one commit of the hub, in the order of the data set. No code
of a data set runs: `datasets` has none of it since its version 4, and its builder of pickles is refused.

Source: https://huggingface.co/docs/datasets/stream
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

from calmkit.data.bad_records import MAX_BAD, BadRecord, OnBad, Skipped, check_max_bad
from calmkit.data.digest import digest
from calmkit.data.document_split import check_fraction, is_valid_by_threshold
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Corpus, DataError, NeedsLibraries, Split
from calmkit.nn.settings import require_at_least
from calmkit.text.bounded import bounded
from calmkit.text.read_corpus import ReadCorpus
from calmkit.text.row_text import row_text

COMMIT = re.compile("[0-9a-f]{40}")


@final
class HubCorpus(ReadCorpus, NeedsLibraries):
    """Documents of a `datasets` id, streamed; needs the extra `hf`.

    Args:
        dataset: An id of the hub, a folder, or the name of a builder such as `json`.
        config: The configuration, where the data set has several.
        revision: A branch, tag or commit of the hub. A whole commit names the text for good: once it is
            tokenised, a run goes on without a network.
        data_files: Files of each split, for builders such as `json`: {"train": "a.jsonl"}.
        train_split: Name of the split to train on.
        valid_split: Name of the split to validate on. None: a hash of each document of `train_split` decides.
        text_key: The column of the text.
        streaming: The data set is too large to be read to its end: `max_documents` or `max_bytes` must say
            where reading ends. False: at its end, or there.
        max_documents: Read at most so many of each split, from its start.
        max_bytes: Read whole documents of at most so many UTF-8 bytes together of each split, from its start.
            No token is shorter than a byte, so with the end-of-text of each document it bounds the tokens.
        valid_fraction: Share of the documents; without effect where `valid_split` is given.
        on_bad: A row whose text is missing, null or half a surrogate pair is refused, or skipped, counted
            and told.
        max_bad: More than this share of the rows read of a split is refused all the same.
    """

    apart = "data.valid_split=null holds out data.valid_fraction of the training text"

    def __init__(
        self,
        *,
        dataset: str,
        config: str | None = None,
        revision: str | None = None,
        data_files: dict[str, str] | None = None,
        train_split: str = "train",
        valid_split: str | None = "validation",
        text_key: str = "text",
        streaming: bool = False,
        max_documents: int | None = None,
        max_bytes: int | None = None,
        valid_fraction: float = 0.05,
        on_bad: OnBad = "refuse",
        max_bad: float = MAX_BAD,
    ) -> None:
        check_fraction("hub", valid_fraction)
        check_max_bad("hub", max_bad)
        require_at_least("hub", 1, max_documents=max_documents, max_bytes=max_bytes)
        if streaming and max_documents is None and max_bytes is None:
            raise ValueError(
                "hub: streaming=true reads a data set whose end is not waited for, and nothing says where to "
                "stop; max_documents=1000000 or max_bytes=4000000000 would do"
            )
        if dataset == "pandas":
            raise ValueError(
                "hub: the builder 'pandas' unpickles files, which runs what is in them; parquet would do"
            )
        self.dataset, self.config, self.revision = dataset, config, revision
        self.data_files = data_files
        self.train_split, self.valid_split = train_split, valid_split
        self.text_key, self.valid_fraction = text_key, valid_fraction
        self.streaming, self.max_documents, self.max_bytes = streaming, max_documents, max_bytes
        self.on_bad, self.max_bad = on_bad, max_bad

    def libraries(self) -> Mapping[str, str]:
        """The reader of data sets."""
        return {"datasets": "pip install 'calmkit[hf]', or use data=text"}

    def read(self, split: Split, skipped: Skipped) -> Iterator[str]:
        """In the order of the data set; blank ones are left out.

        Raises:
            DataError: `datasets` is missing, the data set or split cannot be had, the stream breaks off, a
                row lacks the text, or more of them than `max_bad` allows.
        """
        kept = skipped.keep(self._rows(split), 0, self.on_bad)
        texts = bounded(kept, "hub: data.max_bytes", self.max_documents, self.max_bytes)
        if self.valid_split is None:
            wanted = split == "valid"
            texts = (t for t in texts if is_valid_by_threshold(t, self.valid_fraction) == wanted)
        yield from texts
        skipped.check(self.max_bad, self.unit(split), lambda _, number: self.place(split, 0, number))

    def source(self, split: Split) -> str:
        """The setting of the split, and the data set."""
        setting = "valid_split" if split == "valid" and self.valid_split is not None else "train_split"
        return f"data.{setting}={self._name(split)} of {self.dataset}"

    def unit(self, split: Split) -> str:
        """Rows."""
        del split
        return "rows"

    def place(self, split: Split, file: int, number: int) -> str:
        """The row from 0, as `datasets` counts them."""
        del file
        return f"row {number} of '{self.dataset}' ({self._name(split)})"

    def identity(self) -> str:
        """By the settings and the files as the builder knows them: a commit of the hub, dates on the disk."""
        splits = (self.train_split, self.valid_split, self.valid_fraction)
        skipping = ["skip", self.max_bad] if self.on_bad == "skip" else []
        bytes_bound = [] if self.max_bytes is None else ["bytes", self.max_bytes]
        settings = json.dumps([splits, self.text_key, self.max_documents, *skipping, *bytes_bound])
        return f"hub-{digest(self._files_for_good or self._builder.cache_dir, settings)}"

    @property
    def _files_for_good(self) -> str:
        """The files, where settings alone say which they are: those of a commit of the hub."""
        files = list((self.data_files or {}).values())
        elsewhere = any("://" in name or Path(name).is_absolute() for name in files)
        on_the_hub = "/" in self.dataset and not Path(self.dataset).exists() and not elsewhere
        if not on_the_hub or self.revision is None or not COMMIT.fullmatch(self.revision):
            return ""
        return json.dumps([self.dataset, self.config, self.revision, self.data_files])

    def _name(self, split: Split) -> str:
        return self.valid_split if split == "valid" and self.valid_split is not None else self.train_split

    def _rows(self, split: Split) -> Iterator[str | BadRecord]:
        number, name = 0, self._name(split)
        try:
            rows = iter(self._builder.as_streaming_dataset(split=name))
        except Exception as error:  # `datasets` raises some twenty kinds of its own and of its transports
            raise self._refused(error) from error
        while True:
            try:
                row = next(rows)
            except StopIteration:
                break
            except Exception as error:  # the network, a broken file: whatever the builder meets on the way
                raise self._broke_off(split, number, error) from error
            yield row_text(row, self.text_key, f"hub: {self.place(split, 0, number)}", number)
            number += 1
        known = (self._builder.info.splits or {}).get(name)
        if known is not None and number < (known.num_examples or 0):
            raise self._broke_off(split, number, f"it has {known.num_examples} by its own count")

    @functools.cached_property
    def _builder(self) -> Any:
        """One for identity and rows, so that both are of one commit."""
        try:
            from datasets import load_dataset_builder
        except ImportError as error:
            raise DataError(
                'the corpus `hub` needs the package `datasets`: pip install "calmkit[hf]", or use data=text'
            ) from error
        try:
            return load_dataset_builder(
                self.dataset, self.config, data_files=self.data_files, revision=self.revision
            )
        except Exception as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> DataError:
        return DataError(
            f"hub: the data set '{self.dataset}' cannot be had: {_reason(error)}. Check its name, config, "
            f"revision, the splits '{self.train_split}' and '{self.valid_split}' (data.valid_split=null "
            "holds some out of train) and the network; log in with `hf auth login` if it is gated; "
            "or use data=text"
        )

    def _broke_off(self, split: Split, number: int, error: Exception | str) -> DataError:
        return DataError(
            f"hub: the stream breaks off at {self.place(split, 0, number)}: {_reason(error)}. Nothing of "
            "this split is kept; start again once the network or the file is mended, or read less with "
            "data.max_documents"
        )


def _reason(error: Exception | str) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


@hookimpl
def calmkit_corpora() -> dict[str, type[Corpus]]:
    """Data sets of the hub."""
    return {"hub": HubCorpus}
