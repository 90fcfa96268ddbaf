"""Files that a command would write, held against those that it reads: no work ends by overwriting what it was for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from certnet.core.errors import OutputError

__all__ = ["require_apart"]

Files = Mapping[str, Path | str | None]


def require_apart(outputs: Files, inputs: Files) -> None:
    """Refuse an output that is one of the inputs, or two outputs in one file, whatever the paths are written like.

    Both map what a file is, as a user would say it, to its path; None where nothing is given. An output may not lie
    in a folder that is read as a table either, under the name of one of its files.

    Raises
    ------
    OutputError
    """
    written = {what: Path(path) for what, path in outputs.items() if path is not None}
    read = {what: Path(path) for what, path in inputs.items() if path is not None}
    for what, path in written.items():
        for source, other in read.items():
            if _same(path, other) or _part(path, other):
                raise OutputError(
                    f"{path} is {source}, which this command reads, and {what} would overwrite it: name another file"
                )
    for (what, path), (second, other) in combinations(written.items(), 2):
        if _same(path, other):
            raise OutputError(f"{what} and {second} are both {path}: name two files")


def _same(path: Path, other: Path) -> bool:
    """By the files themselves, where both are there, else by their paths without links and dots."""
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):  # one is not there yet, or its name is none
        return _resolved(path) == _resolved(other)


def _part(path: Path, folder: Path) -> bool:
    """Is it a file of a table that is a folder?"""
    if not (folder.is_dir() and path.is_file()):
        return False
    from certnet.rows.parquet_ import PARQUET  # here: few tables are folders

    return path.suffix.lower() in PARQUET and _resolved(folder) in _resolved(path).parents


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, a loop of links
        return path.absolute()
