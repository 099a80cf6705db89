"""Small parts with settings of every type: a manager by hand for tests of recipes and the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from calmkit.interfaces import (
    Backbone,
    Choice,
    Context,
    DataError,
    Draw,
    Embedder,
    EventSpec,
    GenerativeHead,
    HeadInfo,
    LossOutput,
    NotTrainable,
    Posterior,
    SampleOptions,
    Sampler,
    Split,
    TextCorpus,
    TokenAutoencoder,
    Tokenizer,
)
from calmkit.objectives.data import DataObjective
from calmkit.registry import Manager, Part
from calmkit.text.kind import Text


class PlainAutoencoder(TokenAutoencoder):
    """Continuous, with parameters."""

    def __init__(self, vocab_size: int, *, chunk_size: int = 4, latent_dim: int = 8, kl_weight: float = 1e-3):
        super().__init__()
        if latent_dim < 1:
            raise ValueError(f"plain: latent_dim must be at least 1, got {latent_dim}; 8 would do.")
        self.chunk_size, self.event, self.vocab_size = chunk_size, EventSpec((latent_dim,)), vocab_size
        self.read = nn.Linear(chunk_size, latent_dim)

    def encode(self, data: Tensor) -> Posterior:
        return Posterior(self.read(data.to(self.read.weight.dtype)))

    def decode(self, z: Tensor) -> Tensor:
        return z.new_zeros(*z.shape[:-1], self.chunk_size, self.vocab_size)

    def to_data(self, z: Tensor) -> Tensor:
        return self.decode(z).argmax(-1)

    def loss(self, data: Tensor) -> LossOutput:
        return LossOutput(self.encode(data).mean.sum(-1))


class IdsAutoencoder(TokenAutoencoder):
    """Ids stay ids; no parameters."""

    def __init__(self, vocab_size: int, *, chunk_size: int = 4):
        super().__init__()
        self.chunk_size, self.event, self.vocab_size = (
            chunk_size,
            EventSpec((chunk_size,), vocab_size),
            vocab_size,
        )

    def encode(self, data: Tensor) -> Posterior:
        return Posterior(data)

    def decode(self, z: Tensor) -> Tensor:
        return nn.functional.one_hot(z, self.vocab_size).to(torch.get_default_dtype())

    def to_data(self, z: Tensor) -> Tensor:
        return z

    def loss(self, data: Tensor) -> LossOutput:
        raise NotTrainable("nothing to learn")


class TokensEmbedder(Embedder):
    """Reads the ids."""

    reads = "data"

    def __init__(self, hidden_dim: int, event: EventSpec, chunk_size: int, vocab_size: int):
        super().__init__()
        self.project = nn.Linear(chunk_size, hidden_dim)

    def forward(self, data: Tensor, z: Tensor) -> Tensor:
        return self.project(data.to(self.project.weight.dtype))


class LatentsEmbedder(TokensEmbedder):
    """Reads the latents."""

    reads = "latents"


class PlainBackbone(Backbone):
    """Linear."""

    def __init__(self, *, hidden_dim: int = 16, depth: int = 2):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.layers = nn.ModuleList(nn.Linear(hidden_dim, hidden_dim) for _ in range(depth))

    def forward(self, x: Tensor, valid: Tensor) -> Context:
        return Context(x)

    def start(self, batch: int, max_units: int) -> Any:
        raise NotImplementedError

    def step(self, x: Tensor, valid: Tensor, state: Any) -> Any:
        raise NotImplementedError

    def select(self, state: Any, rows: Tensor) -> Any:
        raise NotImplementedError

    def states(self, x: Tensor, valid: Tensor) -> Any:
        raise NotImplementedError


class WideHead(GenerativeHead):
    """Honours no option; takes settings of every type."""

    info = HeadInfo(sampling="one_step")

    def __init__(
        self,
        hidden_dim: int,
        event: EventSpec,
        *,
        num_draws: int = 8,
        num_targets: int = 100,
        exponent: float = 1.0,
        gated: bool = False,
        label: str = "plain",
        solver: Literal["euler", "midpoint"] = "euler",
        width: int | None = None,
        betas: tuple[float, float] = (0.9, 0.99),
        names: list[str] | None = None,
        sizes: dict[str, int] | None = None,
        paths: str | list[str] = "a",
    ):
        super().__init__()
        self.project = nn.Linear(hidden_dim, event.shape[0])

    def loss(self, context: Context, target: Posterior) -> Tensor:
        return context.h.sum(-1)

    def sample(self, context: Context, num: int = 1, options: SampleOptions | None = None) -> Tensor:
        return self.project(context.h).expand(num, *context.h.shape[:-1], -1)


class NarrowHead(WideHead):
    """Honours num_steps; shares num_targets with the wide head."""

    info = HeadInfo(sampling="iterative", options=frozenset({"num_steps", "generator"}))

    def __init__(
        self,
        hidden_dim: int,
        event: EventSpec,
        *,
        num_targets: int = 8,
        num_steps: int = 10,
        label: Literal["flow"] = "flow",
    ):
        super().__init__(hidden_dim, event)


class IdsHead(WideHead):
    """Takes ids."""

    info = HeadInfo(sampling="autoregressive", events=frozenset({"tokens"}))

    def __init__(self, hidden_dim: int, event: EventSpec):
        super().__init__(hidden_dim, event)


class DirectSampler(Sampler):
    """One draw."""

    def __init__(self, *, head_temperature: float | None = None, num_steps: int | None = None):
        self.options = SampleOptions(temperature=head_temperature, num_steps=num_steps)

    def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
        raise NotImplementedError


class VoteSampler(Sampler):
    """Many draws."""

    def __init__(self, *, head_temperature: float = 0.5, candidates: int = 50):
        self.options = SampleOptions()

    def choose(self, draw: Draw, rows: Tensor, generator: torch.Generator | None = None) -> Choice:
        raise NotImplementedError


class ConstantCorpus(TextCorpus):
    """Two documents."""

    def documents(self, split: Split) -> Iterator[str]:
        yield split

    def identity(self) -> str:
        return "constant"


class FilesCorpus(ConstantCorpus):
    """Needs files."""

    def __init__(self, *, train: str | list[str], valid: str | None = None):
        for path in [train] if isinstance(train, str) else train:
            if not Path(path).exists():
                raise DataError(f"data.train: {path} does not exist; correct the path")


class PlainTokenizer(Tokenizer):
    """Of 16 ids."""

    def __init__(self, *, vocab_size: int = 16):
        self.vocab_size, self.eos_id = vocab_size, vocab_size - 1

    def prepare(self, corpus: TextCorpus, cache: Path) -> Tokenizer:
        return self

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[0] for _ in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return ""

    def token_lengths(self) -> Sequence[int]:
        return [1] * self.vocab_size

    def fingerprint(self) -> str:
        return "plain"

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    def restore(self, folder: Path) -> Tokenizer:
        return self


FAKES: dict[str, dict[str, type]] = {
    "autoencoders": {"plain": PlainAutoencoder, "ids": IdsAutoencoder},
    "embedders": {"tokens": TokensEmbedder, "latents": LatentsEmbedder},
    "backbones": {"plain": PlainBackbone},
    "heads": {"wide": WideHead, "narrow": NarrowHead, "ids": IdsHead},
    "objectives": {"data": DataObjective},
    "samplers": {"direct": DirectSampler, "vote": VoteSampler},
    "corpora": {"constant": ConstantCorpus, "files": FilesCorpus},
    "tokenizers": {"plain": PlainTokenizer},
    "data_kinds": {"text": Text},
}


def fake_manager() -> Manager:
    """A manager that knows the fakes and nothing else."""
    manager = Manager(plugins=["fakes"])
    for kind, classes in FAKES.items():
        manager.parts[kind] = {name: Part(kind, name, cls, "fakes") for name, cls in classes.items()}
    return manager


BASE = """\
calmkit: 1
description: a base
data: {name: constant, sequence_length: 16}
tokenizer: {name: plain}
autoencoder: {name: plain, chunk_size: 4, latent_dim: 6}
backbone: {name: plain, hidden_dim: 8}
head:
  name: wide
  num_draws: 5
  num_targets: 7
sampler: {name: vote, head_temperature: 0.25, candidates: 20}
stages:
  autoencoder: {max_steps: 3, gate: {min: 0.5}}
  lm: {max_steps: 4, optimizer: {lr: 1e-4}}
"""
