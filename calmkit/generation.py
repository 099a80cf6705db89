"""Generation: one loop that yields units, and text on top of it.

prompt -> backbone.step -> context -> sampler.choose(draw = to_data . head.sample) -> chunk -> yield ->
backbone.step ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from calmkit.interfaces import Context, SampleOptions, Sampler, Tokenizer
from calmkit.model import CalmModel, fill_after_end, has_ended

Precision = Literal["auto", "32", "bf16"]
"""Of the products in a model that writes; its weights stay float32. `auto` is float32 on every device: no
machine's taste for another precision changes a text."""


@dataclass(frozen=True)
class Unit:
    """One step of generation, for all rows.

    Attributes:
        ids: `[B, K]`; a row that ended before gives end-of-text.
        ended: `[B]`, true for rows that end here or ended before.
        draws: `[B]`, draws that the sampler asked for; 0 for rows that ended before.
        level: `[B]`, the agreement that the sampler really used (see `Choice.level`); NaN where it fell back,
            and for rows that ended before.
    """

    ids: Int[Tensor, "B K"]
    ended: Bool[Tensor, " B"]
    draws: Int[Tensor, " B"]
    level: Float[Tensor, " B"]


@final
class SeededRandomness:
    """torch's default generators, borrowed between yields: nobody else's stream is touched."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        with self._forked():
            torch.default_generator.manual_seed(seed)
            if device.type != "cpu":
                module = torch.get_device_module(device)
                with module.device(device):
                    module.manual_seed(seed)
            self._keep()

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Run a block on this stream and put the default generators back as they were."""
        with self._forked():
            torch.set_rng_state(self.cpu_state)
            if self.device.type != "cpu":
                torch.get_device_module(self.device).set_rng_state(self.device_state, self.device)
            yield
            self._keep()

    @contextmanager
    def _forked(self) -> Iterator[None]:
        on_cpu = self.device.type == "cpu"
        with torch.random.fork_rng(
            devices=[] if on_cpu else [self.device], device_type="cuda" if on_cpu else self.device.type
        ):
            yield

    def _keep(self) -> None:
        self.cpu_state = torch.get_rng_state()
        if self.device.type != "cpu":
            self.device_state = torch.get_device_module(self.device).get_rng_state(self.device)


