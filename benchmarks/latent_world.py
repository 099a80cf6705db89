"""What each continuous head makes of a distribution that is known exactly: distances as training goes on.

    OMP_NUM_THREADS=1 python benchmarks/latent_world.py --picture docs/latent-world.svg

Five heads of calmkit, or those that `--heads` names, learn the same `LatentWorld` from several seeds (of its
weights and of its batches). The table gives the energy distance of the draws to the truth: mean over seeds
and contexts, with the 95 percent interval of the mean (Student's t over seeds). Two lines need no training:
draws of the truth itself, whose distance is 0 on average, and the exact mean, where a head that averages
ends.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calmkit.heads.consistency import ConsistencyHead
from calmkit.heads.diffusion import DiffusionHead
from calmkit.heads.energy import EnergyHead
from calmkit.heads.flow import FlowHead
from calmkit.heads.mean_flow import MeanFlowHead
from calmkit.heads.mixture import MixtureHead
from calmkit.heads.regression import RegressionHead
from calmkit.interfaces import GenerativeHead
from calmkit.report.figures import MARKERS, PALETTE, as_svg
from calmkit.results.statistics import t_interval
from calmkit.testing import LatentWorld, learn

SIZE = {"depth": 3, "width": 64}
HEADS: dict[str, tuple[type[GenerativeHead], dict[str, Any]]] = {
    "energy": (EnergyHead, {**SIZE, "noise_dim": 16}),
    "flow": (FlowHead, SIZE),
    "diffusion": (DiffusionHead, SIZE),
    "mixture": (MixtureHead, SIZE),
    "regression": (RegressionHead, SIZE),
    "mean_flow": (MeanFlowHead, SIZE),
    "consistency": (ConsistencyHead, SIZE),
}
SHOWN_HEADS = ("energy", "flow", "diffusion", "mixture", "regression")  # of the page, one panel each
COLOURS = {name: (PALETTE[i], MARKERS[i]) for i, name in enumerate(HEADS)}
SHOWN = 150  # draws in a panel
CONTEXT = 0  # of the picture


def train(
    name: str, seed: int, options: argparse.Namespace
) -> tuple[list[tuple[int, float]], GenerativeHead]:
    """One head from one seed: its curve and itself."""
    cls, settings = HEADS[name]
    world = LatentWorld(seed=options.world)
    torch.manual_seed(seed)
    head = cls(world.hidden_dim, world.event, **settings)
    curve = learn(
        head, world, options.steps, evaluations=options.evaluations, lr=options.lr, num_draws=options.draws
    )
    return [(step, distance) for step, distance in curve], head


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 percent interval."""
    low, high = t_interval(values)
    assert low is not None, "one seed has no interval"
    assert high is not None
    return (low + high) / 2, (high - low) / 2


def row(name: str, cells: list[tuple[float, float]], seconds: float | None) -> str:
    numbers = " ".join(f"{mean:7.4f} ±{half:.4f}" for mean, half in cells)
    return f"{name:>10}  {numbers}" + ("" if seconds is None else f"  {seconds:6.1f}")


