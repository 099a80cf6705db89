"""One factor at a time at a size worth a GPU: how fast heads that draw in one call learn text.

    python benchmarks/one_step.py --train a.jsonl --valid b.jsonl --out results.jsonl   # one GPU, minutes
    python benchmarks/one_step.py --train a.jsonl --valid b.jsonl --small               # to see that it holds

Four bytes a unit, a VAE of 32 dimensions trained first, a transformer of 512 and six layers, and one head
after the other: equal steps, a whole cosine, one seed. A plain loop, because it has to fit minutes that are
paid for: rows lie on the device, and nothing but loss and BrierLM is measured. Studies say more of less:
`calmkit study run one_step` has seeds, equal FLOPs, and everything else as a recipe has it.

Prints, for each head: BrierLM at a third, two thirds and the end, with a 95 % interval over rows of the last;
the loss, and for scores of distances the loss over R, the mean distance between draws of the posteriors of
two units that have nothing to do with each other: a single Gaussian with the right moments stands at 1.
`--part i/n` takes every n-th head, so that n processes can share one GPU; `--only` picks by name.
"""

from __future__ import annotations

import argparse
import array
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import calmkit
from calmkit.head_calls import head_draws, head_loss, tell_progress
from calmkit.interfaces import Autoencoder, Context, EventSpec, Posterior, StartsFromData, UnitwiseAutoencoder
from calmkit.text.metrics.brier import brier_lm, brier_terms

CHUNK, LATENT, VOCAB, END = 4, 32, 257, 256
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "energy, last layer at 0.1": ("energy", {"init_std": 0.1}),
    "energy, last layer at 0": ("energy", {}),
    "energy, last layer at 0.3": ("energy", {"init_std": 0.3}),
    "energy, 32 draws": ("energy", {"init_std": 0.1, "num_draws": 32, "num_targets": 32}),
    "energy, 32 codes": ("energy", {"init_std": 0.1, "num_codes": 32}),
    "energy, noise as modulation": ("energy", {"init_std": 0.1, "noise": "modulation", "depth": 3}),
    "energy, marginal scores too": ("energy", {"init_std": 0.1, "marginal": 0.5}),
    "energy, smooth distance": ("energy", {"init_std": 0.1, "offset": 3.0}),
    "energy, exponent 0.5": ("energy", {"init_std": 0.1, "exponent": 0.5}),
    "energy, exponent from 1.5 to 1": ("energy", {"init_std": 0.1, "first_exponent": 1.5}),
    "energy, likelihood for a fifth": ("energy", {"init_std": 0.1, "likelihood_until": 0.2}),
    "strata, 16 codes": ("strata", {"num_codes": 16, "init_std": 0.1, "num_targets": 32}),
    "mean flow": ("mean_flow", {}),
    "consistency": ("consistency", {}),
    "flow": ("flow", {}),
    "mixture of 16": ("mixture", {}),
    "mixture of 128": ("mixture", {"num_components": 128}),
    "tied mixture of 4,096": ("tied_mixture", {"num_components": 4096}),
    "tied mixture of 16,384": ("tied_mixture", {"num_components": 16384}),
}


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    hidden_dim: int
    depth: int
    rows: int
    length: int  # bytes
    steps: int
    coder_steps: int
    valid_rows: int


LARGE = Size(hidden_dim=512, depth=6, rows=64, length=1024, steps=600, coder_steps=400, valid_rows=256)
SMALL = Size(hidden_dim=64, depth=1, rows=4, length=128, steps=6, coder_steps=6, valid_rows=8)


