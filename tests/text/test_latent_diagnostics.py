from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from calmkit.interfaces import (
    Autoencoder,
    Batch,
    EventSpec,
    LossOutput,
    NotTrainable,
    PastReadingAutoencoder,
    Posterior,
    TokenAutoencoder,
)
from calmkit.registry import make_manager
from calmkit.text.metrics import latent_units
from calmkit.text.metrics.latent_units import code_units, distinct, evenly, spread_units
from calmkit.text.metrics.latents import latent_diagnostics, projection

VOCABULARY, CHUNK = 11, 3
SMALL: dict[str, dict[str, Any]] = {
    name: {"hidden_dim": 16, "latent_dim": 6}
    for name in ("vae", "sigma_vae", "sphere_vae", "past_vae", "deterministic")
}

ALWAYS = {
    *("units", "distinct_units", "token_accuracy", "chunk_accuracy", "token_accuracy_mean"),
    *("chunk_accuracy_mean", "robustness", "active_dims", "collapsed_dims", "mean_std_per_dim"),
    *("aggregate_mean_norm", "aggregate_variance_per_dim", "aggregate_gaussian_kl_floor"),
    *("aggregate_energy_distance", "path_strangers", "neighbour_hamming", "closest_hamming"),
    *("random_hamming", "projection", "projection_variance", "interpolation"),
}
OF_LINES = {"path_changes", "path_strangers", "interpolation"}
OF_WIDTHS = {"kl", "kl_per_dim", "kl_dead_dims", "posterior_std", "posterior_std_per_dim"}
# a guest may know no text yet, or put all chunks into one plane or point
IF_DEFINED = {"tolerance_99", "tolerance_50", "path_changes", "distance_rank_correlation"}
IF_DEFINED |= {"aggregate_gaussian_kl"}
PER_DIM = ["mean_std_per_dim", "aggregate_variance_per_dim", "kl_per_dim", "posterior_std_per_dim"]


