"""One PNG or JPEG as an array of bytes; what is broken is said, not raised.

Source: PNG, https://www.w3.org/TR/png-3/; JPEG, https://www.w3.org/Graphics/JPEG/itu-t81.pdf; read by Pillow,
https://pillow.readthedocs.io/en/stable/reference/Image.html
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import UInt8

from calmkit.data.bad_records import BadRecord

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
Colour = Literal["rgb", "grey"]
MODES: dict[Colour, str] = {"rgb": "RGB", "grey": "L"}


def picture(
    content: bytes, path: Path, colour: Colour, size: int | None
) -> UInt8[np.ndarray, "C H W"] | BadRecord:
    """The image of a file, upright as its EXIF data say, on white where it is transparent.

    Args:
        content: Of the file.
        path: For the message.
        colour: C is 3, or 1.
        size: H and W: the middle square, scaled. None: as it is.

    Returns:
        The first frame; or what the file is refused for: it is broken, of another format, of more than 8
        bits a value, or of more pixels than Pillow's `Image.MAX_IMAGE_PIXELS` allows.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                image.load()
        if image.mode not in EIGHT_BITS:
            return BadRecord(
                f"{path} has values of more than 8 bits (mode {image.mode}); convert it to 8 bits",
                0,
                "more than 8 bits",
            )
        upright = _opaque(ImageOps.exif_transpose(image)).convert(MODES[colour])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return BadRecord(
            f"{path} has more pixels than Pillow opens, which may be meant to fill the memory ({error}); "
            "make it smaller",
            0,
            "too many pixels",
        )
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        why = "it begins as neither does" if isinstance(error, UnidentifiedImageError) else error
        return BadRecord(f"{path} is no whole PNG or JPEG ({why}); save it again", 0, "no whole PNG or JPEG")
    if size is not None:
        upright = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
    values = np.asarray(upright, dtype=np.uint8)  # [H, W] or [H, W, 3]
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))


def _opaque(image: Image) -> Image:
    from PIL import Image

    if not image.has_transparency_data:
        return image
    colours = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
