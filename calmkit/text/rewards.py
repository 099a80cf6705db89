"""rewards: what a chunk of text is worth, for objectives that move a model towards more of something.

They are toys, for seeing whether a model goes where it is pulled: each counts characters. A character that
takes several tokens counts for none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from calmkit.interfaces import Reward, Tokenizer

CLASSES: Mapping[str, Callable[[str], bool]] = {
    "digits": str.isdigit,
    "upper_case": str.isupper,
    "vowels": lambda one: one.lower() in "aeiou",
    "spaces": str.isspace,
}
"""Character classes; the reward is the share of a chunk's characters that are in one, 0 where it has none."""

LENGTH = "length"
"""Characters of a chunk: it says something where tokens stand for several characters, or a text may end."""

REWARDS = (*CLASSES, LENGTH)


def reward_of(name: str, tokenizer: Tokenizer) -> Reward:
    """A reward of ids `[*, K]`, `[*]`.

    Args:
        name: One of `REWARDS`.
        tokenizer: Of the ids.

    Raises:
        ValueError: There is no such reward.
    """
    if name not in REWARDS:
        raise ValueError(f"there is no reward '{name}'; there are: {', '.join(REWARDS)}")
    texts = [tokenizer.decode([number]).replace("\ufffd", "") for number in range(tokenizer.vocab_size)]
    lengths = torch.tensor([float(len(text)) for text in texts])
    if name == LENGTH:
        return lambda ids: lengths.to(ids.device)[ids].sum(-1)
    belongs = CLASSES[name]
    counts = torch.tensor([float(sum(map(belongs, text))) for text in texts])

    def share(ids: Tensor) -> Tensor:
        inside, all_of_it = counts.to(ids.device)[ids].sum(-1), lengths.to(ids.device)[ids].sum(-1)
        return inside / all_of_it.clamp(min=1)

    return share
