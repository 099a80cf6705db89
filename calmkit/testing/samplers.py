"""The laws of samplers."""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from typing import Any, get_args

import torch
from torch import Tensor

from calmkit.interfaces import Choice, RowSampler, Sampler, WeighingSampler, WeightedSource
from calmkit.interfaces.sampler import Pick, Schedule
from calmkit.testing import laws
from calmkit.testing.laws import Subject

PROBABILITIES = (0.6, 0.3, 0.1)


class Recorder(WeightedSource):
    """A source of draws that remembers, per row, what it gave.

    Args:
        law: What is drawn from.
        allowed: Rows that may be asked for.
    """

    def __init__(self, law: WeightedSource, allowed: Tensor) -> None:
        self.law = law
        self.allowed = set(allowed.tolist())
        self.given: dict[int, list[Tensor]] = defaultdict(list)
        self.strangers: set[int] = set()

    def __call__(self, n: int, rows: Tensor) -> Tensor:
        """N draws for each of the rows."""
        return self._kept(self.law(n, rows), rows)

    def weighted(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The values of the law for each of the rows, as given as any draw."""
        log_weights, ids = self.law.weighted(rows)
        return log_weights, self._kept(ids, rows)

    def picked(self, rows: Tensor, pick: Pick) -> Tensor:
        """What is picked of the law's values, as the only thing given."""
        return self._kept(self.law.picked(rows, pick).unsqueeze(0), rows)[0]

    def _kept(self, ids: Tensor, rows: Tensor) -> Tensor:
        self.strangers |= set(rows.tolist()) - self.allowed
        for column, row in enumerate(rows.tolist()):
            self.given[row].extend(ids[:, column])
        return ids


class Values(WeightedSource):
    """A source all of whose values are there, so that what is picked is one of them."""

    def picked(self, rows: Tensor, pick: Pick) -> Tensor:
        """Of each row the value at the place picked."""
        log_weights, ids = self.weighted(rows)
        return ids[pick(log_weights), torch.arange(len(rows), device=ids.device)]


class RandomChunks(Values):
    """Chunks of one repeated id with the probabilities above: few values, so that draws agree often.

    Args:
        chunk_size: K.
        generator: Of the draws; None: torch's default. The weighted values have nothing random.
    """

    def __init__(self, chunk_size: int, generator: torch.Generator | None = None) -> None:
        self.chunk_size, self.generator = chunk_size, generator

    def __call__(self, n: int, rows: Tensor) -> Tensor:
        """Draws of the law."""
        weights = torch.tensor(PROBABILITIES, device=rows.device)
        ids = torch.multinomial(weights, n * len(rows), replacement=True, generator=self.generator)
        return ids.reshape(n, len(rows), 1).repeat(1, 1, self.chunk_size)

    def weighted(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Each chunk with its probability, the likeliest one as two values."""
        ids = torch.arange(-1, len(PROBABILITIES), device=rows.device).clamp(min=0)
        shares = torch.tensor((PROBABILITIES[0] / 3, PROBABILITIES[0] * 2 / 3, *PROBABILITIES[1:]))
        log_weights = shares.to(rows.device).log().repeat(len(rows), 1)
        return log_weights, ids.reshape(-1, 1, 1).repeat(1, len(rows), self.chunk_size)


class OwnChunks(Values):
    """Row r can only draw chunk (r, r)."""

    def __call__(self, n: int, rows: Tensor) -> Tensor:
        """Draws of the rows' own chunks."""
        return rows.reshape(1, -1, 1).repeat(n, 1, 2)

    def weighted(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Two values, which are one chunk."""
        return torch.full((len(rows), 2), 0.5, device=rows.device).log(), self(2, rows)


def check_sampler(part: str | type[Sampler | RowSampler], **settings: Any) -> None:
    """Hold a sampler to its contract.

    Laws of a `RowSampler`, which is a set of wishes: constructor; a finite guidance with a schedule that
    there is; beams without guidance; no generator of its own.

    Laws of a `Sampler`: constructor; only the rows given are asked for; the chosen ids are the draw at
    `index`; `draws` counts what was asked; level is a float per row; same seed same choice; the choice's
    randomness is the generator's where one is given; each row gets a chunk from its own draws, whatever the
    order of the rows, and no row is favoured by its place; device. Of a `WeighingSampler` also: it asks for
    weighted values as often as its `rounds` say, and decodes as many as `decodes_all` says.

    Args:
        part: Name in the registry, or a class.
        settings: Keyword settings of the sampler.

    Raises:
        AssertionError: Naming sampler, law and what was seen.
    """
    with laws.undisturbed():
        subject = laws.subject("samplers", part, settings)
        sampler = subject.build()
        laws.check_facts(subject, sampler)
        if isinstance(sampler, RowSampler):
            _check_wishes(subject, sampler)
            return
        for rows in (torch.tensor([0]), torch.arange(4), torch.tensor([5, 0, 3])):
            for chunk_size in (1, 3):
                _check_choice(subject, sampler, rows, chunk_size)
        if isinstance(sampler, WeighingSampler):
            _check_rounds(subject, sampler)
        _check_generator(subject, sampler)
        _check_rows(subject, sampler)
        _check_places(subject, sampler)
        _check_device(subject, sampler)


@laws.law("the wishes of a row sampler go together")
def _check_wishes(part: Subject, sampler: RowSampler) -> None:
    weight, schedule = sampler.guidance.weight, sampler.guidance.schedule
    part.require(math.isfinite(weight), "a guidance weight is a finite number", f"it is {weight}")
    words = ", ".join(get_args(Schedule))
    seen = f"it is {schedule!r}; one of {words} would do"
    part.require(schedule in get_args(Schedule), "a guidance schedule is one that there is", seen)
    seen = f"{sampler.beams} beams are compared by the head's own density, and guidance is {weight:g}"
    part.require(sampler.beams == 1 or weight == 1, "beams are not guided", seen)
    law = "randomness is the caller's"
    part.require(sampler.options.generator is None, law, "its options hold a generator of its own")
    again = part.build()
    facts = [(s.options, s.guidance, s.beams, s.fan) for s in (sampler, again)]
    part.require(facts[0] == facts[1], "equal settings, equal wishes", f"{facts[0]}, then {facts[1]}")


@laws.law("device follows the input")
def _check_device(part: Subject, sampler: Sampler) -> None:
    device = laws.accelerator()
    if device is None:
        return
    choice = sampler.choose(RandomChunks(2), torch.arange(3, device=device))
    for name in ("data", "index", "draws", "level"):
        laws.check_device(part, getattr(choice, name), device, name)


@laws.law("a choice has one entry per row")
def _check_choice(part: Subject, sampler: Sampler, rows: Tensor, chunk_size: int) -> None:
    source = Recorder(RandomChunks(chunk_size), rows)
    choice: Choice = laws.with_seed(0, lambda: sampler.choose(source, rows))
    where = f"rows {rows.tolist()}, K = {chunk_size}"
    part.require(not source.strangers, "only the rows given are asked for", f"{source.strangers}; {where}")
    for name, wanted in (
        ("data", (len(rows), chunk_size)),
        *((n, (len(rows),)) for n in ("index", "draws", "level")),
    ):
        shape = tuple(getattr(choice, name).shape)
        part.require(
            shape == wanted, "a choice has one entry per row", f"{name} {shape}, not {wanted}; {where}"
        )
    part.require(choice.level.is_floating_point(), "level is a float", f"{choice.level.dtype}")
    for i, row in enumerate(rows.tolist()):
        given, index = source.given[row], int(choice.index[i])
        seen = f"{int(choice.draws[i])} stated, {len(given)} asked for row {row}; {where}"
        part.require(int(choice.draws[i]) == len(given), "draws counts what was asked", seen)
        part.require(
            0 <= index < len(given), "index is one of the draws", f"{index} of {len(given)}; {where}"
        )
        seen = f"{choice.data[i].tolist()} is not draw {index}, {given[index].tolist()}; {where}"
        part.require(torch.equal(choice.data[i], given[index]), "the ids are the draw at index", seen)
    again = laws.with_seed(0, lambda: sampler.choose(RandomChunks(chunk_size), rows))
    for name in ("data", "index", "draws"):
        same = torch.equal(getattr(choice, name), getattr(again, name))
        part.require(same, "same seed, same choice", f"{name} differs; {where}")


@laws.law("rounds is how often weighted values are asked for")
def _check_rounds(part: Subject, sampler: WeighingSampler) -> None:
    """A plan of its cost goes by `rounds`."""
    law, rows = "rounds is how often weighted values are asked for", torch.arange(3)
    source = RandomChunks(2)
    stated = sampler.rounds
    each = len(source.weighted(rows)[1]) if sampler.decodes_all else 1
    draws = laws.with_seed(0, lambda: sampler.choose(source, rows)).draws
    seen = f"{draws.tolist()} draws of {each} values a round, of {stated} rounds"
    part.require(bool((draws == each * stated).all()), law, seen)


@laws.law("the choice's randomness is the generator's where one is given")
def _check_generator(part: Subject, sampler: Sampler) -> None:
    """With a generator, and draws that bring their own, torch's default generator has no say."""
    law = "the choice's randomness is the generator's where one is given"
    parameter = inspect.signature(sampler.choose).parameters.get("generator")
    stated = parameter is not None and parameter.default is None
    part.require(stated, law, "choose() takes no `generator` that is None by default")
    rows = torch.arange(200)

    def index(default_seed: int, seed: int) -> Tensor:
        given = laws.with_seed(default_seed, lambda: torch.Generator().manual_seed(seed))
        source = RandomChunks(2, torch.Generator().manual_seed(0))
        before = torch.get_rng_state()
        chosen = sampler.choose(source, rows, given).index
        same = torch.equal(before, torch.get_rng_state())
        part.require(same, law, "torch's default generator was used all the same")
        return chosen

    same = torch.equal(index(0, 1), index(1, 1))
    part.require(same, law, "one seed of the generator gives two choices")


@laws.law("a row gets one of its own draws")
def _check_rows(part: Subject, sampler: Sampler) -> None:
    """Where row r can only draw chunk (r, r), it gets that, in any order of the rows."""
    for rows in (torch.tensor([2, 0, 3, 1]), torch.tensor([7, 4]), torch.arange(5)):
        choice = sampler.choose(OwnChunks(), rows)
        wanted = rows.unsqueeze(-1).repeat(1, 2)
        seen = f"rows {rows.tolist()} got {choice.data.tolist()}"
        part.require(torch.equal(choice.data, wanted), "a row gets one of its own draws", seen)


@laws.law("no row is favoured by its place")
def _check_places(part: Subject, sampler: Sampler, count: int = 2000) -> None:
    """Rows of one law choose alike in the first and the second half of a batch."""
    rows = torch.arange(2 * count)
    ids = laws.with_seed(0, lambda: sampler.choose(RandomChunks(1), rows)).data[:, 0]
    for value in range(len(PROBABILITIES)):
        first, second = ((half == value).double().mean().item() for half in ids.split(count))
        share = (first + second) / 2
        # Six standard errors: a correct sampler fails once in 10^9 seeds; this seed is fixed.
        bound = 6 * (2 * share * (1 - share) / count) ** 0.5
        seen = (
            f"a chunk is chosen with frequency {first:.3f} in the first half of the rows, {second:.3f} after"
        )
        part.require(abs(first - second) <= bound, "no row is favoured by its place", seen)