def prompt_chunks(
    prompts: Sequence[Sequence[int]], chunk_size: int, eos_id: int, device: torch.device | None = None
) -> tuple[Int[Tensor, "B P K"], Bool[Tensor, "B P"]]:
    """Prompts of any lengths as one batch of chunks.

    A prompt whose length is no multiple of K is filled up with end-of-text at its left end, as packing fills
    documents; an empty one is one chunk of end-of-text. Shorter rows get invalid units on their left, which
    no part sees.
    """
    rows = [list(prompt) or [eos_id] * chunk_size for prompt in prompts]
    rows = [[eos_id] * (-len(row) % chunk_size) + row for row in rows]
    longest = max(len(row) for row in rows)
    tokens = torch.tensor([[eos_id] * (longest - len(row)) + row for row in rows], device=device)
    units = torch.tensor([len(row) // chunk_size for row in rows], device=device)
    chunks = tokens.view(len(rows), -1, chunk_size)  # [B, P, K]
    position = torch.arange(chunks.shape[1], device=device)
    return chunks, position >= chunks.shape[1] - units.unsqueeze(1)


@final
class UnitDraws:
    """Draws for one unit: hands out ids, remembers the values, so that the chosen one can be fed back.

    Args:
        model: In eval mode.
        context: The conditions of all rows.
        options: Of each draw.
        opens: Rows whose unit opens a document. None: ids as they come, nothing filled after an end-of-text.
    """

    def __init__(
        self,
        model: CalmModel,
        context: Context,
        options: SampleOptions,
        opens: Bool[Tensor, " B"] | None = None,
    ) -> None:
        self.model, self.context, self.options, self.opens = model, context, options, opens
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __call__(self, num: int, rows: Int[Tensor, " R"]) -> Int[Tensor, "num R K"]:
        """Draw for each of the rows, for a sampler."""
        ids, z = self.model.draw(self.context[rows], num, self.options)
        self.calls.append((rows, z))
        if self.opens is None:
            return ids
        return fill_after_end(ids, self.model.eos_id, self.opens[rows].expand(num, len(rows)))

    def value(self, rows: Int[Tensor, " R"], index: Int[Tensor, " R"]) -> Shaped[Tensor, "R *event"]:
        """The value behind draw `index` of each row."""
        first = self.calls[0][1]
        size = len(self.context.h)
        chosen = first.new_zeros((size, *first.shape[2:]))
        wanted = torch.full((size,), -1, dtype=torch.long, device=first.device)
        wanted[rows] = index
        seen = torch.zeros_like(wanted)
        for of_rows, z in self.calls:
            at = wanted[of_rows] - seen[of_rows]
            hit = (at >= 0) & (at < len(z))
            chosen[of_rows[hit]] = z[at[hit], hit.nonzero().squeeze(1)]
            seen[of_rows] += len(z)
        return chosen[rows]


@torch.no_grad()
def generate(
    model: CalmModel,
    prompts: Sequence[Sequence[int]],
    sampler: Sampler,
    *,
    max_units: int,
    seed: int = 0,
    precision: Precision = "auto",
) -> Iterator[Unit]:
    """Continue each prompt of ids until it ends or `max_units` units are made.

    The same model, prompts, sampler, seed, precision and kind of device give the same units.

    Args:
        model: In eval mode; all is drawn on its device.
        prompts: Ids of each row.
        sampler: Chooses among a head's draws.
        max_units: Most units to make.
        seed: Of torch's default generators, which are given back as they were.
        precision: `bf16` runs the model under autocast; between the units nothing of it is left.
    """
    device = next(model.parameters()).device
    chunks, valid = prompt_chunks(prompts, model.chunk_size, model.eos_id, device)
    randomness = SeededRandomness(seed, device)
    with randomness.borrowed(), in_precision(precision, device):
        _, state = model.backbone.start(len(prompts), chunks.shape[1] + max_units)
        z = model.encode(chunks).mean
        context, state = model.backbone.step(model.embedder(chunks, z), valid, state)
        context = context[:, -1]
    opens = chunks[:, -1, -1] == model.eos_id
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    real = torch.ones(len(prompts), 1, dtype=torch.bool, device=device)
    for made in range(1, max_units + 1):
        with randomness.borrowed(), in_precision(precision, device):
            unit, z = _choose(model, context, sampler, opens, ended)
        ended = unit.ended
        yield unit
        if bool(ended.all()) or made == max_units:
            return
        with randomness.borrowed(), in_precision(precision, device):
            x = model.embedder(unit.ids.unsqueeze(1), z.unsqueeze(1))
            context, state = model.backbone.step(x, real, state)
            context = context[:, -1]
        opens = torch.zeros_like(opens)


def in_precision(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which a model on that device calculates so; `auto` leaves the caller's."""
    if precision == "auto":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def _choose(
    model: CalmModel, context: Context, sampler: Sampler, opens: Tensor, ended: Tensor
) -> tuple[Unit, Tensor]:
    """One unit for every row that has not ended, and the value to feed back."""
    rows = (~ended).nonzero().squeeze(1)
    draws = UnitDraws(model, context, sampler.options, opens)
    choice = sampler.choose(draws, rows)
    ids = torch.full((len(ended), model.chunk_size), model.eos_id, device=ended.device)
    ids[rows] = choice.ids
    value = draws.value(rows, choice.index)
    z = value.new_zeros((len(ended), *value.shape[1:]))
    z[rows] = value
    cost = torch.zeros_like(ended, dtype=torch.long)
    cost[rows] = choice.draws
    level = torch.full((len(ended),), float("nan"), dtype=choice.level.dtype, device=ended.device)
    level[rows] = choice.level
    ends = has_ended(ids, model.eos_id, opens)
    return Unit(ids, ended | ends, cost, level), z


@final
class TextModel:
    """A model with its tokenizer and sampler: text in, text out.

    Args:
        model: In eval mode.
        tokenizer: The one it was trained with.
        sampler: The one of its recipe.
        precision: In which it writes; see `generate`.
    """

    def __init__(
        self, model: CalmModel, tokenizer: Tokenizer, sampler: Sampler, precision: Precision = "auto"
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.sampler = sampler
        self.precision: Precision = precision

    def stream(
        self,
        prompt: str = "",
        *,
        max_tokens: int = 256,
        seed: int = 0,
        sampler: Sampler | None = None,
        on_unit: Callable[[Unit], object] | None = None,
    ) -> Iterator[str]:
        """The continuation, piece by piece, as soon as its characters are complete.

        Args:
            prompt: Text to continue; empty begins a new document.
            max_tokens: Rounded up to whole units.
            seed: Same seed, same text.
            sampler: Instead of the recipe's.
            on_unit: Told of every unit: what it cost and the level of agreement behind it.
        """
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}.")
        (ids,) = self.tokenizer.encode([prompt])
        sampler = sampler or self.sampler
        max_units = -(-max_tokens // self.model.chunk_size)
        made = list(ids)  # decoded together: some tokenizers drop the space in front of a first word
        said = len(self.tokenizer.decode(ids))
        units = generate(self.model, [ids], sampler, max_units=max_units, seed=seed, precision=self.precision)
        for unit in units:
            if on_unit is not None:
                on_unit(unit)
            made.extend(unit.ids[0].tolist())
            text = self.tokenizer.decode(made)
            whole = text.rstrip("\ufffd")  # a character may still lack bytes
            if len(whole) > said:
                yield whole[said:]
                said = len(whole)
        rest = self.tokenizer.decode(made)[said:]
        if rest:
            yield rest

    def generate(
        self, prompt: str = "", *, max_tokens: int = 256, seed: int = 0, sampler: Sampler | None = None
    ) -> str:
        """The whole continuation; see `stream`."""
        return "".join(self.stream(prompt, max_tokens=max_tokens, seed=seed, sampler=sampler))
