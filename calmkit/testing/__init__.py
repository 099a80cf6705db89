"""The public conformance kit: laws that every part obeys, ours and guests'.

Each check takes a registered name or a class and the settings to build it with, and raises an AssertionError
whose sentence names the part, the law and what was seen. An exception inside the part is told so too, with
the call that it came through. In a plugin's own tests:

    from calmkit.testing import check_head
    from my_plugin import MyHead

    def test_contract():
        check_head(MyHead, width=32)

Small settings keep a check within a second or two. Checks leave torch's random state and default dtype as
they were.

`LatentWorld` is a truth to learn from, and `learn` trains a head on it and measures how near its draws come.
`units_by_hand` are held-out units with given draws, for a number that a reader can redo.
"""

from calmkit.testing.any_order_backbones import check_any_order_backbone
from calmkit.testing.autoencoders import check_autoencoder
from calmkit.testing.backbones import check_backbone
from calmkit.testing.conditioners import check_conditioner
from calmkit.testing.data_kinds import check_data_kind
from calmkit.testing.embedders import check_embedder
from calmkit.testing.heads import check_head
from calmkit.testing.image_corpora import check_image_corpus
from calmkit.testing.latent_world import LatentWorld, learn
from calmkit.testing.launchers import check_launcher
from calmkit.testing.measures import check_measure, units_by_hand
from calmkit.testing.orders import check_order
from calmkit.testing.samplers import check_sampler
from calmkit.testing.transforms import check_transform

__all__ = [
    "LatentWorld",
    "check_any_order_backbone",
    "check_autoencoder",
    "check_backbone",
    "check_conditioner",
    "check_data_kind",
    "check_embedder",
    "check_head",
    "check_image_corpus",
    "check_launcher",
    "check_measure",
    "check_order",
    "check_sampler",
    "check_transform",
    "learn",
    "units_by_hand",
]
