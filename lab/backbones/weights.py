"""Where pretrained weights live on this machine, and where they are to be had.

Looked through in this order: the lab's own directory, the caches of the tools that people already have (clip,
panns_inference, the Hugging Face hub), and, only when a download was asked for, the network.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lab.download import Source, fetch
from lab.download.http import unreachable
from lab.errors import LabError

PROBE_S = 3.0


class AbsentWeightsError(LabError):
    """The network has a name, and its weights are not to be had here.

    ``by_hand`` says what is missing and where to put it, without options of a pass, which other commands lack.
    """

    by_hand = ""


_OPENAI = "https://openaipublic.azureedge.net/clip/models"
_ZENODO = "https://zenodo.org/record/3987831/files"  # CC BY 4.0
_B32 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"

WEIGHTS: dict[str, Source] = {
    "ViT-B-32-quickgelu:openai": Source(
        url=f"{_OPENAI}/{_B32}/ViT-B-32.pt",  # that part of the address is the file's SHA-256
        file="clip/ViT-B-32-quickgelu-openai.pt",
        what="OpenAI CLIP ViT-B/32",
        sha256=_B32,
    ),
    "cnn14": Source(
        url=f"{_ZENODO}/Cnn14_mAP%3D0.431.pth?download=1",
        file="panns/Cnn14_mAP=0.431.pth",
        what="PANN Cnn14",
        sha256="0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
        md5="541141fa2ee191a88f24a3219fff024e",
        size=327_428_481,
    ),
    "cnn14-16k": Source(
        url=f"{_ZENODO}/Cnn14_16k_mAP%3D0.438.pth?download=1",
        file="panns/Cnn14_16k_mAP=0.438.pth",
        what="PANN Cnn14 at 16 kHz",
        sha256="e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6",
        size=358_668_570,
    ),
    "cnn10": Source(
        url=f"{_ZENODO}/Cnn10_mAP%3D0.380.pth?download=1",
        file="panns/Cnn10_mAP=0.380.pth",
        what="PANN Cnn10",
        sha256="5240bdc47444e331bbeb54fd741d2b3f933a4526e84b0c17bf3593df94b13962",
        md5="bfb1f1f9968938fa8ef4012b8471f5f6",
    ),
    "cnn6": Source(
        url=f"{_ZENODO}/Cnn6_mAP%3D0.343.pth?download=1",
        file="panns/Cnn6_mAP=0.343.pth",
        what="PANN Cnn6",
        md5="e25e26b84585b14c7754c91e48efc9be",
    ),
}

DEFAULT_CLIP = "ViT-B-32-quickgelu:openai"
#: What open_clip's table says of it, so that its absence is known before open_clip's three seconds of imports.
_DEFAULT_PRETRAINED = {"url": WEIGHTS[DEFAULT_CLIP].url, "hf_hub": "timm/vit_base_patch32_clip_224.openai/"}


def require_default_clip(*, download: bool) -> Path:
    """The file of the default CLIP. Raises LabError as :func:`locate` does, at once."""
    model, _, tag = DEFAULT_CLIP.partition(":")
    return locate_tag(model, tag, _DEFAULT_PRETRAINED, download=download)


def weights_dir() -> Path:
    """The lab's directory of weights: ``$RETRIEVAL_LAB_WEIGHTS``, or ``~/.cache/retrieval-lab/weights``."""
    chosen = os.environ.get("RETRIEVAL_LAB_WEIGHTS")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "retrieval-lab" / "weights"


def locate(name: str, *, option: str, download: bool, elsewhere: Iterable[Path] = ()) -> Path:
    """The file of ``WEIGHTS[name]``, fetched first where ``download`` says so and it is nowhere yet.

    ``option`` is how a user names a file instead. Raises LabError that says what is missing, where it is to be had
    and where to put it; without ``download`` no network is touched.
    """
    source, root = WEIGHTS[name], weights_dir()
    for path in (root / source.file, *elsewhere):
        if path.is_file():
            return path
    if not download:
        raise _absent(f"{source.what} ({name})", source.url, root / source.file, option)
    try:
        return fetch(source, root)
    except LabError as error:
        raise _without(str(error), option) from error


