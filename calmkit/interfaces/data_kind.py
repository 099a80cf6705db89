"""DataKind: what a run is about, in a room of its own; everything above the model asks it, never its name.

`calmkit train`, `eval`, `generate`, `compare` and `study` are the same verbs for every kind. What differs
between texts, pictures or series stands here: which sizes parts are built with, how batches are made, when a
row has ended, what is measured and in which words it is told, what goes in by a prompt and comes out as a
file. A kind comes in by the hook `calmkit_data_kinds`; a corpus names its own in `Corpus.data_kind`.

Recipes, managers and models lie in rooms above this one, so their types are named in words only: `recipe` is
a `calmkit.recipe.schema.Recipe`, `manager` a `calmkit.registry.Manager`, `model` a `calmkit.model.CalmModel`,
`progress` a `calmkit.training.progress.Progress`, `run` a `calmkit.training.run.Run`, a datamodule one of
Lightning's that gives `Batch`es and has `all_val_dataloader`: the held-out rows of all processes, in order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from calmkit.interfaces.batch import Batch
from calmkit.interfaces.corpus import Corpus
from calmkit.interfaces.generation_asked import TAKEN_BEFORE, GenerationAsked
from calmkit.interfaces.kind_words import KindWords
from calmkit.interfaces.objective import Reward


class Scores(nn.Module, ABC):
    """Numbers gathered over held-out batches and all processes; its torchmetrics move and reduce with it."""

    @abstractmethod
    def update(self, measured: Any, batch: Batch) -> None:
        """Add a batch.

        Args:
            measured: The autoencoder for the scores of stage 1, the model for those of stage 2; in eval mode,
                and nothing of it may change.
            batch: Held-out rows. Randomness is torch's default generator, which the caller seeds.
        """

    @abstractmethod
    def compute(self) -> Mapping[str, Float[Tensor, ""]]:
        """The numbers, by the names under which they are stored."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all batches; `table` stays."""

    def table(self) -> tuple[Sequence[str], Float[Tensor, "groups columns"]] | None:
        """After `compute`: the names of its columns, and sums by group (`Batch.group` first); None where
        there is none. For comparisons in pairs.
        """
        return None


class Prepared(ABC):
    """The data of a recipe, ready: read, cached and counted.

    Attributes:
        fingerprint: Of the data, their split, and all that turns them into what a model reads.
        sizes: What parts are built with, by name, such as `vocab_size`.
        notes: Warnings, a sentence each.
        told: What there is, in a line.
    """

    fingerprint: str
    sizes: Mapping[str, Any]
    notes: tuple[str, ...]
    told: str

    @abstractmethod
    def facts(self, autoencoder: Any) -> dict[str, Any]:
        """What `model/config.json` says of data and units, plain values."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what `DataKind.restore` needs."""

    @abstractmethod
    def rows(
        self,
        recipe: Any,
        autoencoder: Any,
        *,
        batch_size: int,
        max_rows: int,
        among: int | None = None,
    ) -> Any:
        """A datamodule: a `calmkit.data.datamodule.RowsDataModule`, or what does the same.

        Its `train_dataloader` never ends; what it gives is a function of the seed and of the rows that were
        seen, which `begin(seen)` says, and of nothing else: that is how a run is resumed.
        `rows_at(seen, count)` is what a step over all processes sees there; `first_epoch()` gives every
        training row once.

        Args:
            recipe: Says the lengths, the seed and the rows of an evaluation at once.
            autoencoder: Its units are those of the rows.
            batch_size: Rows per process and step of training.
            max_rows: Held-out rows, over all processes, evenly spread.
            among: These are taken of the rows that a `max_rows` of so many would give.
        """

    def scores(self) -> dict[str, Any]:
        """What an evaluation on these data says of them, such as how much of them leaks."""
        return {}


class Front(ABC):
    """A trained model with its sampler and what its kind keeps beside it: what users hold.

    Attributes:
        model: In eval mode.
        sampler: The one of its recipe.
    """

    model: Any
    sampler: Any


