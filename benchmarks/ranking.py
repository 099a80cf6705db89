"""Does BrierLM rank likelihood-trained and energy-trained models alike? A world where both can be judged.

    python benchmarks/ranking.py                    # about 10 minutes on one core
    python benchmarks/ranking.py --smoke            # seconds: shows that it runs, measures nothing

The text is a Markov source of few letters, chunks are K = 2 letters, so a model's law of the next chunk has
(A + 1)^2 outcomes, and its cross-entropy against the true law can be estimated from draws alone, whatever the
head: q(x) = (count(x) + 1/2) / (draws + outcomes / 2) for each context, then -sum_x P(x) log q(x) with the
true P. Bias: where draws * q(x) is much above 1, the half added cancels the curvature of the logarithm but
for (outcomes - 1) / (2 draws) nats per chunk, the same for every model, which is subtracted; where the model
gives a chunk less than 1 / draws the estimate is too low, since a chunk never drawn costs at most
log(2 draws + outcomes). The exact value stands beside it where the head knows it.

All models read the same rows and are judged on the same contexts. One seed per model; `--seed` repeats all of
it with other weights and batches in the same world.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from calmkit.autoencoders.token_chunks import TokenChunks
from calmkit.autoencoders.vae import VAE
from calmkit.backbones.transformer import TransformerBackbone
from calmkit.embedders.tokens import TokensEmbedder
from calmkit.heads.energy import EnergyHead
from calmkit.heads.flow import FlowHead
from calmkit.heads.local_ar import LocalARHead
from calmkit.heads.mixture import MixtureHead
from calmkit.interfaces import Autoencoder, Context, DensityHead, GenerativeHead
from calmkit.model import CalmModel
from calmkit.results.relation import pearson, spearman
from calmkit.text.corpora.markov import MarkovCorpus
from calmkit.text.metrics.brier import BrierLM
from calmkit.text.metrics.likelihood import Likelihood, likelihood_kind, unit_nats
from calmkit.text.metrics.rollout import brier_draws

K = 2
LENGTH = 64  # tokens of a row: one document of 63 letters and its end


@dataclass(frozen=True)
class Plan:
    """How much is trained and measured."""

    steps: tuple[int, ...] = (50, 100, 200, 400, 800, 1200)
    autoencoder_steps: int = 600
    batch: int = 32
    rows: int = 256
    contexts: int = 96
    draws: int = 4000
    train_rows: int = 8192
    seed: int = 0  # of weights and batches


SMOKE = Plan((5, 10, 20), 30, 8, 16, 4, 200, 256)


@dataclass(frozen=True)
class Contestant:
    """A model to be trained: its name, how it is trained, its head, width and the head's settings."""

    name: str
    trained_by: str
    head: type[GenerativeHead]
    hidden_dim: int
    settings: dict[str, int | float]


CONTESTANTS = (
    Contestant("local_ar 48", "likelihood", LocalARHead, 48, {"depth": 1}),
    Contestant("local_ar 24", "likelihood", LocalARHead, 24, {"depth": 1, "heads": 2}),
    Contestant("mixture 48", "likelihood", MixtureHead, 48, {"depth": 2, "num_components": 16}),
    Contestant("mixture 24", "likelihood", MixtureHead, 24, {"depth": 2, "num_components": 8}),
    Contestant("energy 48", "energy", EnergyHead, 48, {"depth": 2, "num_draws": 8}),
    Contestant("energy 24", "energy", EnergyHead, 24, {"depth": 2, "num_draws": 8}),
    Contestant("energy 48, 2 draws", "energy", EnergyHead, 48, {"depth": 2, "num_draws": 2}),
    Contestant("energy 48, exponent 1.5", "energy", EnergyHead, 48, {"depth": 2, "exponent": 1.5}),
    Contestant("flow 48", "flow matching", FlowHead, 48, {"depth": 2, "num_steps": 4}),
)


@dataclass(frozen=True)
class World:
    """The source, its text as ids (letters 0..A-1, end-of-text A), and the contexts that are judged."""

    corpus: MarkovCorpus
    train: Tensor  # [R, L, K]
    valid: Tensor
    places: Tensor  # [C, 2]: row and unit of each context
    truth: Tensor  # [C, (A + 1)^2]: the true law of the next chunk

    @property
    def vocab_size(self) -> int:
        """Letters and the end-of-text."""
        return self.corpus.source.alphabet + 1


