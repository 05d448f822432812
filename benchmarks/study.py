"""What a search costs beside its trainings: 200 trials of k × temperature × fusion weight, storage included.

python benchmarks/study.py [--trials 200]

A store of the size of MSVD's validation split: 100 videos × 12 frames × 512 with one vector of sound (2048) each, 4,290
captions. CMFI over softmax pooling is trained once, for one epoch on 32 captions, which is not counted; then every
trial is scored exactly. The study's own journal file is used. Writes benchmarks/results/study.json.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import envelope
import numpy as np

from lab.datasets import Caption, Collection, Video
from lab.store import UNIT_CAPTIONS, UNIT_VIDEOS, open_store
from lab.store.create import create_store
from lab.store.writer import AudioRow, FrameRow, StoreWriter
from lab.studies.cached import Cached
from lab.studies.files import read_study
from lab.studies.guard import SealedStore
from lab.studies.search import search
from lab.studies.splits import Splits
from lab.studies.storage import open_storage

TRAIN, VAL, CAPTIONS, FRAMES, D, A, BOUND_S = 32, 100, 4290, 12, 512, 2048, 20.0


def make_store(path: Path) -> None:
    """Random features in which a caption has a little of its video."""
    rng = np.random.default_rng(0)
    split = ["train"] * TRAIN + ["val"] * VAL
    owners = [*range(TRAIN), *np.sort(rng.integers(TRAIN, TRAIN + VAL, CAPTIONS)).tolist()]
    videos = tuple(Video(f"v{v:03d}", None, {"all": split[v]}) for v in range(TRAIN + VAL))
    captions = tuple(Caption(o, f"caption {t}", {"all": split[o]}) for t, o in enumerate(owners))
    create_store(path, Collection("sizes", path.parent, videos, captions, ("all",), ()), {"name": "sizes"})
    writer, T = StoreWriter(path), len(captions)
    writer.add_frames({"model": "none", "random": True}, FRAMES, D)
    writer.add_text({"model": "none", "random": True, "logit_scale": 100.0}, D, np.ones(T, int), np.zeros(T, int),
                    np.zeros(T, int))  # fmt: skip
    writer.add_audio({"model": "none", "random": True}, 1, A)
    subject = rng.standard_normal((len(videos), D), np.float32)
    for first in range(0, len(videos), UNIT_VIDEOS):
        rows = range(first, min(first + UNIT_VIDEOS, len(videos)))
        frames = [subject[v] + 2 * rng.standard_normal((FRAMES, D), np.float32) for v in rows]
        writer.write_frames(first, [FrameRow(f, np.arange(FRAMES) / 4, (b"",) * FRAMES, 3.0) for f in frames])
        sound = [rng.standard_normal((1, A), np.float32) for _ in rows]
        writer.write_audio(first, [AudioRow(each[0], each, "present") for each in sound])
    read = subject[owners] + 3 * rng.standard_normal((T, D), np.float32)
    for start in range(0, T, UNIT_CAPTIONS):
        rows = np.arange(start, min(start + UNIT_CAPTIONS, T))
        writer.write_text(rows, read[rows], read[rows])


class Timed:
    """A method that notes how long each of its calls takes."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.took: list[float] = []

        def call(*args: Any, **keywords: Any) -> Any:
            begun = time.perf_counter()
            try:
                return method(*args, **keywords)
            finally:
                self.took.append(time.perf_counter() - begun)

        self.call = call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    trials = parser.parse_args().trials
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        make_store(Path(folder) / "sizes.zarr")
        sealed = SealedStore(open_store(Path(folder) / "sizes.zarr"))
        study = read_study("pooling_fusion", [f"trials={trials}", "audio_epochs=1"])
        splits = Splits(sealed, study, "cpu")
        begun, making, scoring = time.perf_counter(), Timed(Cached.__init__), Timed(Cached.metrics)
        with patch.object(Cached, "__init__", making.call), patch.object(Cached, "metrics", scoring.call):
            found = search(splits, open_storage(Path(folder) / "journal.log"), "overhead")
        made_s = sum(making.took)
        whole_s = time.perf_counter() - begun - made_s
        scoring_s = sum(scoring.took) / trials
        assert found is not None
        states = Counter(trial.state.name for trial in found.trials)
        assert states == {"COMPLETE": trials}, states
    result = {
        "what": f"{trials} trials of k, temperature, fusion weight: {VAL} videos, {CAPTIONS} captions, {FRAMES} frames",
        "search_s": round(whole_s, 2),
        "bound_s": BOUND_S * trials / 200,
        "scoring_ms_a_trial": round(1000 * scoring_s, 1),
        "asking_and_storing_ms_a_trial": round(1000 * (whole_s / trials - scoring_s), 1),
        "before_the_first_trial_s": round(made_s, 2),
    }
    for key, value in result.items():
        print(f"{key:32} {value}")
    envelope.write("study", result, trials=trials)


if __name__ == "__main__":
    main()
