"""What a pass needs before it begins: data, networks, a store of the same passport.

Nothing is decoded here. ``lab.cache`` runs the pass on this machine, ``lab.cluster`` on several, ``estimate`` tells
what it would take.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lab.backbones import DEFAULT_PANNS, load_clip, load_panns
from lab.datasets import Collection, Dataset, get_dataset
from lab.datasets.toy import Toy
from lab.download import download
from lab.errors import LabError
from lab.extraction.loop import Decoding, Pass
from lab.extraction.options import MODALITIES, Options, clip_name, heard_s, sampling_for, store_path
from lab.preprocess import ImageSpec
from lab.sampling import Sampling, parse_sampling
from lab.store.changes import require_same_data
from lab.store.create import create_store
from lab.store.writer import StoreWriter

if TYPE_CHECKING:
    from lab.backbones.clip import ClipBackbone
    from lab.backbones.panns import PannsBackbone

log = logging.getLogger(__name__)

#: CPU seconds after which a file is given up.
DEADLINE_S = 120.0
#: Data sets whose distributed clips have no audio stream (facts of the MSVD authors and of collaborative-experts).
SOUNDLESS = frozenset({"msvd"})


def render(options: Options) -> None:
    """Renders what is missing of a data set that is made and not downloaded."""
    dataset = get_dataset(options.dataset)
    if isinstance(dataset, Toy) and set(options.only) != {"text"}:
        dataset.render(options.root or Path("data") / dataset.name)  # by all cores: nothing is decoded meanwhile


def collect(options: Options) -> tuple[Dataset, Collection]:
    """The data set and what of it is on this disk; its notes are logged. Raises ``LabError``."""
    dataset = get_dataset(options.dataset)
    root = (options.root or Path("data") / dataset.name).expanduser()  # --root=~/x leaves it to us
    if options.download and not _complete(dataset, root):
        download(dataset.name, dataset.sources, dataset.instructions, root)
    collection = dataset.read(root, split=options.split, seed=options.seed)
    for note in collection.notes:
        log.info("%s: %s", dataset.name, note)
    if collection.missing:
        shown = ", ".join(collection.missing[:3])
        log.info("%s: %d of %d videos have no file below %s (%s, ...): each is named in the ledger as missing",
                 dataset.name, len(collection.missing), len(collection.videos), root, shown)  # fmt: skip
    return dataset, collection


def backbones(options: Options, dataset: Dataset) -> tuple[ClipBackbone | None, PannsBackbone | None]:
    """The networks that the wanted modalities need. Raises ``LabError`` where their weights cannot be had."""
    wanted = set(options.only or MODALITIES)
    if options.device == "cpu" and torch.cuda.is_available():
        log.info("torch sees a GPU: --device cuda would encode on it")
    keywords: dict[str, Any] = {"device": options.device, "precision": options.precision, "download": options.download}
    clip = panns = None
    if wanted & {"frames", "text"}:
        batch = {"batch": options.batch} if options.batch else {}
        clip = load_clip(clip_name(options), **keywords, **batch)
    if "audio" in wanted:
        silent = dataset.name in SOUNDLESS
        usual = "toy" if dataset.name == Toy.name else DEFAULT_PANNS
        spec = options.panns or ("none" if silent else usual)
        if silent and options.panns is None:
            log.info("%s is distributed without sound: no audio features (--panns cnn14 to look for some all the same)",
                     dataset.name)  # fmt: skip
        panns = load_panns(spec, **keywords)
    for backbone in (clip, panns):
        if backbone is not None and backbone.is_random:
            log.warning("%s has RANDOM weights: its features mean nothing and the store says so", backbone.name)
    return clip, panns


def place(options: Options, collection: Collection) -> Path:
    """The store's path; a store with no features yet is made where there is none."""
    sampling = sampling_for(options)
    path = store_path(options, collection)
    if not (path / "zarr.json").exists():
        for found in sorted(path.parent.glob(path.name.replace(f"-{sampling.name}.zarr", "-*.zarr"))):
            log.info("%s is beside the new %s: to go on with that one, give the --sampling that its name ends with",
                     found, path.name)  # fmt: skip
        create_store(path, collection)
    return path


