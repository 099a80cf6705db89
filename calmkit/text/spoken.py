"""Spoken: text that grows by ids, said as soon as its characters are complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from calmkit.interfaces import Tokenizer

BROKEN = "\ufffd"


@final
class Spoken:
    """What has been said of a row of ids.

    All ids are decoded together, those of the prompt too: some tokenizers drop the space in front of a first
    word, and a character may lack bytes that come with the next ids.

    Args:
        tokenizer: Of the ids.
        prompt: Ids that nobody wants to hear again.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self.tokenizer, self.ids = tokenizer, list(prompt)
        self.said = len(tokenizer.decode(self.ids))

    def more(self, ids: Sequence[int]) -> str:
        """What is complete now and was not before; nothing where a character still lacks bytes."""
        self.ids.extend(ids)
        whole = self.tokenizer.decode(self.ids).rstrip(BROKEN)
        new = whole[self.said :]
        self.said = max(self.said, len(whole))
        return new

    def rest(self) -> str:
        """What never became a character, as the replacement character."""
        new = self.tokenizer.decode(self.ids)[self.said :]
        self.said += len(new)
        return new
