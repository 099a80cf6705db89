"""The convolutional coder: sizes and FLOPs by hand, and the network against diffusers' port of LDM's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from calmkit.nn import conv_coder
from calmkit.nn.conv_coder import ConvCoder
from calmkit.nn.conv_layers import GridAttention, Halve, NormedConv, ResBlock, conv_flops, group_norm

KL_16: dict[str, Any] = {"channels": 128, "multipliers": (1, 1, 2, 2, 4), "blocks": 2, "attention": True}


def make(shape: tuple[int, int, int] = (3, 8, 12), latent_dim: int = 5, **settings: Any) -> ConvCoder:
    sizes = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": True}
    return ConvCoder("test", shape, latent_dim, 2, **{**sizes, **settings})


def diffusers_coder(widths: tuple[int, ...], blocks: int, latent_dim: int, groups: int) -> nn.Module:
    from diffusers import AutoencoderKL

    levels = len(widths) - 1
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels + ("AttnDownEncoderBlock2D",),
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * levels,
        block_out_channels=widths,
        layers_per_block=blocks,
        latent_channels=latent_dim,
        norm_num_groups=groups,
    )


def test_kl_16_has_as_many_weights_as_in_diffusers() -> None:
    """69.6 million, none of them allocated."""
    with torch.device("meta"):
        ours = ConvCoder("test", (3, 256, 256), 16, 2, **KL_16)
        theirs = diffusers_coder((128, 128, 256, 256, 512), 2, 16, 32)
    assert ours.layout == (16, 16)
    counts = [sum(p.numel() for p in net.parameters()) for net in (ours, theirs)]
    assert counts == [69_610_963, 69_610_963]


def layer_weights(layer: nn.Module) -> list[Tensor]:
    """In an order that both networks can be put in."""
    if isinstance(layer, ResBlock):
        convs = [layer.first, layer.second]
        flat = [w for c in convs for w in (c.norm.weight, c.norm.bias, c.conv.weight, c.conv.bias)]
        return [*flat, *layer.skip.parameters()]
    return list(layer.parameters())


def their_layers(net: Any) -> list[list[Tensor]]:
    def res(block: Any) -> list[Tensor]:
        found = [*block.norm1.parameters(), *block.conv1.parameters()]
        found += [*block.norm2.parameters(), *block.conv2.parameters()]
        return found + ([] if block.conv_shortcut is None else list(block.conv_shortcut.parameters()))

    def attention(block: Any) -> list[Tensor]:
        layers = (block.to_q, block.to_k, block.to_v, block.to_out[0])
        weights = [w for layer in layers for w in (layer.weight[:, :, None, None], layer.bias)]
        return [*block.group_norm.parameters(), *weights]

    def level(block: Any, resize: Any) -> list[list[Tensor]]:
        found = []
        for i, one in enumerate(block.resnets):
            found.append(res(one))
            if getattr(block, "attentions", None):
                found.append(attention(block.attentions[i]))
        return found + [list(one.parameters()) for one in resize or ()]

    def middle(block: Any) -> list[list[Tensor]]:
        return [res(block.resnets[0]), attention(block.attentions[0]), res(block.resnets[1])]

    def end(part: Any) -> list[Tensor]:
        return [*part.conv_norm_out.parameters(), *part.conv_out.parameters()]

    e, d = net.encoder, net.decoder
    found = [list(e.conv_in.parameters())]
    found += [one for block in e.down_blocks for one in level(block, block.downsamplers)]
    found += [*middle(e.mid_block), end(e), list(net.quant_conv.parameters())]
    found += [list(net.post_quant_conv.parameters()), list(d.conv_in.parameters()), *middle(d.mid_block)]
    found += [one for block in d.up_blocks for one in level(block, block.upsamplers)]
    return [*found, end(d)]


def test_the_network_is_that_of_diffusers_number_by_number() -> None:
    """The same weights, the same outputs; widths of 16 in groups of 4."""
    theirs = diffusers_coder((16, 16, 16), 2, 5, 4).double()
    ours = make((3, 8, 12), channels=16, multipliers=(1, 1, 1), blocks=2)
    layers = [*ours.encoder, *ours.decoder]
    with torch.no_grad():
        for layer, weights in zip(layers, their_layers(theirs), strict=True):
            for mine, wanted in zip(layer_weights(layer), weights, strict=True):
                mine.copy_(wanted)
    images, z = torch.rand(2, 3, 8, 12) * 2 - 1, torch.randn(2, 6, 5)
    wanted = theirs.quant_conv(theirs.encoder(images)).flatten(2).transpose(1, 2)
    assert_close(ours.read(images), wanted)
    assert_close(ours.write(z), theirs.decode(z.transpose(1, 2).reshape(2, 5, 2, 3)).sample)


def test_units_are_in_raster_order() -> None:
    """A black image with one white pixel, read without norms: only the unit over it differs."""
    net = make((1, 4, 6), 2, multipliers=(1, 1), attention=False)
    net.encoder = nn.Sequential(nn.Conv2d(1, 1, 2, stride=2, bias=False))
    nn.init.ones_(net.encoder[0].weight)
    image = torch.zeros(1, 1, 4, 6)
    image[0, 0, 3, 5] = 1  # of the last place, row 1 and column 2
    image[0, 0, 0, 2] = 2  # row 0, column 1
    assert net.read(image)[0, :, 0].tolist() == [0, 2, 0, 0, 0, 1]


def test_flops_of_layers_by_hand() -> None:
    """A 3 x 3 convolution of 4 to 6 channels over 5 x 7 places: 2 * 4 * 6 * 9 * 35 FLOPs."""
    assert conv_flops([NormedConv(4, 6)], 5, 7) == 2 * 4 * 6 * 9 * 35 == 15120
    halved = conv_flops([Halve(4), nn.Conv2d(4, 2, 1)], 4, 6)
    assert halved == 2 * 4 * 4 * 9 * 6 + 2 * 4 * 2 * 6 == 1824
    # four 1 x 1 convolutions, then 10 x 10 products of width 4, twice
    assert conv_flops([GridAttention(4)], 2, 5) == 4 * (2 * 4 * 4 * 10) + 2 * (2 * 4 * 100) == 2880
    net = make((1, 4, 4), 2, multipliers=(1, 1), attention=False)
    net.encoder = nn.Sequential(nn.Conv2d(1, 3, 1))  # 2 * 3 * 16 = 96 over 4 units
    assert net.encode_flops() == 24
    net.encoder = nn.Sequential(nn.Conv2d(1, 1, 1), Halve(1))  # 32 + 2 * 9 * 4 = 104
    assert net.encode_flops() == 26


@pytest.mark.parametrize("attention", [True, False])
def test_flops_are_those_that_torch_counts(attention: bool) -> None:
    net = make((3, 8, 12), attention=attention, multipliers=(1, 2, 2))
    images, z = torch.rand(1, 3, 8, 12), torch.randn(1, 6, 5)
    for call, data, stated in ((net.read, images, net.encode_flops()), (net.write, z, net.decode_flops())):
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call(data)
        assert stated * 6 == counter.get_total_flops()


def test_groups_have_four_channels_until_there_are_32() -> None:
    groups = {width: group_norm(width).num_groups for width in (3, 4, 8, 16, 20, 96, 128, 256, 512)}
    assert groups == {3: 1, 4: 1, 8: 2, 16: 4, 20: 5, 96: 24, 128: 32, 256: 32, 512: 32}


def test_images_are_shown_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    net, z = make(), 5 * torch.randn(3, 2, 24, 5)
    monkeypatch.setattr(conv_coder, "BLOCK_ELEMENTS", 4 * net.widest)
    assert_close(net.show(z), net.write(z).clamp(-1, 1))
    assert net.widest == 16 * 8 * 12


def test_images_that_cannot_be_halved_are_refused_with_the_cure() -> None:
    with pytest.raises(ValueError, match=r"test: 3 multipliers halve an image 2 times") as caught:
        make((1, 6, 8), multipliers=(1, 2, 2))
    assert str(caught.value) == (
        "test: 3 multipliers halve an image 2 times, so height and width must be divisible by 4, got 6 x 8; "
        "for such images at most 2 multipliers would do."
    )
    with pytest.raises(ValueError, match="at most 1 multiplier would do"):
        make((1, 7, 8))
    with pytest.raises(ValueError, match=r"multipliers must be 1 or more, got \[\]"):
        make(multipliers=())
    with pytest.raises(ValueError, match="test: blocks must be at least 1, got 0"):
        make(blocks=0)