class DataKind(ABC):
    """One kind of data. The constructor takes nothing.

    Attributes:
        words: How it is told.
        corpus: What its corpora derive from; a recipe with another one that names this kind is refused.
        row_length: True where `data.sequence_length` of a recipe says how long a row is.
        sections: Sections of a recipe that only some kinds have, and this one must, such as `tokenizer`.
        scores_samplers: True where `score_sampler` has something to say.
        takes: Which of `calmkit.interfaces.generation_asked.OPTIONS` its `generate` and `records` honour;
            `calmkit generate` refuses the others by name, before a weight is read.
        rewards: Names that `reward` knows.
    """

    words: ClassVar[KindWords]
    corpus: ClassVar[type[Corpus]] = Corpus  # type: ignore[type-abstract]
    row_length: ClassVar[bool] = False
    sections: ClassVar[tuple[str, ...]] = ()
    scores_samplers: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = TAKEN_BEFORE
    rewards: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def known_sizes(self, recipe: Any, manager: Any) -> dict[str, Any]:
        """What parts are built with, by name, as far as it is known before data are read."""

    @abstractmethod
    def num_units(self, recipe: Any, autoencoder: Any) -> int:
        """L, units of a row."""

    def elements_per_row(self, recipe: Any) -> float:
        """How many of `words.element` a row is."""
        del recipe
        return 1.0

    def problems(self, recipe: Any, manager: Any, autoencoder: Any) -> Iterator[Any]:
        """What of a recipe doesn't go together, as far as only this kind can tell: each a
        `calmkit.recipe.errors.Problem`.
        """
        del recipe, manager, autoencoder
        return iter(())

    @abstractmethod
    def prepare(self, recipe: Any, manager: Any, progress: Any, kept: Any = None) -> Prepared:
        """Read the data of a recipe, or take them from the cache.

        Args:
            recipe: Names the corpus.
            manager: Where parts are looked up.
            progress: Told while something is read.
            kept: What `restore` gave, for a model that was trained before; None: made anew.

        Raises:
            DataError: The data can't be used.
        """

    @abstractmethod
    def restore(self, recipe: Any, manager: Any, folder: Path) -> Any:
        """What `Prepared.save` wrote into a run; has the attribute `sizes`, as `Prepared` has."""

    @abstractmethod
    def front(self, model: Any, kept: Any, sampler: Any, precision: Any) -> Front:
        """A trained model as users hold it."""

    @abstractmethod
    def coding_scores(self, autoencoder: Any) -> Scores:
        """How well an autoencoder gives back what it read."""

    @abstractmethod
    def scores(
        self, model: Any, recipe: Any, manager: Any, prepared: Prepared, *, final: bool = True
    ) -> Scores:
        """What a model is judged by on held-out rows, beside the loss of its head; on the way (not `final`)
        what costs much may be left out.
        """

    def reward(self, name: str, kept: Any) -> Reward:
        """What a unit of data is worth, for objectives that ask for it.

        Args:
            name: One of `rewards`.
            kept: What `prepare` or `restore` gave.
        """
        del kept
        raise ValueError(f"{type(self).__name__} knows no reward '{name}'")

    def about_rows(self, recipe: Any, model: Any, data: Any) -> dict[str, float]:
        """What a reader of scores must know of the rows they were measured on."""
        del recipe, model, data
        return {}

    @abstractmethod
    def beside(
        self, recipe: Any, manager: Any, prepared: Prepared, data: Any, front: Front, progress: Any
    ) -> dict[str, Any]:
        """What stands beside the scores of a model, found by one process alone: bars, ceilings, speed."""

    def leaks(
        self, prepared: Prepared, run: Any, manager: Any, say: Callable[[str], object]
    ) -> dict[str, Any]:
        """`Prepared.scores` of data on which the model of a run is measured, which it may have learnt from;
        `say` takes each warning.
        """
        del run, manager
        for note in prepared.notes:
            say(f"warning: {note}")
        return prepared.scores()

    def latents(self, autoencoder: Any, data: Any, prepared: Prepared, seed: int) -> dict[str, Any]:
        """What an autoencoder's latents are like, as plain values for `latents.json`; nothing where there are
        none.
        """
        del autoencoder, data, prepared, seed
        return {}

    def score_sampler(
        self,
        model: Any,
        sampler: Any,
        data: Any,
        *,
        max_units: int,
        seed: int,
        progress: Callable[[int], object],
    ) -> dict[str, Any]:
        """What a sampler makes of a model under teacher forcing, for studies that ask for it, as plain
        values, of which studies average numbers and lists of numbers over seeds:

        `units`; the primary number; each of `words.sampled` with `<name>_se` (None: unknown); what a choice
        costs, `draws_per_unit`, `max_draws`, `network_calls_per_unit`, `flops_per_unit` (None: unknown),
        `mean_level`, `levels` (level -> share), `fallback_share`; and, where they are known, under
        `words.groups` of each group its number and the sums that the primary number follows from. More may
        stand beside them, and is kept.

        Raises:
            ValueError: There is nothing to score.
        """
        del model, sampler, data, max_units, seed, progress
        raise ValueError(f"{type(self).__name__} scores no samplers")

    def refuses_length(self, recipe: Any, length: int) -> str:
        """Why the model of a recipe can't be measured on rows of so many `words.element`s; empty where
        it can.
        """
        del recipe, length
        return f"rows of {self.words.data} have a length of their own"

    @abstractmethod
    def generate(self, front: Front, asked: GenerationAsked, note: Callable[[str], object]) -> Iterator[str]:
        """What `calmkit generate` prints, piece by piece; `note` takes what is said beside it.

        Raises:
            ValueError: It was asked for what this kind of data does not have; the message names the option.
        """

    def records(
        self, front: Front, asked: GenerationAsked, note: Callable[[str], object]
    ) -> Iterator[Mapping[str, Any]]:
        """What `calmkit generate --json` prints, an object a line, for kinds that take `json`: plain values;
        `settings` holds what was decided where nobody asked.

        Raises:
            ValueError: As `generate`.
        """
        del front, asked, note
        raise ValueError(f"--json means nothing for {self.words.data}")

    @abstractmethod
    def sample(self, front: Front, recipe: Any, folder: Path) -> None:
        """Write what the model makes, as its recipe's `evaluation` says, into a run's folder."""

    @abstractmethod
    def tell(self, scores: Mapping[str, Any]) -> list[str]:
        """The lines that a person looks for first among the numbers of an evaluation."""
