"""A typed query as heads see it: text in, ``Texts`` out, by the text tower that made a store's captions.

Whatever is typed gets an answer or one line: nothing at all is refused, a text beyond the tower's context is cut with a
note, and a text in a script that the tower was not trained on is answered with a note.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from lab.embeddings import Texts
from lab.errors import LabError
from lab.store import Store

if TYPE_CHECKING:
    from lab.backbones.clip import ClipBackbone

#: Characters of a query that are looked at, several times what the longest context holds: the tokenizer takes time that
#: grows with the square of a word's length.
READ = 2000
#: What of a backbone's passport must be as the store has it. The rest (versions, precision) moves the last digits.
SAME = ("weights_sha256", "config_sha256", "activation", "dim", "context_length")


@dataclass(frozen=True)
class Query:
    """A typed text: ``texts`` (T = 1, with words), its words, which word each token is of (W,), and what to say of it.

    Features are rounded to the store's float16, so that a caption that is typed is the caption that was stored.
    """

    text: str
    texts: Texts
    words: tuple[str, ...]
    word_of_token: NDArray[np.int64]
    notes: tuple[str, ...]


class Encoder:
    """A store's own text tower, loaded when it is made. Raises ``LabError`` where its weights cannot be had.

    ``clip``: the backbone as ``lab.cache --clip`` names it, for a store whose passport tells a file's name and not
    where it lies.
    """

    def __init__(self, store: Store, clip: str | None = None) -> None:
        self.clip = load_tower(store, clip)

    def __call__(self, text: str) -> Query:
        """The query. Raises ``LabError`` where nothing is left of it to look for."""
        shown = " ".join(text.encode("utf-8", "replace").decode().split())
        found = self.clip.encode_texts([shown[:READ]])
        count = int(found.tokens.counts[0])
        if count == 0:
            raise LabError(f"a query must have at least one word, got {shown[:40]!r}: type what the video should show")
        words = torch.from_numpy(found.words).half().float()[None]
        texts = Texts(torch.from_numpy(found.sentences).half().float(), words)
        notes = []
        if bool(found.tokens.truncated[0]) or len(shown) > READ:
            spelled = found.tokens.words()[0]
            notes.append(
                f"the query is longer than the text tower reads: cut after {len(spelled)} words, at '{spelled[-1]}'"
            )
        if foreign(shown):
            notes.append("the text tower was trained on English: for another script its answers mean little")
        return Query(
            shown, texts, tuple(found.tokens.words()[0]), found.tokens.word_index.astype(np.int64), tuple(notes)
        )


def foreign(text: str) -> bool:
    """Whether most letters of a text are of another script than English.

    >>> foreign("a dog"), foreign("ein Äpfelchen"), foreign("собака"), foreign("123")
    (False, False, True, False)
    """
    letters = [character for character in text[:READ] if character.isalpha()]
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return latin < len(letters) / 2


def load_tower(store: Store, clip: str | None = None) -> ClipBackbone:
    """The CLIP that encoded a store's captions. Raises ``LabError`` where it cannot be had, or is another one."""
    from lab.backbones import load_clip  # here, because it costs open_clip's imports

    wanted: dict[str, Any] = store.passport.get("text") or store.passport.get("frames") or {}
    name = clip or str(wanted.get("name", ""))
    remedy = "name it with --clip MODEL:WEIGHTS, as python -m lab.cache was told"
    if not name or (clip is None and "weights_sha256" not in wanted):
        raise LabError(f"{store.path} does not say which network encoded its captions, so no query can be: {remedy}")
    try:
        tower = load_clip(name)
    except LabError as error:
        if clip is not None:
            raise
        by_hand = getattr(error, "by_hand", "")  # of absent weights, which the command that searches cannot fetch
        told = by_hand or f"{error}; {remedy}"
        raise LabError(
            f"the captions of {store.path} were encoded by '{name}', which cannot be loaded: {told}"
        ) from None
    differing = [key for key in SAME if key in wanted and tower.passport.get(key) != wanted[key]]
    if differing or tower.dim != store.array("frames").shape[2]:
        raise LabError(
            f"{name} is not the network that encoded the captions of {store.path}, '{wanted.get('name', 'unknown')}': "
            f"{', '.join(differing) or 'dim'} differ; {remedy}"
        )
    return tower
