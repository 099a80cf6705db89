"""gallery: every figure by name, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from calmkit.report.figure_blocks import blocks_figure
from calmkit.report.figure_cost import flops_cost_figure, speed_figure
from calmkit.report.figure_curves import draw_curves, flops_figure, seconds_figure
from calmkit.report.figure_latents import (
    kl_figure,
    projection_figure,
    robustness_figure,
    scales_figure,
)
from calmkit.report.figure_loss import loss_figure
from calmkit.report.figure_scores import draw_scores, scores_figure
from calmkit.report.figures import Drawn, as_svg, legend_below, make_figure, shown, style
from calmkit.report.fit_figure import fit_figure
from calmkit.report.kind import words_of
from calmkit.report.reading import Summary, ranked, scale
from calmkit.report.relation_figure import relation_figure
from calmkit.report.sampling_figure import collision_figure

Draw = Callable[[Summary], "Drawn | None"]
FIGURES: Mapping[str, Draw] = {
    "scores": scores_figure,
    "curves": flops_figure,
    "curves_by_time": seconds_figure,
    "loss": loss_figure,
    "cost": flops_cost_figure,
    "speed": speed_figure,
    "collision": collision_figure,
    "blocks": blocks_figure,
    "relation": relation_figure,
    "fit": fit_figure,
}
OF_SCORES = ("scores", "cost", "speed")
LATENT_FIGURES: Mapping[str, Draw] = {
    "latent_scales": scales_figure,
    "latent_kl": kl_figure,
    "latent_robustness": robustness_figure,
    "latent_projection": projection_figure,
}


def draw(kind: str, summary: Summary) -> Drawn | None:
    """One figure; None where the results hold nothing for it."""
    with style():
        return ({**FIGURES, **LATENT_FIGURES})[kind](summary)


def alone(kind: str, summary: Summary) -> Drawn | None:
    """A figure that leaves its page: what its caption says of the scale of the scores stands in it."""
    drawn = draw(kind, summary)
    if drawn is not None and kind in OF_SCORES:
        with style():
            _tell_scale(drawn.figure, summary, 62, kind == "scores")
    return drawn


def picture(summary: Summary) -> str:
    """Scores and curves side by side as an SVG file of its own, for a README."""
    with style():
        height = max(3.4, 0.42 * len(ranked(summary)) + 1.2)
        figure = make_figure(height, 2, width=10.5)
        draw_scores(figure.axes[0], summary)
        legend_below(figure, *draw_curves(figure.axes[1], summary))
        _tell_scale(figure, summary, 150, True)
    return as_svg(figure)


def _tell_scale(figure: Any, summary: Summary, width: int, intervals: bool) -> None:
    how = f"Thick: 95 % over seeds; thin: 95 % over {words_of(summary).data}. " if intervals else ""
    told = shown(f"{how}Scores on {scale(summary)}.", width)
    figure.set_figheight(figure.get_figheight() + 0.16 * (2 + told.count("\n")))
    figure.suptitle(told, x=0.01, ha="left", fontsize=8.5)
