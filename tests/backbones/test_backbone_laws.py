"""Laws of every backbone, for any rows, any mask and any cut: hypothesis looks for what breaks them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import LAWS
from torch import Tensor
from torch.testing import assert_close

from calmkit.backbones.gru import GRUBackbone
from calmkit.backbones.transformer import TransformerBackbone
from calmkit.interfaces import Backbone

H = 8
every = pytest.mark.parametrize("name", ["gru", "transformer"])


def make(name: str) -> Backbone:
    torch.manual_seed(0)
    if name == "gru":
        return GRUBackbone(hidden_dim=H, depth=2)
    backbone = TransformerBackbone(hidden_dim=H, depth=2, heads=2, kv_heads=1)
    for parameter in backbone.parameters():  # the small initial weights would hide a wrong mask
        torch.nn.init.normal_(parameter, std=0.4)
    return backbone


@dataclass(frozen=True)
class Case:
    """Inputs and a mask: each row is filled on its left, and may have holes."""

    x: Tensor
    valid: Tensor
    cut: list[int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rows, units = draw(st.integers(1, 3)), draw(st.integers(2, 6))
    fill = torch.tensor(draw(st.lists(st.integers(0, units), min_size=rows, max_size=rows)))
    flags = draw(st.lists(st.sampled_from([True, True, True, False]), min_size=units, max_size=units))
    valid = (torch.arange(units) >= fill.unsqueeze(1)) & torch.tensor(flags)
    cut, left = [], units - 1
    while left:
        cut.append(draw(st.integers(1, left)))
        left -= cut[-1]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    return Case(torch.randn(rows, units, H, generator=generator), valid, cut)


def close(a: Tensor, b: Tensor) -> None:
    assert_close(a, b, atol=1e-11, rtol=0)


@every
@LAWS
@given(case=cases())
@torch.no_grad()
def test_system_step_equals_forward_for_any_cut_and_mask(name: str, case: Case) -> None:
    backbone = make(name)
    context, state = backbone.start(len(case.x), case.x.shape[1])
    h, at = [context.h], 0
    for n in case.cut:
        context, state = backbone.step(case.x[:, at : at + n], case.valid[:, at : at + n], state)
        h.append(context.h)
        at += n
    close(torch.cat(h, 1), backbone(case.x, case.valid).h)


@every
@LAWS
@given(case=cases(), unit=st.integers(0, 5))
@torch.no_grad()
def test_system_no_unit_is_seen_by_itself_or_before_itself(name: str, case: Case, unit: int) -> None:
    """Bit for bit; and an invalid unit is seen by nobody."""
    backbone, unit = make(name), unit % case.x.shape[1]
    other = case.x.clone()
    other[:, unit] += 3.0
    before, after = backbone(case.x, case.valid).h, backbone(other, case.valid).h
    assert torch.equal(after[:, : unit + 1], before[:, : unit + 1])
    unseen = ~case.valid[:, unit]
    assert torch.equal(after[unseen], before[unseen])
    if unit + 1 < case.x.shape[1]:
        assert (after[~unseen, unit + 1] != before[~unseen, unit + 1]).any(-1).all()


@every
@LAWS
@given(case=cases(), seed=st.integers(0, 2**16))
@torch.no_grad()
def test_system_select_commutes_with_step_for_any_rows(name: str, case: Case, seed: int) -> None:
    """Any choice of rows, a permutation among them: choose and step, or step and choose."""
    backbone, n = make(name), case.cut[0]
    rows = torch.randint(len(case.x), (4,), generator=torch.Generator().manual_seed(seed))
    _, state = backbone.step(case.x[:, :n], case.valid[:, :n], backbone.start(len(case.x), 6)[1])
    x, valid = case.x[:, n:], case.valid[:, n:]
    selected = backbone.select(state, rows)
    close(backbone.step(x[rows], valid[rows], selected)[0].h, backbone.step(x, valid, state)[0].h[rows])


@every
@LAWS
@given(case=cases())
@torch.no_grad()
def test_system_a_batch_of_one_equals_its_row_for_any_mask(name: str, case: Case) -> None:
    backbone = make(name)
    together = backbone(case.x, case.valid).h
    for row in range(len(case.x)):
        close(backbone(case.x[row : row + 1], case.valid[row : row + 1]).h, together[row : row + 1])
