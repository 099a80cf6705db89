"""The numbers of images in words: what they mean, and which way is better.

Sources: see `calmkit.images.measures`. https://arxiv.org/abs/1706.08500
"""

from __future__ import annotations

from typing import final

from calmkit.hookspecs import hookimpl
from calmkit.images.measures.words import BARS, OTHERS, OWN, WORDS
from calmkit.interfaces import Measure, MeasureInfo, Number

NATS = ("image", "nats", "dimensions")
"""Columns of the table by image that nats per dimension follow from."""
SPEED = Number("images/s", better="higher", meaning="Images drawn per second, sixteen at a time.", digits=1)
PSNR = Number(
    "PSNR of what comes back",
    better="higher",
    meaning="Of a draw of an image's posterior, against the image.",
    unit="dB",
    digits=1,
)


def _measure(name: str, info: MeasureInfo, doc: str) -> type[Measure]:
    sums = {"nats_per_dim": NATS[1:]} if name == "nats_per_dim" else {}
    facts = {"info": info, "data_kind": "images", "sums": sums}
    return final(type(name, (Measure,), {**facts, "__doc__": doc, "__module__": __name__}))


@hookimpl
def calmkit_metrics() -> dict[str, type[Measure]]:
    """Register these."""
    found: dict[str, type[Measure]] = {}
    for name, number in OWN.items():
        floor = {"floor": OTHERS[f"{name}_floor"]} if f"{name}_floor" in OTHERS else {}
        found[name] = _measure(name, MeasureInfo({"": number, **floor}), f"{number.meaning}")
    for name in ("network_accuracy", "nats_per_dim"):
        found[name] = _measure(name, MeasureInfo(OTHERS[name]), OTHERS[name].meaning)
    for bar in BARS:
        numbers = {key: WORDS[f"bar_{bar}_{key}"] for key in OWN}
        found[f"bar_{bar}"] = _measure(f"bar_{bar}", MeasureInfo(numbers), BARS[bar][1])
    found["images_per_second"] = _measure("images_per_second", MeasureInfo(SPEED), SPEED.meaning)
    found["reconstruction_psnr"] = _measure("reconstruction_psnr", MeasureInfo(PSNR), PSNR.meaning)
    return found
