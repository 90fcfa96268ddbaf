"""Networks in ``.npz`` files: read without pickles, whatever is wrong with the file told in one way."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from certnet.core.archives import check_archive
from certnet.core.errors import FileFormatError, InvalidInputError
from certnet.core.files import path_of
from certnet.networks.about import NOTHING, About, about_from_json

__all__ = ["about_in", "read_arrays"]

_MAX_FILE_BYTES = 4 << 30
_ARRAY = b"\x93NUMPY"
T = TypeVar("T")


def about_in(file: Mapping[str, Any]) -> About:
    """The words about a network in the arrays of its file; none where it has none.

    Raises
    ------
    ValueError
        They are not what a network's ``save`` writes.
    """
    return about_from_json(str(file["about"])) if "about" in file else NOTHING


def read_arrays(path: str | os.PathLike[str], parse: Callable[[Mapping[str, Any], Path], T]) -> T:
    """``parse(arrays, path)`` of an ``.npz`` file, read without pickles; whatever is wrong is a FileFormatError."""
    source = path_of(path)
    try:
        if source.stat().st_size > _MAX_FILE_BYTES:
            raise FileFormatError(f"{source} is larger than {_MAX_FILE_BYTES >> 30} GiB: not a network of certnet")
        with source.open("rb") as handle:
            if handle.read(4)[:2] == b"PK":
                check_archive(handle, source)
            handle.seek(0)
            if handle.read(6) == _ARRAY:
                raise FileFormatError(f"{source} holds one array, not a certnet network (.npz with W, b, V, c)")
            handle.seek(0)
            file = np.load(handle, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise FileFormatError(f"{source} holds one array, not a certnet network (.npz with W, b, V, c)")
            return parse(file, source)
    except FileFormatError:
        raise
    except InvalidInputError as error:
        raise FileFormatError(f"{source} holds no valid network: {error}") from error
    except FileNotFoundError as error:
        raise FileFormatError(f"{source} does not exist: check the path") from error
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        RuntimeError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        detail = "" if "pickle" in str(error) else f": {error}"  # NumPy recommends to load pickles unsafely
        raise FileFormatError(
            f"{source} is not a readable .npz file (truncated or of another format){detail}"
        ) from error
