"""CLIP4Clip's temporal encoders: frames see each other in time order, then their mean is taken, whatever the text.

seqLSTM and seqTransf (Luo et al., arXiv 2104.08860). As in the authors' code both take raw frames, add what they find
to them, scale each sum to length one and average; the score is a cosine with the raw text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads.pooling import even_weights
from lab.pairs import inner
from lab.similarity import clean_frames, sentences_of

#: The most that is built: a file of others may ask for any number.
LAYERS, FRAMES = 64, 10_000


class _Temporal(nn.Module):
    """One vector a video, whatever the text: ``index``, which is all that a kind adds."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, texts: Texts, videos: Videos) -> Tensor:
        """Cosine similarity (T, V), every text with every video."""
        return self.score(texts, self.index(videos))

    def frame_weights(self, texts: Texts, videos: Videos) -> Tensor:
        """One over the number of real frames (T, V, F)."""
        return even_weights(videos.frame_mask).expand(len(texts), -1, -1)

    def index(self, videos: Videos) -> Tensor:
        """One vector (V, D) of length one a video."""
        raise NotImplementedError

    def score(self, texts: Texts, index: Tensor) -> Tensor:
        """Cosine similarity (T, V)."""
        return inner(F.normalize(sentences_of(texts, self.dim), dim=-1), index)


class SeqLSTM(_Temporal):
    """An LSTM over the frames, forward in time.

    ``layers``  how many of it; one in the authors' code.
    """

    def __init__(self, dim: int = 512, *, layers: int = 1) -> None:
        super().__init__(dim)
        _count("layers", layers, LAYERS)
        self.lstm = nn.LSTM(dim, dim, layers, batch_first=True)

    def index(self, videos: Videos) -> Tensor:
        """One vector (V, D) of length one a video."""
        frames, mask = in_order(videos, self.dim)
        # It never looks ahead, so padding behind the last real frame changes nothing before it.
        return mean_direction(frames + self.lstm(frames)[0], mask)

    def floats(self, frames: int, words: int, segments: int) -> tuple[int, int]:
        """See ``Head``."""
        return 12 * frames * self.dim, 2