def locate_tag(model: str, tag: str, pretrained: Mapping[str, Any], *, download: bool) -> Path:
    """The file of an open_clip ``model`` and ``tag``, whose entry in open_clip's own table is ``pretrained``.

    Looks for ``clip/MODEL-TAG.safetensors|.pt|.bin`` in :func:`weights_dir`, in clip's cache and in the Hugging Face
    hub's. Raises LabError as :func:`locate` does.
    """
    stem = weights_dir() / "clip" / f"{model}-{tag}"
    url = str(pretrained.get("url") or "")
    ours = [stem.with_name(stem.name + suffix) for suffix in (".safetensors", ".pt", ".bin")]
    clips = [Path.home() / ".cache" / "clip" / Path(urlsplit(url).path).name] if "openaipublic" in url else []
    for path in (*ours, *clips):
        if path.is_file():
            return path
    if cached := _in_hub_cache(pretrained):
        return cached
    if f"{model}:{tag}" in WEIGHTS:
        return locate(f"{model}:{tag}", option=f"--clip {model}:FILE", download=download)
    hub = str(pretrained.get("hf_hub") or "")
    address = f"https://huggingface.co/{hub.rstrip('/')}" if hub else url
    if not download:
        raise _absent(f"CLIP {model}:{tag}", address, ours[0], f"--clip {model}:FILE")
    return _from_hub(pretrained, f"CLIP {model}:{tag}", ours[0]) if hub else _from_url(url, ours[1], model, tag)


def _absent(what: str, url: str, place: Path, option: str) -> LabError:
    absent = f"the weights of {what} are not on this machine"
    error = _without(
        f"{absent}: add --download to fetch {url}, or put that file at {place}, or name your own with {option}", option
    )
    error.by_hand = f"{absent}: put the file of {url} at {place}, or name your own with {option}"
    return error


def _without(told: str, option: str) -> AbsentWeightsError:
    """``told``, with the way to try everything on a machine that will not get the weights."""
    return AbsentWeightsError(f"{told}; {option.split()[0]} random tries the chain, its features mean nothing")


def _hub_files(pretrained: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The repository and the file names to try, safetensors first. ``org/name/`` stands for open_clip's defaults."""
    owner, _, rest = str(pretrained.get("hf_hub") or "").partition("/")
    name, _, file = rest.partition("/")
    if file:
        return f"{owner}/{name}", [str(Path(file).with_suffix(".safetensors")), file]
    return f"{owner}/{name}", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]


def _in_hub_cache(pretrained: Mapping[str, Any]) -> Path | None:
    """The file in the hub's cache on this disk. Never asks the network."""
    from huggingface_hub import try_to_load_from_cache

    if not pretrained.get("hf_hub"):
        return None
    repository, files = _hub_files(pretrained)
    for file in files:
        found = try_to_load_from_cache(repository, file)
        if isinstance(found, str):
            return Path(found)
    return None


def _from_hub(pretrained: Mapping[str, Any], what: str, place: Path) -> Path:
    from huggingface_hub import constants, hf_hub_download

    repository, files = _hub_files(pretrained)
    address = f"{constants.ENDPOINT}/{repository}"
    # The hub's client retries for the better part of a minute before it says that there is no network.
    if constants.HF_HUB_OFFLINE or unreachable([constants.ENDPOINT], PROBE_S):
        raise _without(f"cannot reach {address} for the weights of {what}: put them at {place}", "--clip")
    error: Exception | None = None
    for file in files:
        try:
            return Path(hf_hub_download(repository, file))
        except Exception as failure:  # the client's errors come from several libraries
            error = failure
    said = " ".join(str(error).split())[:160]
    raise LabError(f"cannot fetch the weights of {what} from {address}: {said}: put them at {place}") from error


def _from_url(url: str, place: Path, model: str, tag: str) -> Path:
    source = Source(url=url, file=str(place.relative_to(weights_dir())), what=f"CLIP {model}:{tag}")
    return fetch(source, weights_dir())
