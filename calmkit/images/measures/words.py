"""Words of the numbers about images: how they are called, read and written, wherever they are shown."""

from __future__ import annotations

from dataclasses import replace

from calmkit.interfaces import Number

OWN = {
    "fd": Number(
        "Frechet distance",
        better="lower",
        meaning="Between the features of drawn and held-out images, as Gaussians; biased upward with few "
        "images, so it is read beside its floor.",
        digits=2,
    ),
    "kd": Number(
        "kernel distance",
        better="lower",
        meaning="Squared maximum mean discrepancy between the features of drawn and held-out images, "
        "unbiased: around 0 for images of one law.",
    ),
    "precision": Number(
        "precision",
        better="higher",
        meaning="Share of drawn images that lie among the held-out ones.",
        unit="%",
        digits=1,
        factor=100.0,
    ),
    "recall": Number(
        "recall",
        better="higher",
        meaning="Share of held-out images that lie among the drawn ones.",
        unit="%",
        digits=1,
        factor=100.0,
    ),
    "class_accuracy": Number(
        "class accuracy",
        better="higher",
        meaning="Share of drawn images that the feature network puts into the class they were asked of.",
        unit="%",
        digits=1,
        factor=100.0,
    ),
    "nearest_ratio": Number(
        "nearest training image",
        better="higher",
        meaning="Mean distance of drawn images to their nearest training image, over that of held-out "
        "images: 0 for copies, 1 for images as new as those, above 1 for images unlike all.",
        digits=2,
    ),
}
BARS = {
    "gaussian": ("Gaussian per class", "Of draws from one Gaussian per class in the space of pixels."),
    "copy": ("training images", "Of training images handed out as draws."),
}
OTHERS = {
    "network_accuracy": Number(
        "accuracy of the feature network",
        better="higher",
        meaning="Share of real held-out images that the feature network puts into their class.",
        unit="%",
        digits=1,
        factor=100.0,
    ),
    "fd_floor": Number(
        "Frechet distance, floor",
        better="lower",
        meaning="Of as many training images from the held-out ones: about what a model as good as the data "
        "would reach.",
        digits=2,
    ),
    "nats_per_dim": Number(
        "nats/dim",
        better="lower",
        meaning="Minus the mean log density of an image's latents, as the autoencoder gives them, over their "
        "dimensions; it may be negative, and compares among models of one autoencoder.",
        proper=True,
    ),
}


def _of_bar(name: str, number: Number) -> Number:
    label, what = BARS[name]
    return replace(number, label=f"{number.label}, {label}", meaning=f"{what} {number.meaning}")


WORDS: dict[str, Number] = {
    **OWN,
    **OTHERS,
    **{f"bar_{bar}_{key}": _of_bar(bar, number) for bar in BARS for key, number in OWN.items()},
}
"""Number by the name under which `ImageScores`, or for `nats_per_dim` the caller, stores it."""
