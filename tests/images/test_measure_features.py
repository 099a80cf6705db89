from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from calmkit.images.measures import features as module
from calmkit.images.measures.class_accuracy import ClassAccuracy, class_accuracy
from calmkit.images.measures.distances import frechet_distance
from calmkit.images.measures.features import Features, train_features
from calmkit.images.measures.network import FeatureNetwork


def bars(num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy 8 x 8 images with a bright row (class 0), a bright column (1) or both (2)."""
    noise = torch.Generator().manual_seed(seed)
    images = torch.rand(num, 1, 8, 8, generator=noise) * 0.8 - 0.9
    labels = torch.arange(num) % 3
    for image, label in zip(images, labels.tolist(), strict=True):
        place = int(torch.randint(8, (), generator=noise))
        if label != 1:
            image[0, place] = 1
        if label != 0:
            image[0, :, place] = 1
    return images, labels


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a network was trained; training is short."""
    made: list[int] = []
    fit = module.fit_network

    def counted(*given):
        made.append(1)
        return fit(*given)

    monkeypatch.setattr(module, "fit_network", counted)
    monkeypatch.setattr("calmkit.images.measures.fit_network.STEPS", 10)
    return made


def trained(cache: Path, fingerprint: str = "bars", said: list[str] | None = None) -> Features:
    lines = [] if said is None else said
    return train_features(*bars(90, 0), *bars(60, 1), cache, fingerprint, lines.append)


def test_a_network_learns_and_its_accuracy_is_that_of_held_out_images(
    tmp_path: Path, fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calmkit.images.measures.fit_network.STEPS", 120)
    monkeypatch.setattr("calmkit.images.measures.fit_network.TOLD", 60)
    said: list[str] = []
    features = trained(tmp_path, said=said)
    assert features.accuracy is not None
    assert features.accuracy > 0.8  # a guess has 0.33; the seed is fixed
    images, labels = bars(60, 1)
    assert class_accuracy(features, images, labels).value == features.accuracy
    metric = ClassAccuracy(features)
    for part in (slice(7), slice(7, None)):
        metric.update(images[part], labels[part])
    assert metric.compute()["class_accuracy"] == features.accuracy
    assert [line.split(",")[0] for line in said[:2]] == [
        f"feature network: step {n} of 120" for n in (60, 120)
    ]
    assert "of 60 held-out images" in said[-1]


def test_features_of_the_training_images_are_centred_and_of_unit_mean_variance(
    tmp_path: Path, fits: list[int]
) -> None:
    found = trained(tmp_path).of(bars(90, 0)[0])
    assert found.dtype == torch.float64
    assert found.mean(0).abs().max() < 1e-5
    assert found.var(0).sum().item() == pytest.approx(64, rel=1e-5)


def test_the_second_call_trains_nothing(tmp_path: Path, fits: list[int]) -> None:
    first, said = trained(tmp_path), list[str]()
    second = trained(tmp_path, said=said)
    assert len(fits) == 1
    assert not said
    assert (second.accuracy, second.fingerprint) == (first.accuracy, first.fingerprint)
    images = bars(10, 2)[0]
    assert torch.equal(first.of(images), second.of(images))
    assert [file.suffix for file in tmp_path.iterdir()] == [".safetensors"]  # no temporary one is left


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "renamed"])
def test_a_damaged_cache_is_trained_again(tmp_path: Path, fits: list[int], damage: str) -> None:
    first = trained(tmp_path)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "renamed":  # the network of other data under this name
        trained(tmp_path, "others")
        (other,) = set(tmp_path.iterdir()) - {file}
        content = bytearray(other.read_bytes())
    elif damage == "flipped":  # inside the tensors, which safetensors doesn't see
        content[-5] ^= 1
    else:
        content = content[: len(content) // 2] if damage == "cut" else bytearray()
    file.write_bytes(content)
    fits.clear()
    said: list[str] = []
    again = trained(tmp_path, said=said)
    assert len(fits) == 1
    assert f"{file} is damaged and made again" in said[0]
    assert torch.equal(again.network.classify.weight, first.network.classify.weight)
    trained(tmp_path)
    assert len(fits) == 1


def test_other_data_or_another_shape_is_trained_anew(tmp_path: Path, fits: list[int]) -> None:
    first = trained(tmp_path)
    second = trained(tmp_path, "others")
    (images, labels), (held, right) = bars(90, 0), bars(60, 1)
    wide = train_features(images.repeat(1, 1, 1, 2), labels, held.repeat(1, 1, 1, 2), right, tmp_path, "bars")
    assert len(fits) == 3
    assert len({one.fingerprint for one in (first, second, wide)}) == 3


def test_another_formula_is_trained_anew(
    tmp_path: Path, fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path)
    monkeypatch.setattr(module, "FORMULA", module.FORMULA + 1)
    trained(tmp_path)
    assert len(fits) == 2


def test_training_leaves_the_generator_alone_and_works_within_an_evaluation(
    tmp_path: Path, fits: list[int]
) -> None:
    before = torch.get_rng_state()
    with torch.inference_mode():
        features = trained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(p.requires_grad for p in features.network.parameters())
    torch.manual_seed(5)
    outside = trained(tmp_path / "outside")
    assert torch.equal(outside.network.classify.weight, features.network.classify.weight)


def test_without_labels_the_network_is_random_and_knows_no_classes(tmp_path: Path, fits: list[int]) -> None:
    (images, _), (held, _) = bars(90, 0), bars(60, 1)
    features = train_features(images, None, held, None, tmp_path, "bars")
    again = train_features(images, None, held, None, tmp_path, "bars")
    assert features.accuracy is None
    assert torch.equal(features.of(held), again.of(held))
    assert features.of(images).var(0).sum().item() == pytest.approx(64, rel=1e-5)
    with pytest.raises(ValueError, match="knows no classes"):
        features.classes_of(held)
    one = torch.zeros(90, dtype=torch.long), torch.zeros(60, dtype=torch.long)  # a single class: no task
    assert train_features(images, one[0], held, one[1], tmp_path, "one").accuracy is None


def test_bytes_and_floats_are_the_same_images(tmp_path: Path, fits: list[int]) -> None:
    (images, labels), (held, right) = bars(90, 0), bars(60, 1)
    whole = [((part + 1) * 127.5).round().to(torch.uint8) for part in (images, held)]
    as_bytes = train_features(whole[0], labels, whole[1], right, tmp_path / "a", "bars")
    floats = [part.double() / 127.5 - 1 for part in whole]
    as_floats = train_features(floats[0], labels, floats[1], right, tmp_path / "b", "bars")
    found, wanted = as_floats.of(floats[1].float()), as_bytes.of(floats[1].float())
    assert torch.allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14), (1, 28, 28), (3, 32, 32), (2, 64, 8)])
