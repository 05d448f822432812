"""``python -m lab.doctor``: which files will fail, found out before a GPU is booked.

    files ──► processes that look at each (lab.examine) ──► what will fail, counts, totals

Looking takes the headers, the packets and one decoded frame, some milliseconds a clip.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import cli
from lab.atomic import replace_text, require_replaceable
from lab.datasets import DATASETS, Collection, get_dataset
from lab.errors import LabError
from lab.examine import Finding, examine
from lab.workers import DecodePool, WorkerTimeout

log = logging.getLogger(__name__)

DEADLINE_S = 60.0
SHOWN = 10  # of a kind; --json has all
_GOOD_SOUND, _ODD_SOUND = ("present", "absent"), ("silent", "too_short", "truncated", "undecodable")
_DAMAGED = "will fail: get it again, or convert it (ffmpeg -i OLD NEW.mp4)"
_WRONG = "will fail: put a video in its place, or take it out"
_MEANINGS = {
    "ok": "will work",
    "truncated": "will work, with the frames that can be had",
    "missing": "will fail: get the file, or mend its name",
    "unreadable": "will fail: mend its permissions, or look after the disk",
    **dict.fromkeys(("undecodable", "timeout", "crashed"), _DAMAGED),
    "empty": "will fail: get it again",
}


@dataclass(frozen=True)
class Report:
    """Findings on every listed video, and what else is to be said of the data set."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def failing(self) -> tuple[Finding, ...]:
        """The videos that a pass would leave without frames."""
        return tuple(finding for finding in self.findings if finding.fails)


def doctor_dataset(
    name: str,
    root: Path,
    *,
    split: str | None = None,
    seed: int = 0,
    deep: bool = False,
    workers: int | None = None,
    limit: int | None = None,
) -> Report:
    """Looks at every video that a data set lists, or at the first ``limit`` that have a file.

    ``split`` and ``seed`` deal out a folder, as a pass with them would. Raises ``LabError`` where its lists or its root
    are not there.
    """
    collection = get_dataset(name).read(root, split=split, seed=seed)
    videos = collection.videos
    missing = [
        Finding(video.id, "", "missing", "no file of this name below the root") for video in videos if not video.file
    ]
    present = [(video.id, str(video.file)) for video in videos if video.file]
    found = doctor_files(present[:limit], deep=deep, workers=workers)
    ranks = {video.id: rank for rank, video in enumerate(videos)}
    findings = sorted([*missing, *found], key=lambda finding: ranks[finding.video])
    return Report(tuple(findings), (*collection.notes, *_unstudied(collection)))


def _unstudied(collection: Collection) -> Iterator[str]:
    """A note where a folder has captions and not the splits that a study takes."""
    found = collection.splits(collection.protocols[0])
    absent = [name for name in ("train", "val", "test") if not found.get(name, (0, 0))[1]]
    if collection.name == "folder" and collection.captions and absent:
        yield (
            f"no {', no '.join(absent)} split: searchable, no study (give captions.csv a split column with train, "
            "val and test, or deal them with --split 70/10/20, with the pass too)"
        )


def doctor_files(
    items: Sequence[tuple[str, str]], *, deep: bool = False, workers: int | None = None, deadline_s: float = DEADLINE_S
) -> list[Finding]:
    """Looks at (id, file) pairs through a pool of processes; a file that hangs or crashes its process is a finding."""
    if not items:
        return []
    job = functools.partial(examine, deep=deep, deadline_s=deadline_s)
    count = min(workers or os.cpu_count() or 1, len(items))
    findings: list[Finding] = []
    with (
        DecodePool(count, job, deadline_s=5 * deadline_s) as pool,
        cli.bar(len(items), "files", "file") as shown,
    ):
        for (video, file), outcome in pool.run(items, ahead=4 * count):
            if isinstance(outcome, Exception):
                status = "timeout" if isinstance(outcome, WorkerTimeout) else "crashed"
                outcome = Finding(video, file, status, str(outcome))
            findings.append(outcome)
            shown.update()
    return findings


def render(report: Report) -> str:
    """What will fail, what is odd, the notes of the data set, and a table of counts at the end."""
    lines = [*_failures(report), *_oddities(report), *_notes(report)]
    return "\n".join([*(line.replace("\n", "\\n") for line in lines), *_counts(report)])  # file names may break lines


