"""Refusals by hand: part, setting, what came, what would do."""

from __future__ import annotations

import math

import pytest

from calmkit.interfaces import EventSpec
from calmkit.nn.settings import latent_dim_of, require_at_least, require_probability


def test_refuses_settings_by_name() -> None:
    for bad in (-0.1, math.nan):
        with pytest.raises(ValueError, match=f"vae: kl_weight must be at least 0, got {bad}; 0 would do"):
            require_at_least("vae", 0, kl_weight=bad)
    require_at_least("vae", 0, kl_weight=0, kl_floor=0.5)
    for bad in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=rf"vae: token_dropout must be in \[0, 1\), got {bad}"):
            require_probability("vae", token_dropout=bad)
    require_probability("vae", token_dropout=0, latent_dropout=0.99)
    require_at_least("flow", 1, width=None)


def test_a_head_over_latents_takes_one_vector() -> None:
    assert latent_dim_of("flow", EventSpec((7,))) == 7
    for event in (EventSpec((4,), vocab_size=9), EventSpec((2, 3))):
        with pytest.raises(ValueError, match="flow: event must be one latent vector, got EventSpec"):
            latent_dim_of("flow", event)
