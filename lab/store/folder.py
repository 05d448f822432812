"""A directory as zarr writes to it, also on file systems that know no hard links, and so that a power cut spares it."""

from __future__ import annotations

import asyncio

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from lab.atomic import replace_bytes


class Folder(LocalStore):
    """zarr's own, but for how it writes a file, and how it finds out whether a group is there already.

    zarr renames a file that may not be on the disk yet, and a chunk that a power cut then empties has the rows of
    units before, too. And for every array that it makes it tries a hard link: exFAT, some network drives and Colab's
    refuse any. Nobody else writes metadata meanwhile: a new store has a name of its own, and room is made under
    ``lock.alone``.
    """

    def set_sync(self, key: str, value: Buffer) -> None:
        """See ``zarr.abc.store``, as of the others."""
        file = self.root / key
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(file, value.to_bytes())

    async def set(self, key: str, value: Buffer) -> None:
        """See ``zarr.abc.store``."""
        await asyncio.to_thread(self.set_sync, key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """See ``zarr.abc.store``."""
        if not (self.root / key).exists():
            await self.set(key, value)
