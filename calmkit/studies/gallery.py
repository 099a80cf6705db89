"""gallery: every figure by name, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from calmkit.studies.figure_blocks import blocks_figure
from calmkit.studies.figure_cost import flops_cost_figure, speed_figure
from calmkit.studies.figure_curves import draw_curves, flops_figure, seconds_figure
from calmkit.studies.figure_latents import kl_figure, projection_figure, robustness_figure, scales_figure
from calmkit.studies.figure_scores import draw_scores, scores_figure
from calmkit.studies.figures import Drawn, as_svg, legend_below, make_figure, style
from calmkit.studies.reading import Summary, ranked
from calmkit.studies.relation_figure import relation_figure
from calmkit.studies.sampling_figure import collision_figure

Draw = Callable[[Summary], "Drawn | None"]
FIGURES: Mapping[str, Draw] = {
    "scores": scores_figure,
    "curves": flops_figure,
    "curves_by_time": seconds_figure,
    "cost": flops_cost_figure,
    "speed": speed_figure,
    "collision": collision_figure,
    "blocks": blocks_figure,
    "relation": relation_figure,
}
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


def picture(summary: Summary) -> str:
    """Scores and curves side by side as an SVG file of its own, for a README."""
    with style():
        height = max(3.6, 0.42 * len(ranked(summary)) + 1.4)
        figure = make_figure(height, 2, width=10.5)
        draw_scores(figure.axes[0], summary)
        legend_below(figure, *draw_curves(figure.axes[1], summary))
    return as_svg(figure)
