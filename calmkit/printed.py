"""Text of others on a terminal: what would move the cursor, colour, or turn the direction is shown."""

from __future__ import annotations

import re

ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line break, and those that turn the direction of what follows."""


def printed(text: str) -> str:
    r"""The text with every character that a terminal acts upon written out, such as `\x1b`."""
    return ACTS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
