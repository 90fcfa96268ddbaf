"""A path that is to be read, checked before any reader sees it."""

from __future__ import annotations

import os
from pathlib import Path

from certnet.core.errors import FileFormatError
from certnet.core.files import path_of

__all__ = ["readable_file"]


def readable_file(path: str | os.PathLike[str]) -> Path:
    """``path`` as a :class:`~pathlib.Path` to a file that exists and is not empty.

    Raises
    ------
    FileFormatError
        The path is missing, a folder, a device or pipe, empty, or cannot be looked at.
    """
    source = path_of(path)
    try:
        if source.is_dir():
            raise FileFormatError(f"{source} is a folder: name the model file in it")
        if not source.exists():
            raise FileFormatError(f"{source} does not exist: check the path")
        if not source.is_file():
            raise FileFormatError(f"{source} is not a regular file: copy the model to a file and name that")
        if source.stat().st_size == 0:
            raise FileFormatError(f"{source} is empty: write the model again, its writer was probably interrupted")
    except OSError as error:
        raise FileFormatError(f"{source} cannot be read: {error.strerror or error}") from error
    return source