class Rounding(TokenAutoencoder):
    """The ids times a factor, in some order, in a latent of any shape; read back by rounding."""

    def __init__(
        self,
        size: int = CHUNK,
        *,
        factor: float = 1.0,
        order: list[int] | None = None,
        shape: tuple[int, ...] | None = None,
        widths: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.chunk_size, self.event = size, EventSpec(shape or (size,))
        self.factor, self.order = factor, order or list(range(size))
        self.widths = widths if widths is not None else torch.full((size,), 0.1)
        self.live, self.frozen = nn.Dropout(), nn.Dropout()

    def encode(self, data: Tensor) -> Posterior:
        assert not self.training
        mean = data[..., self.order].double() * self.factor
        log_std = self.widths[self.order].log().expand_as(mean)
        shape = (*data.shape[:-1], *self.event.shape)
        return Posterior(mean.view(shape), log_std.reshape(shape))

    def decode(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def to_data(self, z: Tensor) -> Tensor:
        flat = z.reshape(*z.shape[: z.dim() - len(self.event.shape)], self.chunk_size)
        back = sorted(range(self.chunk_size), key=self.order.__getitem__)
        return (flat / self.factor).round().long()[..., back]

    def loss(self, data: Tensor) -> LossOutput:
        raise NotTrainable


def batches(rows: int = 12, size: int = CHUNK) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    chunks = torch.randint(VOCABULARY, (2, rows, 10, size), generator=generator)
    valid = torch.rand(2, rows, 10, generator=generator) < 0.9
    return [Batch(c, v) for c, v in zip(chunks, valid, strict=True)]


CONTINUOUS = [
    name
    for name, part in make_manager().parts["autoencoders"].items()
    if issubclass(part.cls, TokenAutoencoder) and name != "token_chunks"
]


def built(name: str) -> Autoencoder:
    part = make_manager().parts["autoencoders"][name]
    return part.cls(VOCABULARY, chunk_size=CHUNK, **SMALL.get(name, {}))


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_continuous_autoencoder_gets_all_numbers(name: str, dtype: torch.dtype) -> None:
    autoencoder = built(name).to(dtype)
    if autoencoder.event.kind != "continuous":
        assert latent_diagnostics(autoencoder, batches()) == {}
        return
    before = torch.get_rng_state()
    found = latent_diagnostics(autoencoder, batches(), seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in autoencoder.modules())
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    is_point = autoencoder.eval().encode(batches()[0].data).log_std is None
    past_read = isinstance(autoencoder, PastReadingAutoencoder)
    assert ("interpolation" in found) == (not past_read)  # on a line between two chunks, whose past?
    always = ALWAYS - (OF_LINES if past_read else set())
    defined = IF_DEFINED - (OF_LINES if past_read else set())
    needed = always | (set() if is_point else OF_WIDTHS) | (defined if name in SMALL else set())
    assert needed <= set(found) <= needed | defined
    dims = math.prod(autoencoder.event.shape)
    assert all(len(found[key]) == dims for key in PER_DIM if key in found)
    assert found["active_dims"] + found["collapsed_dims"] == dims
    shares = [key for key in found if "accuracy" in key or key.endswith("hamming") or key == "path_strangers"]
    assert len(shares) == (7 if past_read else 8)
    assert all(0 <= found[key] <= 1 for key in shares)
    assert latent_diagnostics(autoencoder, batches(), seed=1) == found
    other = latent_diagnostics(autoencoder, batches(), seed=2)
    assert other["aggregate_energy_distance"] != found["aggregate_energy_distance"]
    assert other["aggregate_variance_per_dim"] == found["aggregate_variance_per_dim"]


def test_ids_have_no_latents() -> None:
    assert latent_diagnostics(built("token_chunks"), batches()) == {}


def test_an_autoencoder_of_known_numbers() -> None:
    data = batches()
    found = latent_diagnostics(Rounding(), data)
    chunks = torch.cat([batch.data[batch.valid] for batch in data])
    assert found["units"] == len(chunks)
    assert found["distinct_units"] == len({tuple(chunk) for chunk in chunks.tolist()}) < len(chunks)
    # 5 widths from the next id: 6e-7 per token, 4e-4 in all
    assert found["token_accuracy"] == found["chunk_accuracy"] == found["token_accuracy_mean"] == 1
    spread = chunks.double().std(0, correction=0)
    assert found["mean_std_per_dim"] == pytest.approx(spread.tolist())
    assert found["aggregate_variance_per_dim"] == pytest.approx((spread**2 + 0.01).tolist())
    assert found["aggregate_mean_norm"] == pytest.approx(chunks.double().mean(0).norm().item())
    assert found["posterior_std"] == pytest.approx(0.1)
    assert found["active_dims"] == CHUNK
    assert found["kl_dead_dims"] == 0
    assert found["aggregate_gaussian_kl"] <= found["kl"] == pytest.approx(sum(found["kl_per_dim"]))
    assert found["robustness"][0] == {"scale": 0.0, "token_accuracy": 1.0, "chunk_accuracy": 1.0}
    assert 0.05 < found["tolerance_99"] < found["tolerance_50"] < 0.5  # a half is 0.16 of the spread, 3.2
    # ids go by at least one at a time, so a token passes its neighbours: strangers, but never twice
    assert found["path_changes"] > 1
    assert found["path_strangers"] > 0.5
    # of the chunks that come twice no one is its own neighbour
    assert 1 / CHUNK <= found["closest_hamming"] <= found["neighbour_hamming"] < found["random_hamming"]
    assert found["distance_rank_correlation"] > 0.2


def test_what_is_shown_is_what_was_measured() -> None:
    data = batches()
    chunks = {tuple(chunk) for batch in data for chunk in batch.data[batch.valid].tolist()}
    found = latent_diagnostics(Rounding(), data)
    assert len(found["interpolation"]) == 4
    for line in found["interpolation"]:
        assert {tuple(line["start"]), tuple(line["end"])} <= chunks
        assert line["start"] != line["end"]
        assert len(line["path"]) == 9
        assert (line["path"][0], line["path"][-1]) == (line["start"], line["end"])
    assert len(found["projection"]) == min(300, found["distinct_units"])
    assert len({tuple(point["ids"]) for point in found["projection"]}) == len(found["projection"])
    assert {tuple(point["ids"]) for point in found["projection"]} <= chunks


def test_a_scale_changes_no_text_and_an_order_only_lists() -> None:
    widths = torch.tensor([0.1, 0.2, 0.4])
    plain = latent_diagnostics(Rounding(widths=widths), batches())
    scaled = latent_diagnostics(Rounding(factor=4.0, widths=4 * widths), batches())
    for key in ("robustness", "tolerance_99", "path_changes", "path_strangers", "interpolation"):
        assert scaled[key] == plain[key]
    for key in ("neighbour_hamming", "distance_rank_correlation", "token_accuracy"):
        assert scaled[key] == pytest.approx(plain[key])
    order = [2, 0, 1]
    turned = latent_diagnostics(Rounding(order=order, widths=widths), batches())
    for key in PER_DIM:
        assert turned[key] == pytest.approx([plain[key][i] for i in order])
    for key in ("kl", "aggregate_gaussian_kl", "path_changes", "neighbour_hamming", "token_accuracy_mean"):
        assert turned[key] == pytest.approx(plain[key])


def test_a_latent_of_several_axes_is_measured_flat() -> None:
    flat, square = Rounding(4), Rounding(4, shape=(2, 2))
    assert latent_diagnostics(square, batches(size=4)) == latent_diagnostics(flat, batches(size=4))


def test_modes_come_back_one_by_one_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder = Rounding()
    autoencoder.frozen.eval()
    latent_diagnostics(autoencoder, batches())
    monkeypatch.setattr(autoencoder, "factor", math.nan)
    with pytest.raises(
        ValueError, match=r"Rounding gives latents that are not finite, for 2.. of 2.. chunks"
    ):
        latent_diagnostics(autoencoder, batches())
    assert autoencoder.training
    assert autoencoder.live.training
    assert not autoencoder.frozen.training


def test_a_loader_may_draw_and_nobody_sees_it() -> None:
    data = batches()
    loader = DataLoader(data, batch_size=None)  # draws a seed from torch's default generator
    before = torch.get_rng_state()
    found = latent_diagnostics(Rounding(), loader)
    assert torch.equal(torch.get_rng_state(), before)
    assert found == latent_diagnostics(Rounding(), data)


class Mute(Rounding):
    """Points; all of them are read as one text."""

    def encode(self, data: Tensor) -> Posterior:
        return Posterior(super().encode(data).mean)

    def to_data(self, z: Tensor) -> Tensor:
        return torch.full_like(super().to_data(z), VOCABULARY)


def test_what_does_not_exist_is_left_out() -> None:
    data = batches()
    found = latent_diagnostics(Mute(), data)
    assert found["token_accuracy"] == 0
    assert not {"tolerance_99", "tolerance_50", "path_changes", *OF_WIDTHS} & set(found)
    assert "aggregate_gaussian_kl" in found
    flat = [Batch(batch.data[..., :1].expand(-1, -1, CHUNK), batch.valid) for batch in data]
    found = latent_diagnostics(Mute(), flat)
    assert not {"aggregate_gaussian_kl", "distance_rank_correlation"} & set(found)  # a line; always 1 apart
    assert found["random_hamming"] == found["closest_hamming"] == 1
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("repeats", [1, 4])
def test_what_needs_two_chunks_is_left_out_with_one(repeats: int) -> None:
    data = [Batch(torch.full((1, repeats, CHUNK), 5), torch.ones(1, repeats, dtype=torch.bool))]
    found = latent_diagnostics(Rounding(), data)
    json.dumps(found, allow_nan=False)
    assert (found["units"], found["distinct_units"]) == (repeats, 1)
    assert not {"path_changes", "interpolation", "random_hamming"} & set(found)
    assert found["projection"] == [{"x": 0.0, "y": 0.0, "ids": [5, 5, 5]}]
    assert found["projection_variance"] == [0.0, 0.0]
    assert ("aggregate_energy_distance" in found) == (repeats > 1)
    assert found["active_dims"] == 0


def test_units_are_the_valid_ones_spread_evenly() -> None:
    chunks = torch.arange(12).view(2, 6, 1)
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[0, 0] = valid[1, 5] = False
    data = [Batch(chunks[:1], valid[:1]), Batch(chunks[1:], valid[1:])]
    assert spread_units(data, 99).flatten().tolist() == list(range(1, 11))
    assert spread_units(data, 5).flatten().tolist() == [2, 4, 6, 8, 10]
    assert evenly(10, 1).tolist() == [5]
    with pytest.raises(ValueError, match="max_units must be at least 1, got 0"):
        spread_units(data, 0)
    with pytest.raises(ValueError, match="no valid unit"):
        spread_units([Batch(chunks, torch.zeros(2, 6, dtype=torch.bool))], 5)
    with pytest.raises(ValueError, match="no valid unit"):
        spread_units([], 5)
    assert latent_diagnostics(Rounding(), batches(), max_units=7)["units"] == 7


def test_distinct_chunks_by_their_first_place() -> None:
    assert distinct(torch.tensor([[3, 1], [2, 2], [3, 1], [1, 3]])).tolist() == [0, 1, 3]


def test_units_are_coded_alike_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder, chunks = Rounding(widths=torch.tensor([0.1, 0.2, 0.3])).eval(), batches()[0].data[0]
    whole = code_units(autoencoder, chunks)
    monkeypatch.setattr(latent_units, "BLOCK", 3)
    blocks = code_units(autoencoder, chunks)
    assert torch.equal(whole.posterior.mean, blocks.posterior.mean)
    assert whole.posterior.log_std is not None
    assert blocks.posterior.log_std is not None
    assert torch.equal(whole.posterior.log_std, blocks.posterior.log_std)
    assert torch.equal(whole.read(whole.posterior.mean), chunks)


def test_projection_by_hand() -> None:
    # on the line (t, -2t): the second entry is the largest, so up is positive; a third point off the rows
    t = torch.tensor([-1.0, 0.0, 1.0])
    mean = torch.stack([t, -2 * t], 1) + 7
    chunks = torch.tensor([[1], [2], [3]])
    found = projection(mean, chunks, torch.tensor([0, 2]))
    assert [point["ids"] for point in found["projection"]] == [[1], [3]]
    assert [point["x"] for point in found["projection"]] == pytest.approx([math.sqrt(5), -math.sqrt(5)])
    assert [point["y"] for point in found["projection"]] == pytest.approx([0, 0])
    assert found["projection_variance"] == pytest.approx([1, 0])
    alone = projection(t[:, None], chunks, torch.tensor([2]))
    assert alone == {"projection": [{"x": 1.0, "y": 0.0, "ids": [3]}], "projection_variance": [1.0, 0.0]}


def test_a_component_points_to_where_its_largest_entry_is_positive() -> None:
    for direction in torch.randn(10, 3):
        mean = torch.stack([-direction, direction])
        found = projection(mean, torch.tensor([[0], [1]]), torch.tensor([1]))
        sign = direction[direction.abs().argmax()].sign()
        assert found["projection"][0]["x"] == pytest.approx((sign * direction.norm()).item())


def test_projection_keeps_the_largest_two_of_several_axes() -> None:
    mean = torch.tensor([[3.0, 0, 0], [-3, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 1], [0, 0, -1]])
    found = projection(mean, torch.arange(6).unsqueeze(1), torch.arange(6))
    assert found["projection_variance"] == pytest.approx([9 / 14, 4 / 14])
    assert [point["x"] for point in found["projection"]] == pytest.approx([3, -3, 0, 0, 0, 0])
    assert [point["y"] for point in found["projection"]] == pytest.approx([0, 0, 2, -2, 0, 0])
