"""A directory as zarr writes to it, also on file systems that know no hard links."""

from __future__ import annotations

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore


class Folder(LocalStore):
    """zarr's own, but for how it finds out whether a group is there already.

    For every array that it makes it tries a hard link, and exFAT, some network drives and Colab's refuse any. Nobody
    else writes metadata meanwhile: a new store has a name of its own, and room is made under ``lock.alone``.
    """

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """See ``zarr.abc.store.Store``."""
        if not (self.root / key).exists():
            await self.set(key, value)
