"""``python -m lab.evaluate RUN_OR_HEAD --dataset D --split S``: a trained run, or an untrained head, on a split.

    store ──► one split ──► exact similarities ──► ranks in both directions ──► table, parquet

A held-out split is logged before it is read (``lab.reads``), and the count stands below the table.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lab import cli
from lab.atomic import replace_bytes, replace_text, require_replaceable, require_room_for
from lab.caveats import caveats
from lab.choose import candidate, run_or_head, store_of
from lab.device import pick_device
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.metrics import DSL_SCALE, dual_softmax, ranks, summarise, v2t_ranks
from lab.reads import Reader, load_split
from lab.runs import RUNS, file_name, read_run
from lab.similarity import similarity_matrix
from lab.store import PRESENCE, Store
from lab.store.find import store_options
from lab.truth import against_truth, knows_truth, truth_table

log = logging.getLogger(__name__)

SHOWN = ("R@1", "R@5", "R@10", "MdR", "MnR", "MRR")

# -- the function ----------------------------------------------------------------------------------------------------


def evaluate(head: nn.Module, texts: Texts, videos: Videos, *, dsl: bool = False) -> dict[str, NDArray[np.float64]]:
    """Ranks by direction: ``t2v`` (T,), ``v2t groups`` and ``v2t captions`` (G,), as ``lab.metrics`` defines them.

    ``dsl`` adds ``t2v DSL`` and ``v2t DSL`` (groups): ranks after the dual softmax, which is transductive and stands
    apart. Raises ``LabError`` where the head and the features do not fit each other.
    """
    return ranked(similarity_matrix(head, texts, videos).numpy(), texts, dsl=dsl)


def ranked(similarity: NDArray[np.float32], texts: Texts, *, dsl: bool = False) -> dict[str, NDArray[np.float64]]:
    """What ``evaluate`` gives, of similarities (T, V) that are there already."""
    if texts.video is None:
        raise ValueError("texts must name their videos to be ranked")
    target = texts.video.cpu().numpy()
    found = {
        "t2v": ranks(similarity, target),
        "v2t groups": v2t_ranks(similarity, target, "groups"),
        "v2t captions": v2t_ranks(similarity, target, "captions"),
    }
    if dsl:
        found["t2v DSL"] = ranks(dual_softmax(similarity), target)
        found["v2t DSL"] = v2t_ranks(dual_softmax(similarity, over="videos"), target, "groups")
    return found


def own_sound(store: Store, texts: Texts, videos: Videos) -> NDArray[np.float64]:
    """1 where a text's own video (T,) has sound, 0 where it has none or is silent, NaN where that is unknown."""
    if texts.video is None or videos.rows is None:
        raise ValueError("texts and videos must be those of a store")
    if "audio" not in store.passport:
        return np.full(len(texts), np.nan)
    known = {"absent": 0.0, "silent": 0.0, "present": 1.0}
    of_code = np.full(len(PRESENCE), np.nan)
    of_code[[PRESENCE[name] for name in known]] = list(known.values())
    presence = store.read("audio_presence")[videos.rows.cpu().numpy()]
    return np.asarray(of_code[presence][texts.video.cpu().numpy()])


def by_sound(rank: NDArray[np.float64], store: Store, texts: Texts, videos: Videos) -> dict[str, NDArray[np.float64]]:
    """The ranks (T,) of texts whose own video has sound, and of those whose video has none, where there are both.

    All are ranked among all videos: only the queries are fewer.
    """
    heard = own_sound(store, texts, videos)
    found = {"t2v, own video with sound": rank[heard == 1], "t2v, own video without": rank[heard == 0]}
    return found if all(map(len, found.values())) else {}


def ranks_table(found: Mapping[str, NDArray[np.float64]]) -> str:
    """A line for each direction, or for each part of the queries."""
    digits = {name: 3 if name == "MRR" else 1 for name in SHOWN}
    rows = [
        [name, *(f"{summarise(rank)[m]:.{n}f}" for m, n in digits.items()), len(rank)] for name, rank in found.items()
    ]
    return cli.table(["direction", *SHOWN, "queries"], rows)


def write_ranks(
    file: Path, found: Mapping[str, NDArray[np.float64]], store: Store, texts: Texts, videos: Videos
) -> None:
    """Every query's rank as parquet: ``direction``, ``video`` (id), ``caption`` (row of the store), ``text``, ``rank``.

    For ``t2v`` the video is the query's true one; for ``v2t`` it is the query, and caption and text are null.
    """
    import polars as pl

    if texts.video is None or texts.rows is None or videos.rows is None:
        raise ValueError("texts and videos must be those of a store")
    target = texts.video.cpu().numpy()
    ids = np.array([store.videos[row]["id"] for row in videos.rows.tolist()], object)
    said = [store.captions[row]["text"] for row in texts.rows.tolist()]
    parts = []
    for direction, rank in found.items():
        t2v = direction.startswith("t2v")
        columns = {
            "direction": [direction] * len(rank),
            "video": ids[target if t2v else np.unique(target)].tolist(),
            "caption": texts.rows.tolist() if t2v else [None] * len(rank),
            "text": said if t2v else [None] * len(rank),
            "rank": rank.tolist(),
        }
        kinds = {"direction": pl.String, "video": pl.String, "caption": pl.Int64, "text": pl.String, "rank": pl.Float64}
        parts.append(pl.DataFrame(columns, schema=kinds))
    blob = io.BytesIO()
    pl.concat(parts).write_parquet(blob)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_bytes(file, blob.getvalue())