def _failures(report: Report) -> Iterable[str]:
    """The failing videos by status and reason; a long list is cut, since --json has it whole."""
    groups: dict[tuple[str, str], list[str]] = {}
    for finding in report.failing:
        groups.setdefault((finding.status, finding.reason), []).append(finding.video)
    for (status, reason), videos in sorted(groups.items()):
        more = f", and {len(videos) - SHOWN:,} more (--json FILE names them)" if len(videos) > SHOWN else ""
        yield f"will fail, {status}: {reason} ({len(videos):,})"
        yield f"  {', '.join(videos[:SHOWN])}{more}"


def _oddities(report: Report) -> Iterable[str]:
    odd = [(finding.video, remarks) for finding in report.findings if not finding.fails and (remarks := _odd(finding))]
    if odd:
        yield f"will work, but look at them ({len(odd):,}):"
        yield from (f"  {video}  {'; '.join(remarks)}" for video, remarks in odd[:SHOWN])
        if len(odd) > SHOWN:
            yield f"  ... and {len(odd) - SHOWN:,} more (--json FILE has them all)"


def _odd(finding: Finding) -> list[str]:
    cut = [f"truncated: {finding.reason}"] if finding.status == "truncated" else []
    return [*cut, *finding.remarks, *([f"sound is {finding.audio}"] if finding.audio in _ODD_SOUND else [])]


def _notes(report: Report) -> Iterable[str]:
    if report.notes:
        yield "the data set:"
        yield from (f"  {note}" for note in report.notes)


def _counts(report: Report) -> Iterable[str]:
    counts = Counter(finding.status for finding in report.findings)
    order = sorted(counts, key=lambda status: (status not in ("ok", "truncated"), status))
    yield cli.table(["status", "videos", ""], [[s, f"{counts[s]:,}", _MEANINGS.get(s, _WRONG)] for s in order])
    good = [finding for finding in report.findings if not finding.fails]
    sound = Counter(finding.audio for finding in good)
    said = ", ".join(f"{name} {sound[name]:,}" for name in (*_GOOD_SOUND, *_ODD_SOUND) if sound[name])
    yield f"audio: {said or 'nothing to hear'}"
    yield f"total: {_clock(sum(f.duration_s for f in good))} of video, {sum(f.bytes for f in good):,} bytes"
    yield f"{len(report.failing):,} of {len(report.findings):,} will fail"


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


def _say_of_weights() -> None:
    """Whether a pass would stop for the weights of its usual image tower, on this machine."""
    from lab.backbones.weights import AbsentWeightsError, require_default_clip

    try:
        require_default_clip(download=False)
    except AbsentWeightsError as error:
        log.warning("a pass here needs weights: %s", error)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Exit code 1 if any video will fail."""
    parser = cli.parser(
        "lab.doctor",
        "Look at video files and list those that a caching pass will fail on.",
        "python -m lab.doctor --dataset msvd --root /data/msvd --json findings.json",
    )
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="video files, in place of a data set")
    add("--dataset", help=f"one of {', '.join(DATASETS)}")
    add("--root", type=Path, help="where its videos and captions are (default: data/DATASET)")
    add("--split", help="folder without splits: percentages of train/val/test, as in 70/10/20")
    add("--seed", type=int, default=0, help="seed of --split (default: %(default)s)")
    add("--deep", action="store_true", help="decode the last frame and all sound too (slower)")
    add("--workers", type=int, help="processes (default: one a core)")
    add("--limit", type=int, help="look at no more than so many files")
    add("--json", type=Path, metavar="FILE", help="write a row for every video, as a JSON list")
    given = parser.parse_args(argv)
    if bool(given.files) == bool(given.dataset):
        raise LabError("either FILEs or --dataset, and not both: name what to look at")
    if given.files and given.split:
        raise LabError("--split is for --dataset folder: leave it out")
    for name in ("workers", "limit"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            raise LabError(f"--{name} must be at least 1, got {getattr(given, name)}")
    if given.json and not given.json.absolute().parent.is_dir():
        raise LabError(f"--json {given.json}: its directory does not exist; make it first")
    if given.json:
        require_replaceable(given.json, links=False)
    if given.dataset:
        root = given.root or Path("data") / get_dataset(given.dataset).name
        report = doctor_dataset(
            given.dataset,
            root,
            split=given.split,
            seed=given.seed,
            deep=given.deep,
            workers=given.workers,
            limit=given.limit,
        )
    else:
        items = [(file, file) for file in given.files[: given.limit]]
        report = Report(tuple(doctor_files(items, deep=given.deep, workers=given.workers)))
    if given.json:
        rows = [asdict(finding) | {"fails": finding.fails} for finding in report.findings]
        replace_text(given.json, json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
    cli.say(render(report))
    if given.dataset not in (None, "toy"):
        _say_of_weights()
    return 1 if report.failing else 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
