"""Generation: one loop that yields units, and whole rows along an order.

units:  prompt -> backbone.step -> context -> sampler.choose(draw = to_data . head.sample) -> data -> yield ->
        backbone.step ...
rows:   order.query -> context of the units that are known -> guided draws of the head -> order.commit ...
        until all are known -> to_data  (`draw_rows`, in `calmkit.rows`)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from calmkit.decoding import past_of
from calmkit.head_calls import head_weighted_draws
from calmkit.interfaces import Choice, Context, Ending, SampleOptions, Sampler, WeightedHead
from calmkit.interfaces.sampler import Pick, WeightedSource
from calmkit.model import CalmModel

Precision = Literal["auto", "32", "bf16"]
"""Of the products in a model that generates; its weights stay float32. `auto` is float32 on every device: no
machine's taste for another precision changes what is generated."""


@dataclass(frozen=True)
class Unit:
    """One step of generation, for all rows.

    Attributes:
        data: `[B, *data]` of the unit, such as ids `[B, K]`; a row that ended before gives its fill.
        ended: `[B]`, true for rows that end here or ended before.
        draws: `[B]`, draws that the sampler asked for; 0 for rows that ended before.
        level: `[B]`, the agreement that the sampler really used (see `Choice.level`); NaN where it fell back,
            and for rows that ended before.
    """

    data: Shaped[Tensor, "*rows_and_data"]
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


@final
class UnitDraws(WeightedSource):
    """Draws for one unit: hands out data, remembers the values, so that the chosen one can be fed back.

    Args:
        model: In eval mode.
        context: The conditions of all rows.
        options: Of each draw.
        ending: Tidies draws up behind an end; None: data as they come.
        opens: Rows whose unit opens another group of its data, for the ending.

    Attributes:
        calls: Of each call the rows it was for, and the values `[n, R, *event]` that it gave.
        weighted_calls: Which of these asked for weighted values, by their places.
    """

    def __init__(
        self,
        model: CalmModel,
        context: Context,
        options: SampleOptions,
        ending: Ending | None = None,
        opens: Bool[Tensor, " B"] | None = None,
    ) -> None:
        self.model, self.context, self.options = model, context, options
        self.ending, self.opens = ending, opens
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.weighted_calls: set[int] = set()

    def __call__(self, num: int, rows: Int[Tensor, " R"]) -> Shaped[Tensor, "*num_rows_and_data"]:
        """Draw for each of the rows, for a sampler."""
        data, z = self.model.draw(self.context[rows], num, self.options)
        self.calls.append((rows, z))
        return self._tidied(data, rows)

    def weighted(
        self, rows: Int[Tensor, " R"]
    ) -> tuple[Float[Tensor, "R M"], Shaped[Tensor, "*values_rows_and_data"]]:
        """The values that a draw of each row is picked from, for a sampler that weighs them."""
        log_weights, z = self._values(rows)
        return log_weights, self._weighted(rows, z)

    def picked(self, rows: Int[Tensor, " R"], pick: Pick) -> Shaped[Tensor, "*rows_and_data"]:
        """One of these values of each row, which alone is decoded."""
        log_weights, z = self._values(rows)
        chosen = z[pick(log_weights), torch.arange(len(rows), device=z.device)]
        return self._weighted(rows, chosen.unsqueeze(0))[0]

    def _values(self, rows: Int[Tensor, " R"]) -> tuple[Tensor, Tensor]:
        head = self.model.head
        if not isinstance(head, WeightedHead):
            raise TypeError(
                f"{type(head).__name__} is no WeightedHead, and the sampler asks for the weights of what it "
                "draws; one that works from draws alone, such as vote, would do."
            )
        return head_weighted_draws(head, self.context[rows], self.options)

    def _weighted(self, rows: Int[Tensor, " R"], z: Tensor) -> Tensor:
        self.weighted_calls.add(len(self.calls))
        self.calls.append((rows, z))
        return self._tidied(self.model.to_data(z, self.context[rows].past), rows)

    def _tidied(self, data: Tensor, rows: Int[Tensor, " R"]) -> Tensor:
        if self.ending is None or self.opens is None:
            return data
        return self.ending.tidy(data, self.opens[rows].expand(len(data), len(rows)))

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
    data: Shaped[Tensor, "*rows_units_and_data"],
    valid: Bool[Tensor, "B P"],
    sampler: Sampler,
    ending: Ending,
    *,
    max_units: int,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    precision: Precision = "auto",
    condition: Mapping[str, Tensor] | None = None,
) -> Iterator[Unit]:
    """Continue each row of units until it ends or `max_units` units are made.

    The same model, prompts, sampler, seed, precision and kind of device give the same units. With `seeds` the
    random numbers of a row are its own: they are those of the same row alone under the same seed, whatever
    stands beside it. The backbone still reads all rows at once, the head is asked row by row.

    Args:
        model: In eval mode, of a causal backbone and an autoencoder of single units; all is drawn on its
            device.
        data: What stands before, P units of each row, at least one.
        valid: Which of them are real; a row's real ones stand at its end.
        sampler: Chooses among a head's draws.
        ending: When a row has ended.
        max_units: Most units to make.
        seed: Of torch's default generators, which are given back as they were.
        seeds: One of each row, instead; None: all rows draw from one stream.
        precision: `bf16` runs the model under autocast; between the units nothing of it is left.
        condition: Of each row, where the model has a conditioner.

    Raises:
        ValueError: There are not as many seeds as rows.
    """
    device, rows = next(model.parameters()).device, len(data)
    if seeds is not None and len(seeds) != rows:
        raise ValueError(f"there are {len(seeds)} seeds for {rows} rows; one each would do")
    randomness = SeededRandomness(seed, device)
    streams = [SeededRandomness(one, device) for one in seeds or ()] or [randomness]
    with randomness.borrowed(), in_precision(precision, device):
        prefix = model.prefix(rows, condition)
        length = 0 if prefix is None else prefix.shape[1]
        _, state = model.causal.start(rows, length + data.shape[1] + max_units)
        z = model.encode(data).mean
        x = model.embedder(data, z)
        if prefix is not None:
            front = torch.ones(rows, length, dtype=torch.bool, device=device)
            x, valid = torch.cat([prefix.to(x.dtype), x], 1), torch.cat([front, valid], 1)
        context, state = model.causal.step(x, valid, state)
        context = context[:, -1]
    past = past_of(model.autoencoder, data, valid[:, -data.shape[1] :])
    past = None if past is None else past[:, -1]
    opens = ending.opens(data[:, -1])
    ended = torch.zeros(rows, dtype=torch.bool, device=device)
    real = torch.ones(rows, 1, dtype=torch.bool, device=device)
    for made in range(1, max_units + 1):
        with in_precision(precision, device):
            draws = UnitDraws(model, context.behind(past), sampler.options, ending, opens)
            unit, z = _choose(draws, sampler, streams, ended)
        ended = unit.ended
        yield unit
        if bool(ended.all()) or made == max_units:
            return
        with randomness.borrowed(), in_precision(precision, device):
            x = model.embedder(unit.data.unsqueeze(1), z.unsqueeze(1))
            context, state = model.causal.step(x, real, state)
            context = context[:, -1]
        past = None if past is None else past.then(unit.data)
        opens = torch.zeros_like(opens)


