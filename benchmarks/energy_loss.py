"""Energy loss: calmkit's against the plain formula, which makes a tensor over draws x targets x units x D.

Run `python benchmarks/energy_loss.py`. Both losses get the same draws and noise, forward and backward. Each
has a process of its own for its memory (on a GPU: torch's own counter); for time they alternate. The exit
code is 1 if a target is missed: memory at most a tenth, time at most a half, values equal but for rounding.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from calmkit.heads.energy_score import gaussian_energy_loss

MAX_MEMORY_RATIO = 0.1
MAX_TIME_RATIO = 0.5
MAX_RELATIVE_ERROR = 1e-5  # float32 keeps 7 digits, and the plain formula's sums lose one of them

Loss = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]


def plain_energy_loss(draws: Tensor, mean: Tensor, log_std: Tensor, noise: Tensor, exponent: float) -> Tensor:
    """The formula as it stands in the paper, all pairs at once. Eq. 10 of https://arxiv.org/abs/2510.27688."""
    targets = mean + log_std.exp() * noise.unsqueeze(1)  # [R, N, D]
    cross = (draws.unsqueeze(1) - targets).norm(dim=-1).pow(exponent).mean((0, 1))
    pairs = (draws.unsqueeze(1) - draws).norm(dim=-1).pow(exponent).sum((0, 1))
    return 2 * cross - pairs / (len(draws) * (len(draws) - 1))


LOSSES: dict[str, Loss] = {"plain": plain_energy_loss, "calmkit": gaussian_energy_loss}


def make_inputs(args: argparse.Namespace, units: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(args.draws, units, args.dim, generator=generator)
    mean = torch.randn(units, args.dim, generator=generator)
    log_std = -1.2 + 0.1 * torch.randn(units, args.dim, generator=generator)  # sigma about 0.3, as CALM's
    noise = torch.randn(args.targets, args.dim, generator=generator)
    draws, mean, log_std, noise = (tensor.to(args.device) for tensor in (draws, mean, log_std, noise))
    return draws.requires_grad_(), mean, log_std, noise


def step(name: str, inputs: tuple[Tensor, Tensor, Tensor, Tensor], exponent: float) -> Tensor:
    """Forward and backward once; returns the values."""
    inputs[0].grad = None
    values = LOSSES[name](*inputs, exponent)
    values.mean().backward()
    return values.detach()


def highest_resident_bytes() -> int:
    """Most memory this process ever had, or has had since the last reset."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux; ru_maxrss would count the parent's memory before exec too
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def reset_highest() -> None:
    """Let the highest start again from what is resident now, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(name: str, args: argparse.Namespace) -> int:
    """Most memory that one step takes on top of what its inputs do."""
    step(
        name, make_inputs(args, 4), args.exponent
    )  # loads libraries and kernels, which are not the loss's memory
    inputs = make_inputs(args, args.units)
    if torch.device(args.device).type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step(name, inputs, args.exponent)
        return torch.cuda.max_memory_allocated() - before
    reset_highest()
    before = highest_resident_bytes()
    step(name, inputs, args.exponent)
    return highest_resident_bytes() - before


def peak_in_subprocess(name: str, argv: list[str]) -> int:
    command = [sys.executable, __file__, *argv, "--only-memory-of", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def median_seconds(args: argparse.Namespace) -> dict[str, float]:
    """Of one step of each loss, taken in turn so that a busy machine slows both alike."""
    inputs = make_inputs(args, args.units)
    seconds: dict[str, list[float]] = {name: [] for name in LOSSES}
    for repeat in range(args.repeats + 1):  # the first one warms up
        for name, times in seconds.items():
            start = time.perf_counter()
            step(name, inputs, args.exponent)
            if torch.device(args.device).type == "cuda":
                torch.cuda.synchronize()
            if repeat:
                times.append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--targets", type=int, default=100)
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--exponent", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=7)
    # One thread: on a shared machine the barriers between threads would time the neighbours.
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only-memory-of", choices=sorted(LOSSES), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    if args.only_memory_of:
        print(peak_bytes(args.only_memory_of, args))
        return 0
    peaks = {name: peak_in_subprocess(name, argv) for name in LOSSES}
    seconds = median_seconds(args)
    inputs = make_inputs(args, args.units)
    values = {name: step(name, inputs, args.exponent) for name in LOSSES}
    difference = (values["plain"] - values["calmkit"]).abs().max().item()
    relative = difference / values["plain"].abs().max().item()
    memory_ratio = peaks["calmkit"] / peaks["plain"]
    time_ratio = seconds["calmkit"] / seconds["plain"]

    print(
        f"S={args.draws} R={args.targets} N={args.units} D={args.dim} float32 on {args.device}, "
        f"{args.threads} threads, forward and backward"
    )
    for name in LOSSES:
        print(f"{name:>8}: peak {peaks[name] / 2**20:9.1f} MiB   median {seconds[name] * 1e3:9.2f} ms")
    print(
        f"   ratio: memory {memory_ratio:.4f} (at most {MAX_MEMORY_RATIO})"
        f"   time {time_ratio:.4f} (at most {MAX_TIME_RATIO})"
    )
    print(
        f"  values: largest difference {difference:.2e}, relative {relative:.2e}"
        f" (at most {MAX_RELATIVE_ERROR:.0e})"
    )
    kept = (
        memory_ratio <= MAX_MEMORY_RATIO and time_ratio <= MAX_TIME_RATIO and relative <= MAX_RELATIVE_ERROR
    )
    print("targets kept" if kept else "TARGET MISSED")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
