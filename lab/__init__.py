"""A precomputed-feature lab for text-video retrieval.

    videos + captions ──► media ──► backbones ──► FEATURE STORE ──► heads ──► similarity ──► ranks, R@k
       datasets           decode     frozen        zarr + passport   light     texts × videos   metrics

Frozen networks run once over a collection and leave a store (``python -m lab.cache``); everything after that reads the
store. What is named here is the public part of the second half, and imports no codec and no backbone.
"""

from lab.embeddings import RaggedWords, Texts, Videos
from lab.errors import LabError
from lab.heads import build_head
from lab.metrics import retrieval_metrics
from lab.store import Store, open_store

__all__ = ["LabError", "RaggedWords", "Store", "Texts", "Videos", "build_head", "open_store", "retrieval_metrics"]