def in_precision(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which a model on that device calculates so; `auto` leaves the caller's."""
    if precision == "auto":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def _choose(
    draws: UnitDraws, sampler: Sampler, streams: Sequence[SeededRandomness], ended: Bool[Tensor, " B"]
) -> tuple[Unit, Tensor]:
    """One unit for every row that has not ended, and the value to feed back.

    Args:
        draws: The source of draws.
        sampler: Chooses among them.
        streams: One for all rows, or one of each.
        ended: Rows that want nothing.
    """
    assert draws.ending is not None
    assert draws.opens is not None
    rows = (~ended).nonzero().squeeze(1)
    choice, value = _chosen(draws, sampler, streams, rows)
    data = torch.full((len(ended), *choice.data.shape[1:]), draws.ending.fill, device=ended.device)
    data = data.to(choice.data.dtype)
    data[rows] = choice.data
    z = value.new_zeros((len(ended), *value.shape[1:]))
    z[rows] = value
    cost = torch.zeros_like(ended, dtype=torch.long)
    cost[rows] = choice.draws
    level = torch.full((len(ended),), float("nan"), dtype=choice.level.dtype, device=ended.device)
    level[rows] = choice.level
    return Unit(data, ended | draws.ending.ended(data, draws.opens), cost, level), z


def _chosen(
    draws: UnitDraws, sampler: Sampler, streams: Sequence[SeededRandomness], rows: Int[Tensor, " R"]
) -> tuple[Choice, Tensor]:
    """What the sampler takes for the rows, and the values behind it: at once, or each on its own stream."""
    if len(streams) == 1:
        with streams[0].borrowed():
            choice = sampler.choose(draws, rows)
            return choice, draws.value(rows, choice.index)
    choices: list[Choice] = []
    values: list[Tensor] = []
    for number, row in zip(rows.tolist(), rows.split(1), strict=True):
        alone = UnitDraws(draws.model, draws.context, draws.options, draws.ending, draws.opens)
        with streams[number].borrowed():
            choices.append(sampler.choose(alone, row))
        values.append(alone.value(row, choices[-1].index))
    together = Choice(
        torch.cat([one.data for one in choices]),
        index=torch.cat([one.index for one in choices]),
        draws=torch.cat([one.draws for one in choices]),
        level=torch.cat([one.level for one in choices]),
    )
    return together, torch.cat(values)
