"""One accelerator: how fast real sizes train and write. For a machine that is paid by the hour.

    python benchmarks/gpu.py --out results.json     # CALM-M and Transformer-S of the paper, minutes
    python benchmarks/gpu.py --small --device cpu   # the same lines at toy size, to see that they hold

Prints, for each recipe: training tokens per second in bf16 and in float32 and the FLOP/s they come to (FLOPs
as `calmkit plan` counts them), the most memory a step took, and tokens written per second by one plain draw
and by a vote of 200. Ids are random and weights fresh: speed does not depend on them. Then
`benchmarks/energy_loss.py` at the batch of the paper. Device work is waited for before a clock is read; the
first step is not timed, and a time is the median of the rest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import energy_loss
import torch

import calmkit
from calmkit.interfaces import Batch, Sampler
from calmkit.metrics.flops import count_flops
from calmkit.model import CalmModel
from calmkit.recipe.assemble import assemble
from calmkit.text.metrics.throughput import measure_throughput

PAPER = {
    "Transformer-S (softmax)": ("paper/transformer-s", []),
    "CALM-M, energy": ("paper/calm-m", []),
    "CALM-M, mixture": ("paper/calm-m", ["head=mixture", "head.depth=4"]),
    "CALM-M, flow": ("paper/calm-m", ["head=flow", "head.depth=4"]),
    "CALM-M, diffusion": ("paper/calm-m", ["head=diffusion", "head.depth=4"]),
}
TINY = {"softmax": ("tiny/softmax", []), "energy": ("tiny/energy", []), "flow": ("tiny/flow", [])}
VOCAB = {"paper": 128_257, "tiny": 257}


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def median_seconds(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        wait(device)
        begin = time.perf_counter()
        call()
        wait(device)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def train_step(model: CalmModel, chunks: torch.Tensor, half: bool) -> Callable[[], None]:
    """One step of stage 2, as the training loop does it: loss, gradients, clipping, AdamW."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
    valid = torch.ones(chunks.shape[:2], dtype=torch.bool, device=chunks.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(chunks.device.type, torch.bfloat16, enabled=half):
            loss = model.loss(Batch(chunks, valid)).per_unit.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    return step


def measure(label: str, name: str, overrides: list[str], args: argparse.Namespace) -> dict[str, Any]:
    manager = calmkit.make_manager()
    recipe = calmkit.load_recipe(name, overrides, manager)
    vocab_size, device = VOCAB[name.split("/")[0]], torch.device(args.device)
    torch.manual_seed(0)
    model = assemble(recipe, manager, {"vocab_size": vocab_size}).to(device)
    units = min(args.units, recipe.data.sequence_length // model.autoencoder.chunk_size)
    chunks = torch.randint(vocab_size - 1, (args.rows, units, model.autoencoder.chunk_size), device=device)
    result: dict[str, Any] = {
        "model": label,
        "rows": args.rows,
        "units": units,
        "chunk_size": model.autoencoder.chunk_size,
    }
    flops = count_flops(model, units).total * args.rows
    for precision, half in (("bf16", True), ("float32", False)):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = median_seconds(train_step(model.train(), chunks, half), args.repeats, device)
        result[f"train_tokens_per_second_{precision}"] = chunks.numel() / seconds
        result[f"train_flops_per_second_{precision}"] = flops / seconds
        if device.type == "cuda":
            result[f"peak_gib_{precision}"] = torch.cuda.max_memory_allocated() / 2**30
    model.eval()
    samplers: dict[str, Sampler] = {"plain": manager.build("samplers", "direct", {})}
    if model.autoencoder.chunk_size > 1:
        samplers["vote_200"] = manager.build("samplers", "vote", {"candidates": 200})
    for kind, sampler in samplers.items():
        speed = measure_throughput(
            model, sampler, eos_id=vocab_size - 1, units=args.write, rows=args.write_rows
        )
        result[f"write_tokens_per_second_{kind}"] = speed.tokens_per_second
    return result


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    parser.add_argument("--device", default=str(found))
    parser.add_argument("--small", action="store_true", help="tiny recipes instead of the paper's")
    parser.add_argument("--rows", type=int, default=4, help="rows per training step")
    parser.add_argument("--units", type=int, default=2048, help="units per row, at most the recipe's")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--write", type=int, default=64, help="units to write")
    parser.add_argument("--write-rows", type=int, default=8, help="texts written side by side")
    parser.add_argument("--out", type=Path, help="write all numbers here, as JSON")
    args = parser.parse_args(argv)
    results = []
    for label, (name, overrides) in (TINY if args.small else PAPER).items():
        try:
            results.append(measure(label, name, overrides, args))
        except torch.OutOfMemoryError as error:  # the others may fit
            print(f"{label}: out of memory: {str(error).splitlines()[0]}")
            continue
        for key, value in results[-1].items():
            print(f"  {key}: {value:,.3g}" if isinstance(value, float) else f"{key}: {value}")
        if args.out:
            args.out.write_text(json.dumps(results, indent=2) + "\n")
    units = "64" if args.small else "8188"  # 4 rows of 2,047 units
    return energy_loss.main(["--device", args.device, "--units", units])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
