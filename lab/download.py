"""Downloads over HTTP that resume, check what arrived, and never write outside their target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One file to be had at a public address, and where it goes below the root of its dataset."""

    url: str
    file: str
    what: str = ""
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None
    unpack: bool = False
