"""From a decoded frame to what is kept of it: upright RGB, and the thumbnail that figures show."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from lab.media.file import MAX_PIXELS, MediaError

Picture = NDArray[np.uint8]

THUMBNAIL_SIDE = 160
_THUMBNAIL_QUALITY = 80


class ToRGB:
    """Decoded frame to upright RGB at full size; one swscale context serves all frames of a file."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any) -> Picture:
        """RGB (H, W, 3) with the display matrix applied. Non-square pixels stay so, as in the papers' loaders.

        MediaError for a picture beyond MAX_PIXELS, which the stream's header may have concealed.
        """
        if frame.width * frame.height > MAX_PIXELS:
            raise MediaError("undecodable", f"a picture of {frame.width}×{frame.height} is beyond {MAX_PIXELS} pixels")
        picture = self._convert(frame).to_ndarray().astype(np.uint8, copy=False)
        matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
        if matrix is not None:
            picture = upright(picture, np.frombuffer(bytes(matrix), dtype=np.int32))
        return np.ascontiguousarray(picture)

    def _convert(self, frame: Any) -> Any:
        # Said outright, since PyAV before 17 applies the frame's own matrix (BT.709, as HD has it) and range only where
        # source and destination differ. For RGB the destination's matrix means nothing.
        full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        return self._reformatter.reformat(
            frame,
            format="rgb24",
            dst_colorspace=Colorspace.ITU709 if frame.colorspace == Colorspace.ITU601 else Colorspace.ITU601,
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
        )


def upright(picture: Picture, matrix: NDArray[np.int32]) -> Picture:
    """A picture turned and flipped as a display matrix (9,) says: any of eight ways to lay a rectangle on the axes."""
    # Stored (x, y) is shown at (a x + c y, b x + d y), y downwards. Swap the axes if they are swapped, then flip each
    # that ends up running backwards.
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture = picture.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        picture = picture[:, ::-1]
    if d < 0:
        picture = picture[::-1]
    return picture


def thumbnail(picture: Picture) -> bytes:
    """JPEG of a picture, its long side scaled down to 160 px."""
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_THUMBNAIL_QUALITY)
    return out.getvalue()
