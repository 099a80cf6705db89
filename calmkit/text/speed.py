"""How fast a model of text writes: as its recipe samples, and with one plain draw per unit."""

from __future__ import annotations

from typing import Any

from calmkit.interfaces import Sampler
from calmkit.model import CalmModel
from calmkit.registry import Manager
from calmkit.text.metrics.throughput import measure_throughput

UNITS_TIMED = 64


def speed(model: CalmModel, sampler: Sampler, manager: Manager, eos_id: int) -> dict[str, Any]:
    """Tokens per second, draws and network calls per unit: as the recipe samples, and with one plain draw
    per unit. Of the recipe's sampler also the level of agreement it reached and how often it fell back.
    """
    was_training = model.training
    model.eval()
    direct = manager.build("samplers", "direct", {})
    plain = measure_throughput(model, direct, eos_id=eos_id, units=UNITS_TIMED)
    sampled = measure_throughput(model, sampler, eos_id=eos_id, units=UNITS_TIMED)
    model.train(was_training)
    return {
        "tokens_per_second": sampled.tokens_per_second,
        "draws_per_unit": sampled.draws_per_unit,
        "network_calls_per_unit": sampled.network_calls_per_unit,
        "sampler_level": sampled.level,
        "sampler_fallback_share": sampled.fallback_share,
        "plain_tokens_per_second": plain.tokens_per_second,
        "plain_network_calls_per_unit": plain.network_calls_per_unit,
    }
