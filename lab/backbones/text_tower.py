"""A CLIP text tower that gives every position of a caption in the joint space, and computes no padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lab.errors import LabError


class TextTower:
    """The parts of an open_clip text tower, run on the first L positions only.

    Attention is causal, so nothing behind the longest caption's end token reaches anything before it: leaving those
    positions out changes no result, and a batch of short captions costs a fifth of the padded 77.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        """Finds the parts on ``model`` (class CLIP) or on ``model.text`` (CustomTextCLIP).

        Raises LabError for a tower without word features in the joint space: another architecture, a bidirectional
        one (padding then reaches the words), another pooling than at the end token, no projection.
        """
        tower: Any = getattr(model, "text", model)
        pooling = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
        if (
            not isinstance(getattr(tower, "token_embedding", None), nn.Embedding)
            or getattr(tower, "attn_mask", None) is None
            or getattr(tower, "cls_emb", None) is not None
            or pooling != "argmax"
            or getattr(tower, "text_projection", None) is None
        ):
            raise LabError(
                f"word features need a causal text tower that pools at its end token, and {name} has another kind: "
                "use a model like ViT-B-32-quickgelu"
            )
        self._tower = tower
        self.context_length = int(tower.context_length)
        self.vocabulary = int(tower.token_embedding.num_embeddings)

    def __call__(self, ids: Tensor, counts: Tensor, *, total: int | None = None) -> tuple[Tensor, Tensor]:
        """Token ids (B, L) whose end token stands at ``counts + 1`` → sentences (B, D), words (``total``, D).

        ``total`` is the sum of counts (B,), for a caller who knows it: on a GPU, to ask for it is to wait for all that
        was begun before.
        """
        tower, length = self._tower, ids.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        hidden = tower.token_embedding(ids).to(dtype) + tower.positional_embedding[:length].to(dtype)
        hidden = tower.ln_final(tower.transformer(hidden, attn_mask=tower.attn_mask[:length, :length]))
        rows = torch.arange(len(ids), device=ids.device)
        total = int(counts.sum()) if total is None else total
        owner = rows.repeat_interleave(counts, output_size=total)
        place = torch.arange(total, device=ids.device) - (counts.cumsum(0) - counts)[owner] + 1
        return self._project(hidden[rows, counts + 1]), self._project(hidden[owner, place])

    def _project(self, hidden: Tensor) -> Tensor:
        projection = self._tower.text_projection
        projected: Tensor = projection(hidden) if isinstance(projection, nn.Linear) else hidden @ projection
        return projected
