from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_images import pixels

from calmkit.data.bad_records import BadRecord
from calmkit.images.picture import picture

PATH = Path("a.png")


def saved(image: Image.Image, format: str = "PNG", **options) -> bytes:
    content = io.BytesIO()
    image.save(content, format=format, **options)
    return content.getvalue()


def refused(content: bytes) -> BadRecord:
    found = picture(content, PATH, "rgb", None)
    assert isinstance(found, BadRecord)
    return found


def test_a_png_by_hand():
    values = pixels(1, 4, 5, 3)[0]
    found = picture(saved(Image.fromarray(values)), PATH, "rgb", None)
    assert np.array_equal(found, values.transpose(2, 0, 1))


def test_grey_is_one_channel_and_rgb_three():
    grey = saved(Image.fromarray(np.full((3, 4), 77, dtype=np.uint8)))
    assert np.array_equal(picture(grey, PATH, "grey", None), np.full((1, 3, 4), 77))
    assert np.array_equal(picture(grey, PATH, "rgb", None), np.full((3, 3, 4), 77))
    red = saved(Image.new("RGB", (2, 2), (255, 0, 0)))
    assert picture(red, PATH, "grey", None).tolist() == [[[76, 76], [76, 76]]]  # 0.299 of 255


def test_a_jpeg_is_near_what_was_saved():
    found = picture(saved(Image.new("RGB", (16, 16), (10, 200, 90)), "JPEG", quality=95), PATH, "rgb", None)
    assert np.abs(found.mean((1, 2)) - [10, 200, 90]).max() < 3


def test_size_is_the_middle_square_scaled():
    wide = np.zeros((4, 12), dtype=np.uint8)
    wide[:, 4:8] = 200
    content = saved(Image.fromarray(wide))
    assert np.array_equal(picture(content, PATH, "grey", 4), np.full((1, 4, 4), 200))
    assert picture(content, PATH, "grey", 9).shape == (1, 9, 9)


def test_what_is_transparent_is_white():
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert picture(saved(image), PATH, "grey", None).tolist() == [[[0, 255]]]


def test_exif_turns_an_image_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the first column is the top
    lying = np.zeros((8, 16), dtype=np.uint8)
    lying[:, :8] = 255
    found = picture(saved(Image.fromarray(lying), "JPEG", exif=exif, quality=100), PATH, "grey", None)
    assert found.shape == (1, 16, 8)
    assert found[0, :6].min() > 200
    assert found[0, 10:].max() < 50


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_file_cut_short_is_refused(format):
    content = saved(Image.fromarray(pixels(1, 20, 20, 3)[0]), format)
    for end in (0, 3, 12, 30, len(content) // 2, len(content) - 30):
        found = refused(content[:end])
        assert found.kind == "no whole PNG or JPEG"
        assert str(found).startswith("a.png is no whole PNG or JPEG (")
        assert str(found).endswith("); save it again")


def test_a_flipped_byte_in_the_pixels_is_refused():
    content = bytearray(saved(Image.fromarray(pixels(1, 20, 20, 3)[0])))
    content[len(content) // 2] ^= 0xFF
    assert refused(bytes(content)).kind == "no whole PNG or JPEG"


def test_other_formats_are_refused_whatever_their_name():
    assert refused(saved(Image.new("L", (4, 4)), "BMP")).kind == "no whole PNG or JPEG"
    assert str(refused(b"once upon a time")) == (
        "a.png is no whole PNG or JPEG (it begins as neither does); save it again"
    )


def test_sixteen_bits_are_refused():
    wide = Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16))
    assert str(refused(saved(wide))) == (
        "a.png has values of more than 8 bits (mode I;16); convert it to 8 bits"
    )


@pytest.mark.parametrize("factor", [1.5, 3.0])  # Pillow itself warns of the first and refuses the second
def test_a_bomb_is_refused(monkeypatch, factor):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    side = round((10_000 * factor) ** 0.5)
    content = saved(Image.new("L", (side, side)))
    found = refused(content)
    assert found.kind == "too many pixels"
    assert str(found).startswith("a.png has more pixels than Pillow opens, which may be meant to fill")
