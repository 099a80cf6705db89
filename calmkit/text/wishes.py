"""What a task wishes of a continuation: where it ends, how long it is, at what temperature it is written.

A task's temperature is that of the law of tokens. A head whose own temperature divides logits honours any; of
other heads a sampler makes 1/n from draws alone, and the limit 0 is the most frequent of many draws. What
nothing here honours is said once and left out.

Source: generation_kwargs of lm-eval, https://github.com/EleutherAI/lm-evaluation-harness/blob/main/docs/task_guide.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calmkit.interfaces import HeadInfo

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of one wish, the first one first."""
DEFAULT_LENGTH = 256  # tokens, as in lm-eval
SHARPEST = 1e-6  # a temperature of logits at which the likeliest token is certain


@dataclass(frozen=True)
class Wish:
    """What is asked of one continuation.

    Attributes:
        until: Strings that end it and are no part of it.
        max_tokens: The most tokens.
        temperature: Of the law of tokens, 0 for the likeliest; None: as the run's sampler has it.
    """

    until: tuple[str, ...] = ()
    max_tokens: int = DEFAULT_LENGTH
    temperature: float | None = None


def read_wish(settings: Mapping[str, Any]) -> tuple[Wish, list[str]]:
    """A task's settings as a wish, and the names of those that nothing here honours.

    Raises:
        ValueError: A setting that is honoured has no sense: no text among `until`, a length below 1, a
            negative temperature.
    """
    left = dict(settings)
    stops = left.pop("until", None) or ()
    stops = (stops,) if isinstance(stops, str) else tuple(stops)
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError(f"until must be texts that are not empty, got {list(stops)}")
    lengths = [left.pop(name, None) for name in LENGTHS]
    length = int(next((value for value in lengths if value is not None), DEFAULT_LENGTH))
    if length < 1:
        raise ValueError(f"max_gen_toks must be at least 1, got {length}")
    sample, temperature = left.pop("do_sample", None), left.pop("temperature", None)
    if temperature is not None and not float(temperature) >= 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if sample is False or (temperature is not None and float(temperature) == 0 and not sample):
        temperature = 0.0
    elif temperature is not None and float(temperature) == 0:
        temperature = None  # to sample at temperature 0 is no wish that can be met
    return Wish(stops, length, None if temperature is None else float(temperature)), sorted(left)


def cut(text: str, until: Sequence[str]) -> tuple[str, bool]:
    """The text up to the first of the stop strings, and whether there is one."""
    found = [place for place in (text.find(stop) for stop in until) if place >= 0]
    return (text[: min(found)], True) if found else (text, False)


def sampler_settings(
    temperature: float, info: HeadInfo, name: str, options: Mapping[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """Samplers for a temperature of the law of tokens; the first one that takes it is to be used.

    Args:
        temperature: 0 for the likeliest.
        info: Facts of the head.
        name: The run's sampler.
        options: Its settings.
    """
    own = {key: value for key, value in options.items() if key in ("num_steps", "solver")}
    if info.temperature == "logits":
        return [("direct", {**own, "head_temperature": max(temperature, SHARPEST)})]
    if temperature == 0:
        return [("greedy", own)]
    if temperature == 1:
        return [("direct", own)]
    same = (
        [(name, {**options, "temperature": temperature})] if name in ("vote", "rejection", "sharpen") else []
    )
    return [*same, *((other, {**own, "temperature": temperature}) for other in ("vote", "rejection"))]