def prepare(
    path: Path, options: Options, collection: Collection, clip: ClipBackbone | None, panns: PannsBackbone | None
) -> Pass:
    """A pass that may run: the store is of the same passport and has room. Hold ``writing`` around it."""
    sampling = sampling_for(options)
    sections = passport_sections(clip, panns, sampling, options.only)
    writer = StoreWriter(path)
    require_same_data(writer.store, collection)
    # Every section is compared before anything is written: a pass that cannot go on must not leave a trace.
    for name, section in sections.items():
        writer.require_section(name, section)
    _require_one_span(path, {**writer.store.passport, **sections})
    make_room(writer, sections, collection, clip, panns, sampling)
    writer.refresh_files(collection)
    decoding = decoding_for(clip, sampling)
    return Pass(collection, writer, frozenset(sections), clip, panns, decoding, options.share, options.workers)


def _require_one_span(path: Path, sections: dict[str, dict[str, Any]]) -> None:
    """Raises ``LabError`` where frames and sound would be of other seconds."""
    frames, heard = sections.get("frames", {}), sections.get("audio", {}).get("max_audio_s")
    name = frames.get("sampling") if "imported" not in frames else None
    if name is None or heard is None or heard_s(parse_sampling(name)) == heard:
        return
    raise LabError(
        f"{path} has frames by sampling {name} and sound of the first {heard:g} s, or would: both must be of the same "
        "seconds, give the --sampling that it was made with"
    )


def decoding_for(clip: ClipBackbone | None, sampling: Sampling) -> Decoding:
    """How this pass decodes; without an image tower no picture is kept, so its size is nobody's."""
    return Decoding(sampling, clip.image if clip else ImageSpec(), DEADLINE_S, heard_s(sampling))


def passport_sections(
    clip: ClipBackbone | None, panns: PannsBackbone | None, sampling: Sampling, only: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """The passport's section for each modality of this pass."""
    decoder = {package: version(package) for package in ("av", "pillow")}
    sections: dict[str, dict[str, Any]] = {}
    wanted = set(only or MODALITIES)
    if clip is not None and "frames" in wanted:
        sections["frames"] = {**clip.passport, "sampling": sampling.name, "dtype": "float16", "decoder": decoder}
    if clip is not None and "text" in wanted:
        sections["text"] = {**{k: v for k, v in clip.passport.items() if k != "image"}, "dtype": "float16"}
    if panns is not None and "audio" in wanted:
        sections["audio"] = {**panns.passport, "dtype": "float16", "decoder": decoder, "max_audio_s": heard_s(sampling)}
    return sections


def make_room(
    writer: StoreWriter,
    sections: dict[str, dict[str, Any]],
    collection: Collection,
    clip: ClipBackbone | None,
    panns: PannsBackbone | None,
    sampling: Sampling,
) -> None:
    """Arrays for the modalities that the store does not have yet."""
    new = sections.keys() - writer.store.passport.keys()
    if "frames" in new and clip is not None:
        writer.add_frames(sections["frames"], sampling.n, clip.dim)
    if "text" in new and clip is not None:
        tokens = clip.tokenize([caption.text for caption in collection.captions])
        if tokens.truncated.any():
            log.info("%s: %d of %d captions are longer than the text tower reads, their ends are cut off",
                     collection.name, tokens.truncated.sum(), len(collection.captions))  # fmt: skip
        writer.add_text(sections["text"], clip.dim, tokens.counts, tokens.ids, tokens.word_index)
    if "audio" in new and panns is not None:
        writer.add_audio(sections["audio"], panns.max_segments, panns.dim)


def _complete(dataset: Dataset, root: Path) -> bool:
    """Whether everything is on this disk already; --download is then for the weights alone."""
    try:
        return not dataset.read(root).missing
    except LabError:
        return False