def make_world(plan: Plan, alphabet: int) -> World:
    """A source of order 2; contexts are units behind at least two letters and before the end."""
    corpus = MarkovCorpus(
        order=2,
        alphabet=alphabet,
        concentration=0.5,
        seed=1,
        train_tokens=plan.train_rows * LENGTH,
        valid_tokens=max(plan.rows, plan.contexts) * LENGTH,
        document_length=LENGTH - 1,
    )

    def ids(split: str) -> Tensor:
        letters = [[ord(c) - ord("a") for c in text] + [alphabet] for text in corpus.documents(split)]  # type: ignore[arg-type]
        return torch.tensor(letters).view(len(letters), LENGTH // K, K)

    train, valid = ids("train"), ids("valid")
    units = torch.randint(1, LENGTH // K - 1, (plan.contexts,), generator=torch.Generator().manual_seed(0))
    places = torch.stack([torch.arange(plan.contexts), units], 1)
    table = torch.from_numpy(corpus.source.tables[-1]).to(torch.get_default_dtype())
    truth = torch.zeros(plan.contexts, alphabet + 1, alphabet + 1)
    for number, (row, unit) in enumerate(places.tolist()):
        a, b = valid[row, unit - 1].tolist()
        truth[number, :alphabet, :alphabet] = table[a, b][:, None] * table[b]
    return World(corpus, train, valid, places, truth.flatten(1))


def optimise(parameters: Sequence[Tensor], steps: int, lr: float) -> Iterator[torch.optim.Optimizer]:
    """An AdamW optimiser for each step, warmed up over 50 steps, then constant; gradients are cleared."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.95), weight_decay=0.01)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 50)
        optimizer.zero_grad()
        yield optimizer
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


def train_autoencoder(world: World, plan: Plan) -> VAE:
    """One VAE for all models over latents."""
    torch.manual_seed(10 * plan.seed)
    vae = VAE(world.vocab_size, chunk_size=K, latent_dim=4, hidden_dim=32, kl_weight=0.01)
    for _ in optimise(list(vae.parameters()), plan.autoencoder_steps, 3e-3):
        rows = torch.randint(len(world.train), (plan.batch,))
        vae.loss(world.train[rows]).per_unit.mean().backward()
    right = (vae.eval().to_data(vae.encode(world.valid).sample(1)[0]) == world.valid).double().mean()
    print(f"the autoencoder gives back {100 * float(right):.2f} % of the tokens\n")
    return vae


def build(one: Contestant, autoencoder: Autoencoder, vocab_size: int, seed: int) -> CalmModel:
    """A model without training."""
    torch.manual_seed(10 * seed + 1)
    hidden, event = one.hidden_dim, autoencoder.event
    return CalmModel(
        autoencoder,
        TokensEmbedder(hidden, event, K, vocab_size),
        TransformerBackbone(hidden_dim=hidden, depth=2, heads=4 if hidden % 8 == 0 and hidden > 24 else 2),
        one.head(hidden, event, **one.settings),  # type: ignore[arg-type]
    )


@torch.no_grad()
def chunk_cross_entropy(model: CalmModel, world: World, draws: int) -> tuple[float, float | None]:
    """Nats per token of the model against the true law: estimated from draws, and exact where it can be."""
    rows, units = world.places.T
    context = Context(model.context(world.valid[rows]).h[torch.arange(len(rows)), units])
    size, outcomes = world.vocab_size, world.vocab_size**K
    estimates, exact = [], []
    for number in range(len(rows)):
        here = context[number : number + 1]
        ids, _ = model.draw(here, draws)
        counts = torch.bincount((ids[:, 0] * torch.tensor([size, 1])).sum(-1), minlength=outcomes)
        q = (counts + 0.5) / (draws + outcomes / 2)
        estimates.append(-(world.truth[number] * q.log()).sum() - (outcomes - 1) / (2 * draws))
        if isinstance(model.head, DensityHead) and model.autoencoder.event.kind == "tokens":
            every = torch.tensor(list(itertools.product(range(size), repeat=K)))
            log_q = model.log_prob(Context(here.h.expand(outcomes, -1)), every)
            exact.append(-(world.truth[number] * log_q).sum())
    known = float(torch.stack(exact).mean()) / K if exact else None
    return float(torch.stack(estimates).mean()) / K, known


@torch.no_grad()
def judge(model: CalmModel, world: World, plan: Plan) -> tuple[float, float, float | None, float | None]:
    """BrierLM, nats per token estimated from draws and exact, and the bound of a density over latents."""
    model.eval()
    torch.manual_seed(2)
    metric, valid = BrierLM(), torch.ones(plan.rows, LENGTH // K, dtype=torch.bool)
    chunks = world.valid[: plan.rows]
    metric.update(*brier_draws(model, chunks, valid, 8))
    kind, bound = likelihood_kind(model), None
    if kind == "bound":
        likelihood = Likelihood(kind, K)
        likelihood.update(*unit_nats(model, chunks, valid, kind, 4))
        bound = float(likelihood.compute()["nll_bound_per_token"])
    estimate, exact = chunk_cross_entropy(model, world, plan.draws)
    model.train()
    return float(metric.compute()["brier_lm"]), estimate, exact, bound


@dataclass(frozen=True)
class Result:
    """A model at a step."""

    name: str
    trained_by: str
    step: int
    brier_lm: float
    nats: float


def run(one: Contestant, vae: VAE, world: World, plan: Plan, floor: float) -> list[Result]:
    """Train a model and judge it on the way."""
    autoencoder = TokenChunks(world.vocab_size, chunk_size=K) if one.head is LocalARHead else vae
    model = build(one, autoencoder, world.vocab_size, plan.seed).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    results = []
    torch.manual_seed(10 * plan.seed + 3)
    # judged before the step that follows, so one step more than the last that counts
    for step, _ in enumerate(optimise(parameters, plan.steps[-1] + 1, 2e-3)):
        if step in plan.steps:
            with torch.random.fork_rng(devices=[]):
                brier, nats, exact, bound = judge(model, world, plan)
            results.append(Result(one.name, one.trained_by, step, brier, nats))
            known = "" if exact is None else f"{exact:8.4f}"
            above = "" if bound is None else f"{bound:8.4f}"
            row = f"{one.name:24} {step:5} {brier:8.3f} {nats:8.4f} {nats - floor:8.4f} {known:>8} {above:>8}"
            print(row, flush=True)
        rows = torch.randint(len(world.train), (plan.batch,))
        chunks = world.train[rows]
        model.loss(chunks, torch.ones(chunks.shape[:2], dtype=torch.bool)).per_unit.mean().backward()
    return results


def concordant(one: list[Result], other: list[Result]) -> tuple[int, int]:
    """Of all pairs with different BrierLM, how many have the better one where the nats are fewer."""
    pairs = itertools.combinations(one, 2) if one is other else itertools.product(one, other)
    agree = [(a.brier_lm > b.brier_lm) == (a.nats < b.nats) for a, b in pairs if a.brier_lm != b.brier_lm]
    return sum(agree), len(agree)


def report(results: list[Result]) -> None:
    """Correlations within each way of training and of all, and pairs that both measures order alike.

    Points with a BrierLM of 0 are left out of the correlations: the score is clamped there, not measured.
    """
    ways = list(dict.fromkeys(r.trained_by for r in results))
    print("\nBrierLM against nats per token (from draws)     points  at 0   Pearson  Spearman")
    for way in [*ways, ""]:
        found = [r for r in results if way in ("", r.trained_by)]
        points = np.array([[r.nats, r.brier_lm] for r in found if r.brier_lm > 0]).reshape(-1, 2)
        name, zeros = f"trained by {way}" if way else "all", len(found) - len(points)
        numbers = f"{len(points):8} {zeros:5} {pearson(points):9.3f} {spearman(points):9.3f}"
        print(f"{name:45} {numbers}")
    print("\npairs that BrierLM and nats order alike")
    groups = {way: [r for r in results if r.trained_by == way] for way in ways}
    for one, other in itertools.combinations_with_replacement(ways, 2):
        agree, total = concordant(groups[one], groups[other])
        if total:
            print(f"{one:14} with {other:14} {agree:6} of {total:6}  {100 * agree / total:6.1f} %")


def beside_likelihood(results: list[Result]) -> None:
    """At equal BrierLM, how many nats per token a model has above those trained by likelihood.

    Their nats are fitted by a quadratic of their BrierLM; models below the lowest of them are left out.
    """
    curve = np.array(
        [[r.brier_lm, r.nats] for r in results if r.trained_by == "likelihood" and r.brier_lm > 0]
    )
    if len(curve) < 4:
        return
    fit = np.polyfit(curve[:, 0], curve[:, 1], 2)
    print("\nnats per token above the likelihood-trained at the same BrierLM: mean, spread over points")
    for way in dict.fromkeys(r.trained_by for r in results):
        found = [r for r in results if r.trained_by == way and r.brier_lm >= curve[:, 0].min()]
        apart = np.array([r.nats - np.polyval(fit, r.brier_lm) for r in found])
        if len(apart) > 1:
            print(f"{way:14} {len(apart):4} points {apart.mean():8.4f} {apart.std(ddof=1):8.4f}")


def main() -> None:
    """Train, judge, correlate."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--alphabet", type=int, default=4)
    arguments.add_argument("--smoke", action="store_true")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    torch.set_num_threads(chosen.threads)
    plan, began = replace(SMOKE if chosen.smoke else Plan(), seed=chosen.seed), time.perf_counter()
    world = make_world(plan, chosen.alphabet)
    source = world.corpus.source
    floor = float(-(world.truth * world.truth.clamp(min=1e-30).log()).sum(1).mean()) / K
    print(f"order 2, {chosen.alphabet} letters; entropy rate {source.entropy_rate:.4f} nats per token, ")
    print(f"of the {plan.contexts} contexts judged {floor:.4f}; best BrierLM {source.best_brier_lm(2):.3f}")
    vae = train_autoencoder(world, plan)
    print("model                     step  BrierLM     nats  above H    exact    bound")
    results = [r for one in CONTESTANTS for r in run(one, vae, world, plan, floor)]
    report(results)
    beside_likelihood(results)
    print(f"\n{time.perf_counter() - began:.0f} s, {torch.get_num_threads()} thread")


if __name__ == "__main__":
    main()
