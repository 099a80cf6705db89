"""Features: the network of a data set, trained once on its training split and kept in a cache.

Where there are no labels, or only one, nothing can be trained to tell classes apart: the network then keeps
its random weights, the same ones for everybody, and there is no class accuracy. Random convolutions serve as
well for comparing sets of images, and unlike raw pixels they are not linear in the pixels: under linear
features a Gaussian with the right moments is perfect by construction, so the Gaussian bar would say nothing.

Source: random features for comparing images, Naeem et al., Reliable Fidelity and Diversity Metrics for
Generative Models, 2020, section 5. https://arxiv.org/abs/2002.09797
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from calmkit.data.atomic_write import replacing
from calmkit.data.digest import digest
from calmkit.images.measures.fit_network import fit_network, random_network
from calmkit.images.measures.network import FeatureNetwork
from calmkit.images.measures.pixels import labels_of, pixels

FORMULA = 1
"""Of the network and its training: another number, and every cache is left aside."""
SEED = 0
ROWS = 512  # images that pass the network at once

Say = Callable[[str], None]


@final
@dataclass(frozen=True)
class Features:
    """A feature network and what is known of it.

    Attributes:
        network: In eval mode, on the CPU, without gradients.
        accuracy: Share of held-out images that it puts into the right class; None where it has random
            weights and knows no classes.
        fingerprint: Of the data, the shape and the formula; numbers of equal fingerprints can be compared.
    """

    network: FeatureNetwork
    accuracy: float | None
    fingerprint: str

    def of(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F"]:
        """Features of images in [-1, 1], in double precision."""
        return _in_parts(self.network, images).double()

    def classes_of(self, images: Float[Tensor, "N C H W"]) -> Int[Tensor, " N"]:
        """The class that the network finds likeliest for each image in [-1, 1].

        Raises:
            ValueError: It knows no classes.
        """
        if self.accuracy is None:
            raise ValueError("the feature network was made without labels, so it knows no classes")
        return _in_parts(self.network.logits, images).argmax(1)


def train_features(
    images: Shaped[Tensor, "N C H W"],
    labels: Int[Tensor, " M"] | None,
    valid_images: Shaped[Tensor, "V C H W"],
    valid_labels: Int[Tensor, " P"] | None,
    cache: Path,
    fingerprint: str,
    progress: Say | None = None,
) -> Features:
    """The features of a data set: from the cache, or trained and put there.

    Args:
        images: The training split, uint8 or floats in [-1, 1].
        labels: Its classes, from 0 on; None: random weights.
        valid_images: Of the held-out split.
        valid_labels: For the accuracy; None together with `labels`.
        cache: Folder; made where it is missing.
        fingerprint: Of the data of both splits.
        progress: Is told of training, and of a damaged file; never of a cache that was used.

    Raises:
        ValueError: For images or labels that can't be read, or labels of one split only.
        DataError: The cache can't be written.
    """
    say = progress or (lambda line: None)
    seen, held = pixels(images, "training"), pixels(valid_images, "held-out")
    classes, right = labels_of(labels, images, "training"), labels_of(valid_labels, held, "held-out")
    if (classes is None) != (right is None):
        raise ValueError("labels are given for the training and the held-out images, or for neither")
    shape = (seen.shape[1], seen.shape[2], seen.shape[3])
    kinds = 1 if classes is None else int(classes.max()) + 1
    key = digest(fingerprint, str(shape), str(kinds), str(FORMULA))
    path = cache / f"features-{key[:16]}.safetensors"
    found = _read(path, key, random_network(shape, kinds, SEED), say)
    if found is not None:
        return found
    network, accuracy = random_network(shape, kinds, SEED), None
    if kinds > 1 and classes is not None and right is not None:
        network = fit_network(seen, classes, kinds, SEED, say)
        accuracy = float((_in_parts(network.logits, held).argmax(1) == right).double().mean())
        say(f"feature network: {100 * accuracy:.1f} % of {len(held)} held-out images in their class")
    made = Features(network, accuracy, key)
    network.normalise(made.of(seen))
    _write(path, made)
    return made


@torch.no_grad()
def _in_parts(read: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([read(part) for part in images.cpu().split(ROWS)])


def _write(path: Path, made: Features) -> None:
    from safetensors.torch import save

    tensors = dict(made.network.state_dict())
    accuracy = "" if made.accuracy is None else repr(made.accuracy)
    facts = {"key": made.fingerprint, "accuracy": accuracy, "content": _content(tensors, accuracy)}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata=facts))


def _read(path: Path, key: str, network: FeatureNetwork, say: Say) -> Features | None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        if facts["key"] != key or facts["content"] != _content(tensors, facts["accuracy"]):
            raise ValueError("its content is another than was written")
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        say(f"the feature network in {path} is damaged and made again ({error})")
        return None
    return Features(network, float(facts["accuracy"]) if facts["accuracy"] else None, key)


def _content(tensors: dict[str, Tensor], accuracy: str) -> str:
    """A hash of what is kept: safetensors itself does not see a number that changed."""
    parts = (part for name in sorted(tensors) for part in (name, tensors[name].numpy().tobytes()))
    return digest(accuracy, *parts)