def test_any_shape_has_as_many_features(shape: tuple[int, int, int]) -> None:
    network = FeatureNetwork(shape, 5)
    images = torch.zeros(2, *shape)
    assert network(images).shape == (2, network.num_features) == (2, 64)
    assert network.logits(images).shape == (2, 5)


def test_torchmetrics_takes_the_network_as_it_is(tmp_path: Path, fits: list[int]) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    features = trained(tmp_path)
    real, drawn = bars(60, 1)[0].float(), bars(60, 2)[0].float()
    metric = FrechetInceptionDistance(features.network, normalize=True)
    metric.update(real, real=True)
    metric.update(drawn, real=False)
    ours = frechet_distance(features.of(real), features.of(drawn)).value
    assert metric.compute().item() == pytest.approx(ours, rel=1e-5)  # theirs comes back in float32


def test_images_and_labels_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (images, labels), (held, right) = bars(90, 0), bars(60, 1)

    def refused(match: str, *given: Tensor | None) -> None:
        with pytest.raises(ValueError, match=match):
            train_features(*given, tmp_path, "bars")

    refused("training images reach from .* scaled to", images * 255, labels, held, right)
    refused("1 of 60 held-out images hold values that are no numbers", images, labels, nan(held), right)
    refused("sides of 8 on, got", images[:, :, :, :7], labels, held[:, :, :, :7], right)
    refused("from one image on", images[:0], labels[:0], held, right)
    refused("one for each of the 90 images, got 89", images, labels[1:], held, right)
    refused("from 0 on", images, labels - 1, held, right)
    refused("or for neither", images, labels, held, None)
    assert not any(tmp_path.iterdir())


def nan(images: Tensor) -> Tensor:
    broken = images.clone()
    broken[3, 0, 0, :2] = torch.nan
    return broken