def write_similarity(file: Path, similarity: NDArray[np.float32], store: Store, texts: Texts, videos: Videos) -> None:
    """Similarities (T, V) as .npy; FILE.json has ``captions`` (T), ``videos`` (V).

    These are rows of the store's captions, and ids; ``texts`` (T) are what the captions say.
    """
    if texts.rows is None or videos.rows is None:
        raise ValueError("texts and videos must be those of a store")
    blob = io.BytesIO()
    np.save(blob, similarity)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_bytes(file, blob.getvalue())
    told = {
        "captions": texts.rows.tolist(),
        "texts": [store.captions[row]["text"] for row in texts.rows.tolist()],
        "videos": [store.videos[row]["id"] for row in videos.rows.tolist()],
    }
    replace_text(_rows_and_columns(file), json.dumps(told, ensure_ascii=False) + "\n")


def _rows_and_columns(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


# -- the command -----------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = cli.parser(
        "lab.evaluate",
        "Rank a split's videos for its captions and captions for its videos, with a trained run or an untrained head.",
        "python -m lab.evaluate topk --set top_k=3 --dataset msvd --split val",
    )
    add = parser.add_argument
    add("what", metavar="RUN_OR_HEAD", help="a run (a directory, or its name under --runs), or a head's name")
    store_options(parser)
    add("--split", default="test", help="default: %(default)s")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a keyword of an untrained head")
    add("--dsl", action="store_true", help="also rank after a dual softmax over all queries (transductive)")
    add("--ranks", type=Path, metavar="FILE", help="where every query's rank goes, as parquet (default: in the run)")
    add("--similarity", type=Path, metavar="FILE", help="where similarities go, as .npy; rows, columns in FILE.json")
    add("--trust", action="append", default=[], metavar="NAME", help="let a run use this class of your own")
    add("--runs", type=Path, default=RUNS, help="directory of runs (default: %(default)s)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, auto (default: %(default)s)")
    given = parser.parse_args(argv)
    _require_files(given)
    path = run_or_head(given.what, given.runs)
    run = read_run(path) if path is not None else None
    store = store_of(path, given)
    protocol = given.protocol or store.protocols[0]
    if run is not None and given.protocol is None and run.protocol in store.protocols:
        protocol = run.protocol
    one = candidate(path or given.what, store, given.set, given.trust)
    one.head.to(pick_device(given.device))
    reader = Reader(cli.typed("lab.evaluate", argv), one.label, str(one.run) if one.run else None)
    home = one.run or given.runs / "untrained" / file_name(one.label)
    which = file_name(f"ranks-{store.path.name.removesuffix('.zarr')}-{protocol}-{given.split}")
    file = given.ranks or home / f"{which}.parquet"
    if given.ranks or find_spec("polars"):  # without it ranks are not written, nor asked for where they go
        _require_writable(file)
    texts, videos = load_split(store, given.split, protocol, needs=one.needs, reader=reader)
    found = ranked(similarity := similarity_matrix(one.head, texts, videos).numpy(), texts, dsl=given.dsl)
    cli.say(f"{one.label} on the split '{given.split}' of {store.path} ({protocol}), {len(videos)} videos")
    cli.say(ranks_table(found | by_sound(found["t2v"], store, texts, videos)))
    if knows_truth(store, texts):
        try:
            cli.say(truth_table(against_truth(one.head, store, texts, videos, found["t2v"])))
        except LabError as error:  # a head of one's own whose weights are none still has its ranks
            log.warning("%s", error)
    if given.dsl:
        cli.say(
            "DSL is transductive: a query's rank depends on the other queries, so these lines stand apart; its softmax "
            f"is over {DSL_SCALE:g} × cosine (CAMoE's code divides by 1000 unless told otherwise, which changes less)"
        )
    for line in caveats(store, given.split, protocol, run):
        cli.say(line)
    if given.similarity is not None:
        write_similarity(given.similarity, similarity, store, texts, videos)
        log.info("similarities, captions × videos: %s; which they are: %s.json", given.similarity, given.similarity)
    try:
        write_ranks(file, found, store, texts, videos)
        log.info("every query's rank: %s", file)
    except ModuleNotFoundError as error:
        log.warning("%s is not installed, so the ranks of single queries are not written", error.name)
    return 0


def _require_files(given: argparse.Namespace) -> None:
    """Raises ``LabError`` for what nothing can be written to, before a held-out split is read."""
    for option, file, suffix in (("--ranks", given.ranks, ".parquet"), ("--similarity", given.similarity, ".npy")):
        if file is None:
            continue
        if file.is_dir():
            name = option.strip("-") + suffix
            raise LabError(f"{option} must be a file, {file} is a directory: {file / name} would do")
        if any(above.is_file() for above in file.parents):
            raise LabError(f"{option} must be a file in a directory, a part of {file} is a file: name another one")
        if file.suffix != suffix:
            raise LabError(f"{option} writes {suffix}, {file} is named otherwise: {file}{suffix} would do")
        _require_writable(file, links=False)
    if given.similarity is not None:
        require_replaceable(_rows_and_columns(given.similarity), links=False)


def _require_writable(file: Path, *, links: bool = True) -> None:
    """Raises ``LabError`` where a file cannot be put, by trying it, which leaves nothing; ``links`` as elsewhere."""
    require_replaceable(file, links=links)
    try:
        require_room_for(file)
    except OSError as error:
        raise LabError(
            f"{file} cannot be written ({error.strerror}): name one elsewhere with --ranks or --similarity"
        ) from None


if __name__ == "__main__":
    sys.exit(cli.run(main))