class Rows:
    """Bytes of a file of documents on a device, an end behind each."""

    def __init__(self, path: Path, length: int, device: torch.device) -> None:
        ids = array.array("h")
        for line in path.open(encoding="utf-8"):
            ids.extend(json.loads(line)["text"].encode())
            ids.append(END)
        self.ids, self.length = torch.frombuffer(ids, dtype=torch.int16).to(device), length

    def at(self, starts: Tensor) -> Tensor:
        """Rows `[B, L, K]` that begin at these bytes."""
        places = starts.to(self.ids.device).unsqueeze(-1) + torch.arange(self.length, device=self.ids.device)
        return self.ids[places].long().reshape(len(starts), -1, CHUNK)

    def some(self, num: int, generator: torch.Generator) -> Tensor:
        """Rows from anywhere."""
        return self.at(torch.randint(len(self.ids) - self.length, (num,), generator=generator))

    def first(self, num: int) -> Tensor:
        """The first rows, one behind the other."""
        return self.at(torch.arange(min(num, len(self.ids) // self.length)) * self.length)


def factor(step: int, steps: int, warmup: int) -> float:
    """On the learning rate: linear warm-up, and a cosine to a tenth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train_coder(manager: Any, train: Rows, size: Size, device: torch.device) -> UnitwiseAutoencoder:
    torch.manual_seed(0)
    settings = {
        "chunk_size": CHUNK,
        "latent_dim": LATENT,
        "hidden_dim": size.hidden_dim // 2,
        "kl_weight": 0.01,
    }
    coder: Autoencoder = manager.build("autoencoders", "vae", settings, vocab_size=VOCAB).to(device)
    optimizer, generator = torch.optim.AdamW(coder.parameters(), lr=3e-3), torch.Generator().manual_seed(1)
    for step in range(size.coder_steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * factor(step, size.coder_steps, 20)
        optimizer.zero_grad(set_to_none=True)
        coder.loss(train.some(size.rows, generator)).per_unit.mean().backward()
        optimizer.step()
    assert isinstance(coder, UnitwiseAutoencoder)
    return coder.requires_grad_(False).eval()


class Learner:
    """Embedder, backbone and one head above a coder that is done."""

    def __init__(self, manager: Any, coder: UnitwiseAutoencoder, size: Size, name: str, seed: int) -> None:
        head, settings = HEADS[name]
        device = next(coder.parameters()).device
        torch.manual_seed(seed)
        wide = {"hidden_dim": size.hidden_dim, "event": EventSpec((LATENT,))}
        self.coder, self.size, self.seed, self.device = coder, size, seed, device
        self.embedder = manager.build(
            "embedders", "tokens", {}, **wide, vocab_size=VOCAB, chunk_size=CHUNK
        ).to(device)
        layers = {"hidden_dim": size.hidden_dim, "depth": size.depth, "heads": size.hidden_dim // 64}
        self.backbone = manager.build("backbones", "transformer", layers).to(device)
        self.head = manager.build("heads", head, settings, **wide).to(device)

    def conditions(self, data: Tensor) -> tuple[Context, Posterior]:
        """Of every unit, `[N, H]`, and what it shall predict, `[N, D]`."""
        with torch.no_grad():
            target = self.coder.encode(data)
        valid = torch.ones(data.shape[:2], dtype=torch.bool, device=self.device)
        context = self.backbone(self.embedder(data, target.sample(1)[0]), valid)
        assert target.log_std is not None
        flat = Posterior(target.mean.flatten(0, 1), target.log_std.flatten(0, 1))
        return Context(context.h.flatten(0, 1)), flat

    def train(self, train: Rows, valid: Tensor) -> list[dict[str, Any]]:
        """What is measured at a third, at two thirds and at the end."""
        size, generator = self.size, torch.Generator().manual_seed(self.seed)
        if isinstance(self.head, StartsFromData):
            self.head.start(self.conditions(train.some(16 * size.rows, generator))[1])
        parts = nn.ModuleList([self.embedder, self.backbone, self.head])
        weights = list(parts.parameters())
        groups = [{"params": [p for p in weights if p.ndim >= 2], "weight_decay": 0.1}]
        groups += [{"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
        found, seconds, begin = [], 0.0, time.perf_counter()
        for step in range(size.steps):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * factor(step, size.steps, size.steps // 12)
            tell_progress(self.head, step / size.steps)
            with torch.autocast(self.device.type, torch.bfloat16):
                loss = head_loss(self.head, *self.conditions(train.some(size.rows, generator))).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            if (step + 1) % (size.steps // 3) == 0:
                self.wait()
                seconds += time.perf_counter() - begin
                found.append({"step": step + 1, "seconds": seconds, **self.measure(valid)})
                begin = time.perf_counter()
        return found

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    @torch.no_grad()
    def measure(self, valid: Tensor) -> dict[str, Any]:
        """Loss as at the end, BrierLM from four plain draws, and its interval over rows."""
        tell_progress(self.head, 1.0)
        losses, scores = [], []
        with torch.random.fork_rng(), torch.autocast(self.device.type, torch.bfloat16):
            torch.manual_seed(7)
            for data in valid.split(64):
                context, target = self.conditions(data)
                losses.append(head_loss(self.head, context, target).mean().item())
                draws = self.coder.to_data(head_draws(self.head, context, 4).float())
                accuracy, collision = brier_terms(draws, data.flatten(0, 1))
                scores.append((2 * accuracy - collision).unflatten(0, data.shape[:2]).mean(1))
            brier = torch.cat(scores)  # [rows, 4]
            again = torch.randint(len(brier), (1000, len(brier)), device=brier.device)
            low, high = brier_lm(brier[again].mean(1)).quantile(brier.new_tensor([0.025, 0.975])).tolist()
        loss = sum(losses) / len(losses)
        return {"loss": loss, "brier_lm": brier_lm(brier.mean(0)).item(), "low": low, "high": high}


@torch.no_grad()
def apart(coder: UnitwiseAutoencoder, valid: Tensor) -> float:
    """R: mean distance between draws of the posteriors of two units."""
    z = coder.encode(valid).sample(1)[0].flatten(0, 1)
    return (z - z[torch.randperm(len(z), device=z.device)]).norm(dim=-1).mean().item()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    parser.add_argument("--train", type=Path, required=True, help="JSON lines with a key text")
    parser.add_argument("--valid", type=Path, required=True)
    parser.add_argument("--device", default=str(found))
    parser.add_argument("--small", action="store_true", help="toy sizes")
    parser.add_argument(
        "--only", nargs="*", default=(), metavar="NAME", help="heads whose name has this in it"
    )
    parser.add_argument("--part", default="0/1", help="i/n: every n-th head, from the i-th on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a line of JSON for each head")
    args = parser.parse_args(argv)
    size, device = SMALL if args.small else LARGE, torch.device(args.device)
    torch.set_float32_matmul_precision("high")
    manager = calmkit.make_manager()
    train, held_out = (Rows(path, size.length, device) for path in (args.train, args.valid))
    valid = held_out.first(size.valid_rows)
    coder = train_coder(manager, train, size, device)
    back = (coder.to_data(coder.encode(valid).sample(1)[0]) == valid).float().mean().item()
    distance = apart(coder, valid)
    print(f"autoencoder gives back {back:.2%}; R {distance:.3f}")
    first, every = (int(number) for number in args.part.split("/"))
    wanted = [name for name in HEADS if not args.only or any(word in name for word in args.only)]
    for name in wanted[first::every]:
        learner = Learner(manager, coder, size, name, args.seed)
        found_here = learner.train(train, valid)
        end = found_here[-1]
        curve = " / ".join(f"{one['brier_lm']:.2f}" for one in found_here)
        scored = name.startswith(("energy", "strata"))
        over = f"  over R {end['loss'] / distance:.3f}" if scored else ""
        spread = f"[{end['low']:.2f}, {end['high']:.2f}]"
        print(f"{name:32} {curve}  {spread}  loss {end['loss']:.3f}{over}  {end['seconds']:.0f} s")
        if args.out:
            with args.out.open("a") as lines:
                lines.write(
                    json.dumps({"head": name, "seed": args.seed, "R": distance, "curve": found_here}) + "\n"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
