"""IDX files, the format of MNIST and its relatives: a magic number, sizes, bytes."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import FileFormatError
from certnet.core.files import path_of
from certnet.data.image_arrays import MAX_BYTES, LabelledImages, labelled

__all__ = ["read_idx", "read_idx_pair"]

_GZIP: Final = b"\x1f\x8b"
_UBYTE: Final = 8
_NAMES: Final = {9: "signed bytes", 11: "16-bit integers", 12: "32-bit integers", 13: "floats", 14: "doubles"}


def read_idx(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes: labels (N,), or images (N, h, w) or (N, h, w, c).

    The file is: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a big-endian
    32-bit integer, then the bytes in row-major order (LeCun, Cortes & Burges, the MNIST database). It may be gzipped,
    whatever its name.

    Returns
    -------
    ndarray of uint8, read-only

    Raises
    ------
    FileFormatError
        Missing, truncated, too long, corrupt, not an IDX file, of another type, of 2 or of more than 4 dimensions, or
        of more than 2 GiB.
    """
    source = path_of(path)
    try:
        with source.open("rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP
            if not packed:
                return _parse(raw, source)
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _parse(unpacked, source)
    except FileNotFoundError as error:
        raise FileFormatError(f"{source} does not exist: check the path") from error
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise FileFormatError(f"{source} cannot be read ({error}): get the file again") from error


def read_idx_pair(
    images: str | os.PathLike[str], labels: str | os.PathLike[str], n_classes: int | None = None
) -> LabelledImages:
    """Images and labels of two IDX files.

    Raises
    ------
    FileFormatError
        See :func:`read_idx` and :func:`certnet.data.image_arrays.labelled`.
    """
    return labelled(read_idx(images), read_idx(labels), f"{images} with {labels}", n_classes)


def _parse(file: BinaryIO | gzip.GzipFile, source: Path) -> NDArray[np.uint8]:
    shape = _shape(file, source)
    size = math.prod(shape)
    if size > MAX_BYTES:
        raise FileFormatError(f"{source} announces {shape} = {size} bytes, more than {MAX_BYTES}: it is too large")
    content = file.read(size + 1)  # one byte more tells a file that is too long, and checks the sum of a gzipped one
    if len(content) != size:
        found = "more" if len(content) > size else str(len(content))
        raise FileFormatError(
            f"{source} announces {shape} = {size} bytes and holds {found} (truncated or corrupt): get the file again"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _shape(file: BinaryIO | gzip.GzipFile, source: Path) -> tuple[int, ...]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\x00\x00":
        raise FileFormatError(f"{source} is not an IDX file: it begins with {magic!r}, two zero bytes are needed")
    kind, ndim = magic[2], magic[3]
    if kind != _UBYTE:
        held = _NAMES.get(kind, f"values of the unknown type {kind}")
        raise FileFormatError(f"{source} holds {held}: only unsigned bytes (type 8) are read; convert it")
    if ndim not in (1, 3, 4):
        raise FileFormatError(f"{source} has {ndim} dimension(s): 1 (labels), 3 or 4 (images) are needed")
    sizes = file.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise FileFormatError(f"{source} ends within its header (truncated): get the file again")
    return struct.unpack(f">{ndim}I", sizes)
