"""Writing until a stop string, many prompts at once, as a task wishes.

Source: generate_until of lm-eval,
https://github.com/EleutherAI/lm-evaluation-harness/blob/main/docs/model_guide.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from calmkit.interfaces import Sampler
from calmkit.recipe.schema import PartSpec
from calmkit.registry import Manager
from calmkit.text.generation import TextModel, generate
from calmkit.text.units import chunk_size_of
from calmkit.text.wishes import Wish, cut, read_wish, sampler_settings


@final
class Writer:
    """Writes continuations until they are long enough or hold a stop string.

    Args:
        text: The model, its tokenizer and its sampler.
        sampler: The name and settings of its sampler.
        max_tokens: Of a row of training.
        manager: Builds samplers.
        note: Told each thing that is left out or made of a wish, once.
        batch_size: Prompts continued at once. What is drawn depends on it.
        seed: With the number of the batch, what is drawn.
        keep_sampler: Leave the run's sampler as it is, whatever temperature a task wishes for.
    """

    def __init__(
        self,
        text: TextModel,
        sampler: PartSpec,
        max_tokens: int,
        manager: Manager,
        *,
        note: Callable[[str], object],
        batch_size: int = 8,
        seed: int = 0,
        keep_sampler: bool = False,
    ) -> None:
        self.text, self.spec, self.max_tokens, self.manager = text, sampler, max_tokens, manager
        self.note, self.batch_size, self.seed, self.keep_sampler = note, batch_size, seed, keep_sampler
        self._told: set[str] = set()
        self._samplers: dict[float, Sampler] = {}
        self._batches = 0

    def write(self, asked: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """The continuation of each prompt, in order.

        Raises:
            ValueError: See `read_wish`.
        """
        wishes = [self._wish(settings) for _, settings in asked]
        found = [""] * len(asked)
        groups: dict[tuple[float | None, int], list[int]] = {}
        for number, wish in enumerate(wishes):
            groups.setdefault((wish.temperature, wish.max_tokens), []).append(number)
        for numbers in groups.values():
            for start in range(0, len(numbers), self.batch_size):
                batch = numbers[start : start + self.batch_size]
                texts = self._write_batch([asked[i][0] for i in batch], [wishes[i] for i in batch])
                for number, text in zip(batch, texts, strict=True):
                    found[number] = text
        return found

    def sampler(self, temperature: float | None) -> Sampler:
        """The one for a temperature; that of the run where none is wished for, or none can be had."""
        if temperature is None:
            return self.text.sampler
        if temperature not in self._samplers:
            self._samplers[temperature] = self._made(temperature)
        return self._samplers[temperature]

    def _made(self, temperature: float) -> Sampler:
        name, options = self.spec.name, self.spec.options
        own = f"the run's sampler '{name}' writes as it is"
        if self.keep_sampler:
            self._say(f"temperature {temperature:g} of the task is left out: {own}, as was asked")
            return self.text.sampler
        info = self.text.model.head.info
        for other, settings in sampler_settings(temperature, info, name, options):
            try:
                sampler = self.manager.build("samplers", other, settings)
            except ValueError:
                continue  # the next one may take it
            heat = {
                key: value for key, value in settings.items() if "temperature" in key and value is not None
            }
            told = ", ".join(f"{key}={value:g}" for key, value in heat.items())
            self._say(f"temperature {temperature:g} of the task: sampler {other}{told and f' with {told}'}")
            return sampler
        self._say(f"temperature {temperature:g} of the task is left out: no sampler reaches it, {own}")
        return self.text.sampler

    def _wish(self, settings: Mapping[str, Any]) -> Wish:
        wish, unknown = read_wish(settings)
        if unknown:
            self._say(
                f"left out of the task's generation_kwargs, for no sampler has them: {', '.join(unknown)}"
            )
        return wish

    def _say(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self.note(line)

    def _write_batch(self, prompts: Sequence[str], wishes: Sequence[Wish]) -> list[str]:
        """Continuations of prompts that wish for the same length and temperature."""
        model, tokenizer, length = self.text.model, self.text.tokenizer, wishes[0].max_tokens
        size = chunk_size_of(model)
        front = [self._fitting(ids, length) for ids in tokenizer.encode(prompts)]
        said = [len(tokenizer.decode(ids)) for ids in front]
        made: list[list[int]] = [[] for _ in front]
        texts = [""] * len(front)
        units = generate(
            model,
            front,
            self.sampler(wishes[0].temperature),
            eos_id=tokenizer.eos_id,
            max_units=-(-length // size),
            seed=self.seed + self._batches,
            precision=self.text.precision,
        )
        self._batches += 1
        done = [False] * len(front)
        for unit in units:
            for row, ids in enumerate(unit.data.tolist()):
                if not done[row]:
                    made[row] += ids
                    whole = tokenizer.decode(front[row] + made[row][:length])[said[row] :]
                    texts[row], done[row] = cut(whole, wishes[row].until)
            if all(done):
                break
        return texts

    def _fitting(self, ids: list[int], length: int) -> list[int]:
        """The end of a prompt that leaves room in a row of training for what is written, or half of a row."""
        row = self.max_tokens
        room = max(row - length, row // 2)
        if len(ids) <= room:
            return ids
        self._say(
            f"prompts of more than {room} tokens are read from their ends: a row of training has {row} "
            f"(data.sequence_length), and {length} are to be written"
        )
        return ids[-room:]
