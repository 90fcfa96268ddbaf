"""A training kept in a file after every epoch, and taken up again after a kill as if nothing had happened."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from certnet.core.errors import FileFormatError, InvalidInputError
from certnet.core.files import check_writable, path_of, write_atomic
from certnet.core.validation import Float
from certnet.lifted.learn.settings import Training
from certnet.lifted.learn.state import State
from certnet.lifted.network import LiftedNetwork
from certnet.networks.arrays import read_arrays

__all__ = ["Checkpoint", "stored_seed"]

_FORMAT: Final = "certnet-training-1"

_WHAT: Final = {
    "settings": "other settings",
    "start": "another starting network",
    "data": "other data",
    "seed": "another seed",
    "rule": "another rule of stopping",
}


@dataclass(frozen=True)
class Checkpoint:
    """A file, and what a training must share with it to go on from it.

    Attributes
    ----------
    path : Path
    identity : str
        JSON: settings, digest of the start, digest of the data, seed, rule of stopping.
    """

    path: Path
    identity: str

    @classmethod
    def at(
        cls,
        path: str | os.PathLike[str],
        net: LiftedNetwork,
        how: Training,
        data: tuple[Float | None, ...],
        seed: int,
        rule: Any,
    ) -> Self:
        """The checkpoint of a training on ``data``: inputs, targets, weights; nothing is written yet.

        Raises
        ------
        OutputError
            The folder is missing or cannot be written.
        """
        target = check_writable(path, force=True)
        told = {
            "format": _FORMAT,
            "settings": how.described(),
            "start": net.digest,
            "data": _digest(*data),
            "seed": seed,
            "rule": rule,
        }
        return cls(target, json.dumps(told, sort_keys=True))

    def save(self, state: State) -> None:
        """Write the state; the file holds the last finished epoch or the one before, never a part."""
        buffer = io.BytesIO()
        np.savez(buffer, identity=np.array(self.identity), **state.arrays())
        write_atomic(self.path, buffer.getvalue(), force=True)

    def restore(self, state: State) -> bool:
        """Bring ``state`` to where the file is; False where there is no file yet.

        Raises
        ------
        InvalidInputError
            The file is of a training with other settings, data, start or seed.
        FileFormatError
            The file is no checkpoint.
        """
        if not self.path.exists():
            return False

        def take(file: Mapping[str, Any], source: Path) -> None:
            self._compare(_identity(file, source), source)
            state.restored(file)

        read_arrays(self.path, take)
        return True

    def _compare(self, theirs: dict[str, Any], source: Path) -> None:
        mine = json.loads(self.identity)
        differing = [what for name, what in _WHAT.items() if theirs.get(name) != mine[name]]
        if differing:
            raise _Other(
                f"{source} is the checkpoint of a training with {', '.join(differing)}: name another file, delete "
                "it to start anew, or restore what was changed"
            )


class _Other(FileFormatError, InvalidInputError):
    """Passes through the reader of files as it is."""


def _identity(file: Mapping[str, Any], source: Path) -> dict[str, Any]:
    told = json.loads(str(file["identity"])) if "identity" in file else {}
    if not isinstance(told, dict) or told.get("format") != _FORMAT:
        raise FileFormatError(f"{source} is not a checkpoint of a training ({_FORMAT})")
    return told


def stored_seed(path: str | os.PathLike[str]) -> int | None:
    """The seed of the training whose checkpoint is at ``path``; None where there is no file."""
    if not path_of(path).exists():
        return None
    return read_arrays(path, lambda file, source: int(_identity(file, source)["seed"]))


def _digest(*arrays: Float | None) -> str:
    """SHA-256 over shapes, kinds and values, row blocks at a time."""
    sha = hashlib.sha256()
    for array in arrays:
        if array is not None:
            sha.update(f"{array.shape}{array.dtype.str}".encode())
            for first in range(0, len(array), 4096):
                sha.update(np.ascontiguousarray(array[first : first + 4096]).data)
    return sha.hexdigest()