class SeqTransf(_Temporal):
    """Blocks of CLIP's text transformer over the frames with learned positions, without its causal mask.

    ``layers``  how many blocks; 4 in the authors' code.
    ``heads``   of attention, how many; ``None`` is one for 64 dimensions, 8 at D = 512.
    ``frames``  the most frames that a video may have: the number of positions, CLIP's 77.
    ``start``   a CLIP checkpoint, OpenAI's ViT-B-32.pt or one of open_clip's (.pt, .bin, .safetensors), from whose
                text tower's first blocks and positions it starts, as CLIP4Clip does; ``None`` starts at random, scaled
                as CLIP's own start.
    """

    only_at_start = ("start",)  # a trained head is loaded without it: the file may have gone since

    def __init__(
        self, dim: int = 512, *, layers: int = 4, heads: int | None = None, frames: int = 77, start: str | None = None
    ) -> None:
        super().__init__(dim)
        heads = max(1, dim // 64) if heads is None else heads
        for name, value, most in (("layers", layers, LAYERS), ("heads", heads, dim), ("frames", frames, FRAMES)):
            _count(name, value, most)
        if dim % heads:
            raise LabError(f"heads must divide D, got heads={heads} for D={dim}")
        self.positions = nn.Parameter(0.01 * torch.randn(frames, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, layers) for _ in range(layers))
        if start is not None:
            self._load(Path(start).expanduser())

    def index(self, videos: Videos) -> Tensor:
        """One vector (V, D) of length one a video."""
        frames, mask = in_order(videos, self.dim)
        if frames.shape[1] > len(self.positions):
            raise LabError(
                f"seqtransf has positions for {len(self.positions)} frames, videos have {frames.shape[1]}: "
                f"build it with frames={frames.shape[1]}"
            )
        seen = frames + self.positions[: frames.shape[1]]
        for block in self.blocks:
            seen = block(seen, mask)
        return mean_direction(frames + seen, mask)

    def floats(self, frames: int, words: int, segments: int) -> tuple[int, int]:
        """See ``Head``."""
        return 16 * frames * self.dim, 2

    def _load(self, file: Path) -> None:
        """Starts from a CLIP text tower. Raises ``LabError`` where the file has no such tower or another width."""
        from lab.backbones.checkpoints import read_state  # here, because only this needs them
        from lab.backbones.weights import weights_dir

        if not file.is_file():
            raise LabError(
                f"no file {file} to start seqtransf from: give start= a CLIP checkpoint (.pt, .bin, .safetensors), as "
                f"python -m lab.cache --download leaves one in {weights_dir() / 'clip'}"
            )
        tower, own = text_tower(read_state(file), file), self.state_dict()
        rows = min(len(own["positions"]), len(tower["positions"]))
        own["positions"], tower["positions"] = own["positions"][:rows], tower["positions"][:rows]
        for name, value in own.items():
            if name not in tower or tower[name].shape != value.shape:
                found = tuple(tower[name].shape) if name in tower else "none"
                raise LabError(f"{file}: {name} must be {tuple(value.shape)} to start seqtransf, found {found}")
            value.copy_(tower[name])


class Block(nn.Module):
    """A residual attention block with CLIP's names, normalised before each of its two parts."""

    def __init__(self, dim: int, heads: int, layers: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        widen, narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.mlp = nn.ModuleDict({"c_fc": widen, "c_proj": narrow})
        inner, outer = dim**-0.5, dim**-0.5 * (2 * layers) ** -0.5  # CLIP's own start
        for weight, deviation in (
            (self.attn.in_proj_weight, inner),
            (self.attn.out_proj.weight, outer),
            (widen.weight, (2 * dim) ** -0.5),
            (narrow.weight, outer),
        ):
            nn.init.normal_(weight, std=deviation)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Frames (V, F, D) that have seen the real ones among them (mask (V, F))."""
        normed = self.ln_1(frames)
        frames = frames + self.attn(normed, normed, normed, key_padding_mask=~mask, need_weights=False)[0]
        hidden = self.mlp["c_fc"](self.ln_2(frames))
        grown: Tensor = frames + self.mlp["c_proj"](hidden * torch.sigmoid(1.702 * hidden))  # QuickGELU
        return grown


def text_tower(state: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Blocks and positions of a CLIP checkpoint's text tower, under the names that ``SeqTransf`` has for them."""
    for prefix in ("", "text."):  # text.: an open_clip model of its custom kind
        blocks = f"{prefix}transformer.resblocks."
        found = {
            f"blocks.{name.removeprefix(blocks)}": value.float()
            for name, value in state.items()
            if name.startswith(blocks)
        }
        if found and f"{prefix}positional_embedding" in state:
            return {**found, "positions": state[f"{prefix}positional_embedding"].float()}
    raise LabError(
        f"{source}: no CLIP text tower in these weights: transformer.resblocks.* and positional_embedding must be "
        "there; take OpenAI's file or open_clip's (transformers has other names)"
    )


def in_order(videos: Videos, dim: int) -> tuple[Tensor, Tensor]:
    """Frames (V, F, D) with the real ones first, in their order, zeros behind them; and the mask (V, F) of that."""
    frames, mask = clean_frames(videos, dim), videos.frame_mask
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    return frames.gather(1, order[..., None].expand_as(frames)), mask.gather(1, order)


def mean_direction(frames: Tensor, mask: Tensor) -> Tensor:
    """The direction (V, D) of the mean of real frames (V, F, D), each of length one."""
    units = F.normalize(frames, dim=-1).masked_fill(~mask[..., None], 0.0)
    return F.normalize(units.sum(1), dim=-1)


def _count(name: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise LabError(f"1 <= {name} <= {most} must hold, a whole number, got {name}={value!r}")
