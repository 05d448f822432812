"""Pictures that tell their number, also after a codec: what was decoded is the frame that was meant."""

from __future__ import annotations

import numpy as np

from lab.toy.write import Picture


def numbered(i: int, size: int = 64) -> Picture:
    """A picture (size, size, 3) whose 4 × 4 blocks, black or white, spell ``i`` < 1024 so that codecs keep it."""
    if not 0 <= i < 1024:
        raise ValueError(f"`0 <= i < 1024` must hold for a frame number, got {i}")
    bits = [(_code(i) >> k) & 1 for k in range(16)]
    grid = np.array(bits, dtype=np.uint8).reshape(4, 4) * 255
    edges = np.arange(size) * 4 // size
    return np.repeat(grid[edges][:, edges][..., None], 3, axis=2)


def read_number(picture: Picture) -> int:
    """The number that :func:`numbered` wrote; -1 where the picture shows none (its check bits do not fit)."""
    size_y, size_x = picture.shape[:2]
    code = 0
    for k in range(16):
        y, x = divmod(k, 4)
        block = picture[
            (4 * y + 1) * size_y // 16 : (4 * y + 3) * size_y // 16,
            (4 * x + 1) * size_x // 16 : (4 * x + 3) * size_x // 16,
        ]
        code |= int(block.mean() > 127.5) << k
    return code & 1023 if code == _code(code & 1023) else -1


def _code(i: int) -> int:
    return i | ((i * 37 + 21) % 64) << 10
