"""The feature store: a zarr group on disk whose rows are videos and captions (``features/README.md`` has the schema).

``reader`` hands it out as tensors and needs zarr, NumPy and torch alone. ``writer`` fills it unit by unit; ``ledger``
is what became of each video, ``passport`` what the features depend on, ``lock`` who may write. ``verify`` and
``compare`` look at finished stores.
"""

from lab.store.reader import (
    CHUNK_VIDEOS,
    PRESENCE,
    SCHEMA,
    TABLES,
    UNIT_CAPTIONS,
    UNIT_VIDEOS,
    Coverage,
    Store,
    open_store,
)

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
