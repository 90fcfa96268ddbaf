"""The state of a long run in a file, taken up again after a kill: the file is whole, and of this very run."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from certnet.core.archives import check_archive
from certnet.core.errors import FileFormatError, InvalidInputError
from certnet.core.files import check_writable, write_atomic

__all__ = ["Checkpoint", "Plain", "State"]

Plain = str | int | float | bool | None
"""What a state holds beside arrays; numbers come back exactly."""

State = Mapping[str, NDArray[Any] | Plain]

_FORMAT: Final = "certnet-run-1"
_SHORT: Final = 40  # characters of a value that a message shows


@dataclass(frozen=True)
class Checkpoint:
    """A file, and what a run must share with it to go on from it.

    Attributes
    ----------
    path : Path
    identity : str
        JSON of an object: what makes a run what it is, each under a word that a user knows, such as "network", "data",
        "weight", "options". Digests for what is large.
    """

    path: Path
    identity: str

    @classmethod
    def at(cls, path: str | os.PathLike[str], identity: Mapping[str, Any]) -> Self:
        """The checkpoint of a run; nothing is written yet.

        Raises
        ------
        OutputError
            The folder is missing or cannot be written to.
        """
        return cls(check_writable(path, force=True), json.dumps(dict(identity), sort_keys=True))

    def save(self, state: State) -> None:
        """Write the state: the file holds this one or the one before, never a part, whenever the process ends.

        Raises
        ------
        InvalidInputError
            An array of objects, which could be read as a pickle alone.
        OutputError
            The file cannot be written; the state before is still there.
        """
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        for name, array in arrays.items():
            if array.dtype.hasobject:
                raise InvalidInputError(f"{name} is an array of objects: a checkpoint holds numbers and words")
        told = {
            "format": _FORMAT,
            "identity": json.loads(self.identity),
            "arrays": list(arrays),
            "plain": {name: value for name, value in state.items() if name not in arrays},
        }
        buffer = io.BytesIO()
        np.savez(buffer, *arrays.values(), told=np.array(json.dumps(told)))  # arr_0, arr_1, …
        write_atomic(self.path, buffer.getvalue(), force=True)

    def load(self) -> dict[str, Any] | None:
        """The state that was saved last; None where there is no file yet.

        Raises
        ------
        InvalidInputError
            The file is of another run; the message says what differs.
        FileFormatError
            The file is damaged, or no checkpoint.
        """
        if not self.path.exists():
            return None
        told, arrays = _content(self.path)
        self._compare(told["identity"])
        return {**told["plain"], **dict(zip(told["arrays"], arrays, strict=True))}

    def _compare(self, theirs: dict[str, Any]) -> None:
        mine = json.loads(self.identity)
        missing = object()
        differing = [
            _difference(word, theirs.get(word), mine.get(word))
            for word in sorted({*mine, *theirs})
            if theirs.get(word, missing) != mine.get(word, missing)
        ]
        if differing:
            raise InvalidInputError(
                f"{self.path} is the checkpoint of another run, which differs in {', '.join(differing)}: name another "
                "file, delete it to start anew, or restore what was changed"
            )


def _difference(word: str, theirs: Any, mine: Any) -> str:
    """The word, and both values where they are short."""
    values = [json.dumps(value) for value in (theirs, mine)]
    return f"{word} ({values[0]} there, {values[1]} here)" if max(map(len, values)) <= _SHORT else word


def _content(source: Path) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """What a checkpoint tells, and its arrays."""
    try:
        with source.open("rb") as handle:
            check_archive(handle, source)
            with np.load(handle, allow_pickle=False) as file:
                told = json.loads(str(file["told"]))
                if not isinstance(told, dict) or told.get("format") != _FORMAT:
                    raise FileFormatError(f"{source} is not a checkpoint of a run ({_FORMAT})")
                return told, [file[f"arr_{k}"] for k in range(len(told["arrays"]))]
    except FileFormatError:
        raise
    except KeyError as error:
        raise FileFormatError(f"{source} is not a checkpoint of a run ({_FORMAT})") from error
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise FileFormatError(f"{source} is not a readable checkpoint (truncated or of another format)") from error
