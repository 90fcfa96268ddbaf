"""Zip archives of arrays (``.npz``), measured before anything in them is unpacked.

A few megabytes may unpack to gigabytes. What the directory announces is summed, the header of every array must announce
the same, and what is too large, or grows too much, is refused. Reading gives no more than the directory announces.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy

from certnet.core.errors import FileFormatError

__all__ = ["MAX_UNPACKED_BYTES", "check_archive", "check_sizes"]

MAX_UNPACKED_BYTES: Final = 4 << 30
_SUSPICIOUS: Final = 1 << 28
_RATIO: Final = 200
_MAX_MEMBERS: Final = 100_000
_HEADERS: Final[dict[tuple[int, int], Any]] = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def check_archive(file: IO[bytes], source: Path, *, arrays: bool = True) -> None:
    """Refuse a zip archive whose members would take too much memory; the file's position is put back to its beginning.

    Parameters
    ----------
    file : binary file
    source : Path
        For messages.
    arrays : bool
        Are the members arrays in the NPY format? Then their headers must announce what the directory does.

    Raises
    ------
    FileFormatError
        More than 4 GiB altogether; more than 256 MiB and 200 times the size of the file; an array whose header
        announces another size; no zip archive, or a damaged one.
    """
    try:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            check_sizes(source, size, [member.file_size for member in members])
            for member in members if arrays else ():
                if member.filename.endswith(".npy"):
                    with archive.open(member) as content:
                        _check_header(content, member.file_size, f"{source} ({member.filename[:80]})")
        file.seek(0)
    except FileFormatError:
        raise
    # RuntimeError: encrypted; the others are what a damaged archive raises
    except (OSError, EOFError, ValueError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise FileFormatError(
            f"{source} is not a readable .npz file (truncated or of another format): {error}"
        ) from error


def check_sizes(source: Path, packed: int, unpacked: list[int]) -> None:
    """Refuse members of such sizes in a file of ``packed`` bytes.

    Raises
    ------
    FileFormatError
    """
    total = sum(unpacked)
    if len(unpacked) > _MAX_MEMBERS:
        raise FileFormatError(f"{source} has {len(unpacked)} members: at most {_MAX_MEMBERS} are read")
    if total > MAX_UNPACKED_BYTES or (total > _SUSPICIOUS and total > _RATIO * packed):
        raise FileFormatError(
            f"{source} has {packed / 2**20:.3g} MiB and unpacks to {total / 2**20:.3g} MiB: at most "
            f"{MAX_UNPACKED_BYTES >> 30} GiB are read, and beyond {_SUSPICIOUS >> 20} MiB at most {_RATIO} times the "
            "size of the file; save it without compression (numpy.savez)"
        )


def _check_header(content: IO[bytes], announced: int, where: str) -> None:
    """An array's header against the size of its member."""
    try:
        version = npy.read_magic(content)
        shape, _, dtype = _HEADERS[version](content)
    except KeyError as error:
        raise FileFormatError(f"{where} is of a version of the NPY format that certnet does not read") from error
    except (ValueError, TypeError, SyntaxError, RecursionError, OverflowError, MemoryError) as error:
        raise FileFormatError(f"{where} is no readable array (truncated or of another format): {error}") from error
    if np.dtype(dtype).hasobject:
        return  # refused where it is read, as a pickle
    size = math.prod(shape) * dtype.itemsize
    held = announced - content.tell()
    if any(n < 0 for n in shape) or len(shape) > 64 or size != held:
        raise FileFormatError(f"{where} announces {size} bytes and holds {held}: the file is damaged")