def picture(
    world: LatentWorld, draws: dict[str, Tensor], curves: dict[str, list[list[tuple[int, float]]]], path: Path
) -> None:
    """Draws of each head over the density of the truth, and the curves, as one SVG whose text stays text."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
    grid = figure.add_gridspec(2, 5)
    for i, (name, points) in enumerate(draws.items()):
        axes = figure.add_subplot(grid[i // 3, i % 3])
        colour = COLOURS.get(name, ("black", ""))[0]
        panel(axes, world, points, colour)
        axes.set_title(name, fontsize=10, color=colour)
    draw_curves(figure.add_subplot(grid[:, 3:]), world, curves)
    path.write_text(as_svg(figure), encoding="utf-8")


def draw_curves(axes: Any, world: LatentWorld, curves: dict[str, list[list[tuple[int, float]]]]) -> None:
    """Distances against steps, with their intervals."""
    for name, of_seeds in curves.items():
        colour, marker = COLOURS[name]
        steps = [step for step, _ in of_seeds[0]]
        values = [[curve[i][1] for curve in of_seeds] for i in range(len(steps))]
        means, halves = zip(*(interval(at_step) for at_step in values), strict=True)
        axes.errorbar(
            steps, means, halves, color=colour, marker=marker, markersize=4.5, capsize=2, label=name
        )
    averaging = float(world.averaging_distance().mean())
    for name, value in (("the exact mean", averaging), ("the truth", 0.0)):
        axes.axhline(value, color="black", linewidth=0.9, linestyle=":")
        axes.annotate(
            name,
            (0.98, value),
            (0, -10),
            ha="right",
            xycoords=("axes fraction", "data"),
            fontsize=8,
            textcoords="offset points",
        )
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_yticks([0, 0.005, 0.01, 0.1, 1], ["0", "0.005", "0.01", "0.1", "1"])
    axes.set_ylim(-0.006, 4)
    axes.set_xlabel("steps of training")
    axes.set_ylabel("energy distance to the truth (linear below 0.01)")
    axes.legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1, 0.84))
    axes.spines[["top", "right"]].set_visible(False)


def panel(axes: Any, world: LatentWorld, points: Tensor, colour: str) -> None:
    """The density of the truth in grey, and draws over it."""
    centre = world.truth.mean[CONTEXT]
    side = torch.linspace(-3.4, 3.4, 80)
    z = torch.stack(torch.meshgrid(centre[0] + side, centre[1] + side, indexing="xy"), -1)
    density = world.truth.log_prob(z.unsqueeze(-2))[..., CONTEXT].exp()
    top = float(density.max())
    levels = [0.01 * top, 0.1 * top, 0.4 * top, top]
    axes.contourf(
        z[..., 0].numpy(),
        z[..., 1].numpy(),
        density.numpy(),
        levels,
        colors=["#e6e6e6", "#cccccc", "#aaaaaa"],
    )
    axes.plot(
        *points.T.numpy(),
        linestyle="",
        marker="o",
        markersize=6 if (points == points[0]).all() else 2.4,  # one place would be hard to see
        alpha=0.6,
        color=colour,
        markeredgewidth=0,
    )
    axes.set_aspect("equal")
    axes.set_xlim(float(centre[0] + side[0]), float(centre[0] + side[-1]))
    axes.set_ylim(float(centre[1] + side[0]), float(centre[1] + side[-1]))
    axes.set_xticks([])
    axes.set_yticks([])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=SHOWN_HEADS, metavar="HEAD")
    parser.add_argument("--world", type=int, default=0, help="seed of the world")
    parser.add_argument("--seeds", type=int, default=5, help="two or more")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--evaluations", type=int, default=6)
    parser.add_argument("--draws", type=int, default=1024, help="per context and evaluation")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--picture", type=Path)
    # One thread: on a shared machine the barriers between threads would time the neighbours.
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.picture and len(options.heads) > len(SHOWN_HEADS):
        parser.error(f"--picture has room for {len(SHOWN_HEADS)} heads, got {len(options.heads)}")
    if options.seeds < 2:
        parser.error(f"an interval over seeds takes two or more of them, got --seeds {options.seeds}")
    torch.set_num_threads(options.threads)
    world = LatentWorld(seed=options.world)
    print(f"torch {torch.__version__}, {options.threads} threads, {options}")
    curves: dict[str, list[list[tuple[int, float]]]] = {}
    draws: dict[str, Tensor] = {}
    steps = sorted({options.steps * i // options.evaluations for i in range(options.evaluations + 1)})
    print(f"{'step':>10}  " + " ".join(f"{step:>15}" for step in steps) + "  seconds per seed")
    for name in options.heads:
        begin = time.perf_counter()
        trained = [train(name, seed, options) for seed in range(options.seeds)]
        seconds = (time.perf_counter() - begin) / options.seeds
        curves[name] = [curve for curve, _ in trained]
        cells = [interval([curve[i][1] for curve in curves[name]]) for i in range(len(steps))]
        print(row(name, cells, seconds), flush=True)
        torch.manual_seed(0)
        with torch.no_grad():
            draws[name] = trained[0][1].sample(world.context, SHOWN)[:, CONTEXT]
    torch.manual_seed(0)
    draws["the truth"] = world.draws(SHOWN)[:, CONTEXT]
    floor = [float(world.energy_distance(world.draws(options.draws)).mean()) for _ in range(options.seeds)]
    print(row("the truth", [interval(floor)], None))
    print(f"{'the mean':>10}  {float(world.averaging_distance().mean()):7.4f} exactly")
    if options.picture:
        picture(world, draws, curves, options.picture)


if __name__ == "__main__":
    main()
