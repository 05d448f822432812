"""The feature store: a zarr group on disk whose rows are videos and captions (``features/README.md`` has the schema).

``reader`` opens it and hands out its tables and arrays, and by ``split`` its splits as tensors; both need zarr, NumPy
and torch alone. ``create`` makes an empty one, ``room`` makes room for a modality, ``writer`` fills it unit by unit;
``layout`` is what the two sides agree on, ``folder`` what zarr writes to. ``ledger`` is what became of each video,
``passport`` what the features depend on, ``lock`` who may write. ``verify``, ``damage`` and ``compare`` look at what is
there.
"""

from lab.store.layout import CHUNK_VIDEOS, PRESENCE, SCHEMA, TABLES, UNIT_CAPTIONS, UNIT_VIDEOS
from lab.store.reader import Store, open_store
from lab.store.split import Coverage

__all__ = [
    "CHUNK_VIDEOS",
    "PRESENCE",
    "SCHEMA",
    "TABLES",
    "UNIT_CAPTIONS",
    "UNIT_VIDEOS",
    "Coverage",
    "Store",
    "open_store",
]
