"""Trained heads on disk: a run is a directory, by default under ``studies/runs/``, which git ignores.

``head.safetensors``  the weights
``run.json``          what they are: head, keywords, dim, passport of the store, recipe, validation metrics; and what
                      made them: the command and versions
``log.jsonl``         a line for each epoch

A run may come from somebody else, so nothing in it is executed: weights are plain tensors, and a head that is not the
lab's own (``"my_module:MyHead"``, which means to import a module) is built only if its name is given again by the one
who loads it.

``record`` is what ``run.json`` says, in all its formats; ``places`` are names and where runs are found; ``save`` and
``load`` go to the disk and back.
"""

from lab.runs.load import UntrustedError, load_run, own_code
from lab.runs.places import RUNS, file_name, find_below, find_run, require_free, runs_below
from lab.runs.record import FORMAT, Run, read_run, sections
from lab.runs.save import require_room, save_run

__all__ = [
    "FORMAT",
    "RUNS",
    "Run",
    "UntrustedError",
    "file_name",
    "find_below",
    "find_run",
    "load_run",
    "own_code",
    "read_run",
    "require_free",
    "require_room",
    "runs_below",
    "save_run",
    "sections",
]
