"""Roll-outs from every position at once (`Backbone.states`) beside one prefix at a time.

BrierLM at K = 1 needs four units drawn after every prefix of a text, so three steps from each.
This prints the ratio of the two times and the largest difference between their conditions.

    python benchmarks/branch_states.py [--units 64] [--rows 2] [--steps 3] [--device cpu]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from calmkit.backbones.transformer import TransformerBackbone


def at_once(backbone: TransformerBackbone, x: Tensor, drawn: Tensor) -> Tensor:
    valid = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    state = backbone.states(x, valid)
    h = []
    for unit in drawn.flatten(0, 1).split(1, 1):
        context, state = backbone.step(unit, valid.flatten().unsqueeze(1), state)
        h.append(context.h)
    return torch.cat(h, 1).view_as(drawn)


def one_by_one(backbone: TransformerBackbone, x: Tensor, drawn: Tensor) -> Tensor:
    real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    h = []
    for i in range(x.shape[1]):
        _, state = backbone.start(len(x), i + drawn.shape[2])
        if i:
            _, state = backbone.step(x[:, :i], real[:, :i], state)
        steps = []
        for unit in drawn[:, i].split(1, 1):
            context, state = backbone.step(unit, real[:, :1], state)
            steps.append(context.h)
        h.append(torch.cat(steps, 1))
    return torch.stack(h, 1)


def timed(run: Callable[[], Tensor], device: str) -> tuple[float, Tensor]:
    run()  # warm up
    if device != "cpu":
        torch.get_device_module(device).synchronize()
    begin = time.perf_counter()
    h = run()
    if device != "cpu":
        torch.get_device_module(device).synchronize()
    return time.perf_counter() - begin, h


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    backbone = TransformerBackbone(hidden_dim=128, depth=4, heads=4).to(options.device)
    x = torch.randn(options.rows, options.units, 128, device=options.device)
    drawn = torch.randn(options.rows, options.units, options.steps, 128, device=options.device)
    together, h = timed(lambda: at_once(backbone, x, drawn), options.device)
    single, expected = timed(lambda: one_by_one(backbone, x, drawn), options.device)
    sizes = f"{options.rows} rows, {options.units} units, {options.steps} steps"
    print(f"{sizes}, H = 128, 4 layers, {options.device}")
    print(f"all at once {together:.3f} s, one by one {single:.3f} s: {single / together:.1f} times as long")
    print(f"largest difference of the conditions: {(h - expected).abs().max().item():.1e}")


if __name__ == "__main__":
    main()
