"""Loading a split, or what heads need of it, and the log of held-out splits: whoever reads one leaves a line.

A test split answers one question honestly; each further look lets its answers leak into the next choice. So reads are
counted, and results print the count. ``NAME.zarr`` has its log beside it, in ``NAME.reads.jsonl``, a JSON object a
line: ``time`` (UTC), ``command``, ``head``, ``run`` (null for a head that was not trained), ``protocol``, ``split``,
``captions``, ``videos``. Training and choosing use ``train`` and ``val``, which are not counted, and cannot load
anything else.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from lab.embeddings import RaggedWords, Texts, Videos
from lab.errors import LabError, unknown
from lab.needs import Needs
from lab.store import Coverage, Store
from lab.store.find import pass_command
from lab.store.lock import NO_LOCKS

log = logging.getLogger(__name__)

#: Splits for training and for choosing, and that of a collection without splits, which has nothing held out.
OPEN = ("train", "val", "all")


@dataclass(frozen=True)
class Reader:
    """Who reads a held-out split: the command as it was typed, the head, and the trained run, if it is one."""

    command: str
    head: str
    run: str | None = None


def load_split(
    store: Store,
    split: str,
    protocol: str | None = None,
    *,
    needs: Needs | nn.Module | None = None,
    device: torch.device | str = "cpu",
    reader: Reader | None = None,
) -> tuple[Texts, Videos]:
    """A split in memory on a device. A held-out one is logged before it is read.

    ``needs``: what is read of it, or the head that needs it (``Needs.of(head)``); by default all that there is, as by
    ``Store.load``.

    Raises ``LabError`` where the store lacks the split, its features, or a modality that is needed, and where the log
    cannot be written; ``ValueError`` for a held-out split without a ``reader``: that is how code that trains or
    chooses cannot reach it.
    """
    require_split(store, split, protocol)
    require_captions(store)
    if isinstance(needs, nn.Module):
        needs = Needs.of(needs)
    _require_modalities(store, needs or Needs())
    held = store.coverage(split, protocol)
    if not held.videos:
        raise store.nothing_of(split, protocol)
    if not held.captions:
        raise LabError(f"no caption of split '{split}' has features in {store.path}: run the pass on it first")
    if split not in OPEN:
        if reader is None:
            raise ValueError(f"split '{split}' is held out: only a final evaluation reads it, and says who reads")
        _log(store, split, protocol or store.protocols[0], reader, held)
    texts, videos = store.load(split, protocol, **({} if needs is None else asdict(needs)))
    if needs is not None and needs.words:
        texts = _with_words(store, split, texts)
    return texts.to(device), videos.to(device)


def _with_words(store: Store, split: str, texts: Texts) -> Texts:
    """Captions that have words, for a head that reads them; without, one can be no sample, but stays a query."""
    if not isinstance(texts.words, RaggedWords) or not texts.words.counts.any():
        raise LabError(f"{store.path} holds no words, which this head reads: a pass of python -m lab.cache makes them")
    has = texts.words.counts > 0
    if split == "train" and not has.all():
        log.warning("%d captions without a word are left out of the training: this head reads words", (~has).sum())
        return texts.select(has.nonzero().flatten())
    return texts


def require_split(store: Store, split: str, protocol: str | None = None) -> None:
    """Raises ``LabError`` where a protocol has no such split."""
    known = store.splits_of(protocol)
    if split not in known and split not in ("train", "val", "test"):
        raise unknown(f"split of {store.name}", split, known)
    if split not in known:
        if any("imported" in section for section in store.passport.values()):
            raise LabError(
                f"there is no split '{split}', {store.path} has {', '.join(known)}: convert again with --force, with a "
                "split for each caption of --captions, or with --dataset folder and --split 70/10/20"
            )
        column = "a split column" if known == ("all",) else f"rows of split {split} too"
        raise LabError(
            f"there is no split '{split}', {store.path} has {', '.join(known)}: give captions.csv {column}, or let "
            "--split 70/10/20 deal (in place of a column), and cache the folder again with another --name"
        )


def require_captions(store: Store) -> None:
    """Raises ``LabError`` where the data set that a store was made of has no caption at all."""
    if not store.captions:
        raise LabError(
            f"{store.path} is of videos without captions, which can be searched and not ranked: put captions.csv "
            f"beside the videos and make another store, with python -m lab.cache --dataset {store.name} --name NAME"
        )


def _require_modalities(store: Store, needs: Needs) -> None:
    if "text" not in store.passport:
        raise LabError(f"{store.path} has captions without features: add those with {pass_command(store, 'text')}")
    if needs.audio is not None:
        require_audio(store)


def require_audio(store: Store) -> None:
    """Raises ``LabError`` where a store has no sound for a head that hears."""
    if "audio" not in store.passport:
        raise LabError(
            f"{store.path} holds no audio, which this head reads: add it with {pass_command(store, 'audio')}"
        )


# -- the log ---------------------------------------------------------------------------------------------------------


def log_file(store: Store) -> Path:
    """Where the reads of a store's held-out splits are written down."""
    path = store.path.absolute()
    return path.with_name(path.name.removesuffix(".zarr") + ".reads.jsonl")


def count_reads(store: Store, split: str) -> int:
    """How often a held-out split was read, under any protocol: those of one data set share most of their test videos.

    A line that cannot be understood counts too, for a look cannot be taken back.
    """
    try:
        lines = log_file(store).read_bytes().splitlines()
    except FileNotFoundError:
        return 0
    return sum(_is_of(line, split) for line in lines if line.strip())


def _is_of(line: bytes, split: str) -> bool:
    try:
        return bool(json.loads(line)["split"] == split)
    except (ValueError, KeyError, TypeError, RecursionError):
        return True


def _log(store: Store, split: str, protocol: str, reader: Reader, held: Coverage) -> None:
    file = log_file(store)
    row = {
        "time": datetime.now(UTC).isoformat("T", "seconds"),
        **asdict(reader),
        "protocol": protocol,
        "split": split,
        "captions": held.captions,
        "videos": held.videos,
    }
    line = json.dumps(row).encode() + b"\n"
    try:
        with file.open("ab+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # two evaluations may end at once
            end = stream.seek(0, os.SEEK_END)
            if end:
                stream.seek(end - 1)
                line = line if stream.read(1) == b"\n" else b"\n" + line  # a writer was killed within its line
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        help_by = "mount it with file locks (Lustre: -o flock)" if error.errno in NO_LOCKS else "make it writable"
        raise LabError(
            f"{file} cannot be written ({error.strerror}), and a test split is not read unless that is written down: "
            f"{help_by}, or link the store into a directory where that can be done, and name the link with --store"
        ) from None
