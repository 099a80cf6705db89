"""A data set of the Hugging Face hub, or of any builder of `datasets`, streamed: nothing is downloaded whole.

Source: https://huggingface.co/docs/datasets/stream
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, final

from calmkit.data.bad_records import MAX_BAD, BadRecord, OnBad, Skipped, check_max_bad
from calmkit.data.digest import digest
from calmkit.data.document_split import check_fraction, is_valid_by_threshold
from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Corpus, DataError, NeedsLibraries, Split
from calmkit.text.read_corpus import ReadCorpus


@final
class HubCorpus(ReadCorpus, NeedsLibraries):
    """Documents of a `datasets` id, streamed; needs the extra `hf`.

    Args:
        dataset: An id of the hub, a folder, or the name of a builder such as `json`.
        config: The configuration, where the data set has several.
        revision: A branch, tag or commit of the hub.
        data_files: Files of each split, for builders such as `json`: {"train": "a.jsonl"}.
        train_split: Name of the split to train on.
        valid_split: Name of the split to validate on. None: a hash of each document of `train_split` decides.
        text_key: The column of the text.
        max_documents: Read at most so many of each split, from its start.
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
        max_documents: int | None = None,
        valid_fraction: float = 0.05,
        on_bad: OnBad = "refuse",
        max_bad: float = MAX_BAD,
    ) -> None:
        check_fraction("hub", valid_fraction)
        check_max_bad("hub", max_bad)
        if max_documents is not None and max_documents < 1:
            raise ValueError(
                f"hub: max_documents must be at least 1, got {max_documents}; leave it out for all"
            )
        self.dataset, self.config, self.revision = dataset, config, revision
        self.data_files = data_files
        self.train_split, self.valid_split = train_split, valid_split
        self.text_key, self.max_documents, self.valid_fraction = text_key, max_documents, valid_fraction
        self.on_bad, self.max_bad = on_bad, max_bad

    def libraries(self) -> Mapping[str, str]:
        """The reader of data sets."""
        return {"datasets": "pip install 'calmkit[hf]', or use data=text"}

    def read(self, split: Split, skipped: Skipped) -> Iterator[str]:
        """In the order of the data set; blank ones are left out.

        Raises:
            DataError: `datasets` is missing, the data set or split cannot be had, a row lacks the text, or
                more of them than `max_bad` allows.
        """
        texts: Iterator[str] = islice(skipped.keep(self._rows(split), 0, self.on_bad), self.max_documents)
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
        builder = self._call("load_dataset_builder")
        skipping = ["skip", self.max_bad] if self.on_bad == "skip" else []
        settings = json.dumps([splits, self.text_key, self.max_documents, *skipping])
        return f"hub-{digest(builder.cache_dir, settings)}"

    def _name(self, split: Split) -> str:
        return self.valid_split if split == "valid" and self.valid_split is not None else self.train_split

    def _rows(self, split: Split) -> Iterator[str | BadRecord]:
        rows = iter(self._call("load_dataset", split=self._name(split), streaming=True))
        for number in range(2**63):
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # the network, a broken file: whatever the builder meets on the way
                raise self._refused(error) from error
            yield self._text(row, split, number)

    def _text(self, row: dict[str, Any], split: Split, number: int) -> str | BadRecord:
        text, where = row.get(self.text_key), f"hub: {self.place(split, 0, number)}"
        if not isinstance(text, str):
            return BadRecord(
                f"{where} has no text under '{self.text_key}'; its columns are {', '.join(row)}; "
                "set data.text_key to the one of the text",
                number,
                self._kind(row),
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return BadRecord(
                f"{where}: character {error.start} of '{self.text_key}' is half a surrogate pair, "
                "which UTF-8 cannot hold",
                number,
                "half a surrogate pair",
            )
        return text

    def _kind(self, row: dict[str, Any]) -> str:
        if self.text_key not in row:
            return f"no key '{self.text_key}'"
        text = row[self.text_key]
        return "null" if text is None else f"{type(text).__name__} instead of text"

    def _call(self, function: str, **options: Any) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise DataError(
                'the corpus `hub` needs the package `datasets`: pip install "calmkit[hf]", or use data=text'
            ) from error
        try:
            return getattr(datasets, function)(
                self.dataset, self.config, data_files=self.data_files, revision=self.revision, **options
            )
        except Exception as error:  # `datasets` raises some twenty kinds of its own and of its transports
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> DataError:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return DataError(
            f"hub: the data set '{self.dataset}' cannot be had: {reason}. Check its name, config, revision, "
            f"the splits '{self.train_split}' and '{self.valid_split}' (data.valid_split=null holds some "
            "out of train) and the network; log in with `hf auth login` if it is gated; or use data=text"
        )


@hookimpl
def calmkit_corpora() -> dict[str, type[Corpus]]:
    """Data sets of the hub."""
    return {"hub": HubCorpus}
