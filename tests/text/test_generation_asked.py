"""What `calmkit generate` can't be asked of a run of text."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import create_autospec

import pytest

from calmkit.interfaces import GenerationAsked
from calmkit.text.generation import TextModel
from calmkit.text.kind import Text


@pytest.mark.parametrize(
    ("asked", "option"),
    [
        (GenerationAsked(condition={"label": "3"}), "--condition"),
        (GenerationAsked(out=Path("grid.png")), "--out"),
    ],
)
def test_what_only_other_data_have_is_refused_before_a_token_is_written(
    asked: GenerationAsked, option: str
) -> None:
    front = create_autospec(TextModel, instance=True)
    with pytest.raises(
        ValueError, match=rf"^{option} means nothing for text; --prompt, .*--json and --seed do$"
    ):
        next(Text().generate(front, asked, lambda line: None))
    with pytest.raises(ValueError, match=rf"^{option} means nothing for text"):
        next(Text().records(front, asked, lambda line: None))
    front.stream.assert_not_called()
