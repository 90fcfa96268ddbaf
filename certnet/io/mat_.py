"""MATLAB's ``.mat`` files of version 5 to 7: an own reader of matrices and cells that trusts nothing in them."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from certnet.core.archives import MAX_UNPACKED_BYTES
from certnet.core.errors import FileFormatError, InvalidInputError, UnsupportedModelError
from certnet.io.paths import readable_file
from certnet.io.weight_lists import Activations, network_of_lists
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["load_mat"]

_MAX_BYTES: Final = 1 << 30
_GROWTH: Final = 200
_SMALL: Final = 1 << 28
# types of elements (MAT-File Format, table 1-1), and classes of arrays (table 1-3)
_NUMBERS: Final = dict(
    zip((1, 2, 3, 4, 5, 6, 7, 9, 12, 13), ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"))
)
_MATRIX, _COMPRESSED = 14, 15
_CELL, _NUMERIC = 1, range(6, 16)
_MAX_CELLS: Final = 4096


def load_mat(
    path: str | os.PathLike[str], *, activation: Activations | None = None, units: str = "as given"
) -> ShallowNetwork | FeedForward:
    """The network of the cell arrays ``weights`` and, if there are any, ``biases``, as LipSDP takes them.

    Matrices have the shapes (outputs, inputs); missing biases are zero, and a remark says so.

    Parameters
    ----------
    activation : str, or one for each hidden layer
        The file does not say it.

    Raises
    ------
    FileFormatError
        The file is missing, of MATLAB 7.3 (HDF5) or 4, truncated, damaged, or would unpack to too much.
    UnsupportedModelError
        No cell array ``weights``; no ``activation`` is given.
    InvalidInputError
        Matrices that do not fit, NaN or infinite numbers.
    """
    source = readable_file(path)
    try:
        if source.stat().st_size > _MAX_BYTES:
            raise FileFormatError(f"it is larger than {_MAX_BYTES >> 30} GiB, the most that certnet reads")
        variables = _variables(source.read_bytes())
        weights = variables.get("weights")
        if not isinstance(weights, list):
            held = ", ".join(map(repr, sorted(variables)[:8])) or "nothing that is read"
            raise UnsupportedModelError(f"it has no cell array 'weights' of matrices, as LipSDP takes: it has {held}")
        biases: list[Any] = next(
            (variables[name] for name in ("biases", "bias") if isinstance(variables.get(name), list)), []
        )
        return network_of_lists(
            {f"weights{{{k + 1}}}": W for k, W in enumerate(weights)},
            {f"biases{{{k + 1}}}": b for k, b in enumerate(biases)},
            activation,
            units,
            transposed=False,
        )
    except OSError as error:
        raise FileFormatError(f"{source} cannot be read: {error.strerror or error}") from error
    except (FileFormatError, UnsupportedModelError, InvalidInputError) as error:
        raise type(error)(f"{source}: {error}") from error


def _variables(content: bytes) -> dict[str, Any]:
    """Numeric matrices, and lists of them for cell arrays, by name; what is neither is left out."""
    if content.startswith(b"MATLAB 7.3"):
        raise FileFormatError("it is of MATLAB 7.3 (HDF5): save it with save('-v7', ...), which certnet reads")
    if len(content) < 128 or content[126:128] not in (b"IM", b"MI"):
        raise FileFormatError("it is no .mat file of MATLAB 5 to 7: save it with save('-v7', ...)")
    order = "<" if content[126:128] == b"IM" else ">"
    found: dict[str, Any] = {}
    budget = min(MAX_UNPACKED_BYTES, max(_SMALL, _GROWTH * len(content)))
    try:
        for kind, data in _elements(memoryview(content)[128:], order):
            if kind == _COMPRESSED:
                unpacked = zlib.decompressobj().decompress(data, budget + 1)
                budget -= len(unpacked)
                if budget < 0:
                    raise FileFormatError("it unpacks to more than certnet reads: save it without compression (-v6)")
                parts = list(_elements(memoryview(unpacked), order))
            else:
                parts = [(kind, data)]
            for inner, matrix in parts:
                if inner == _MATRIX:
                    name, value = _array(matrix, order, cells=True)
                    if value is not None:
                        found[name] = value
    except (zlib.error, ValueError, IndexError, TypeError) as error:
        if isinstance(error, FileFormatError | InvalidInputError):
            raise
        raise FileFormatError(f"it is damaged, or truncated: {error}") from error
    return found


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Types and contents of the elements that lie one behind the other."""
    at = 0
    while at + 8 <= len(data):
        kind, size = (int(n) for n in np.frombuffer(data[at : at + 8], f"{order}u4"))
        if kind >> 16:  # a short element: type and size in one word, the content in the next
            kind, size = kind & 0xFFFF, kind >> 16
            start, after = at + 4, at + 8
        else:
            start = at + 8
            after = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(data) or (start == at + 4 and size > 4):
            raise ValueError(f"an element of {size} bytes does not fit")
        yield kind, data[start : start + size]
        at = after


def _array(data: memoryview, order: str, *, cells: bool) -> tuple[str, Any]:
    """Name and value of an array element: a matrix of float64, a list of them, or None for anything else."""
    parts = _elements(data, order)
    flags = np.frombuffer(_next(parts), f"{order}u4")
    shape = tuple(int(n) for n in np.frombuffer(_next(parts), f"{order}i4"))
    name = bytes(_next(parts)).decode("ascii", errors="replace")[:80]
    if any(n < 0 for n in shape) or len(shape) > 8 or not flags.size:
        raise ValueError("an array has no shape")
    kind, entries = int(flags[0]) & 0xFF, math.prod(shape)
    if kind == _CELL and cells:
        inner = [part for _, part in parts]
        if len(inner) != entries or entries > _MAX_CELLS:
            raise ValueError(f"a cell array of {entries} holds {len(inner)}")
        values = [_array(part, order, cells=False)[1] for part in inner]
        return name, None if any(value is None for value in values) else values
    if kind not in _NUMERIC or int(flags[0]) & 0x0800:  # complex numbers are no weights
        return name, None
    stored, content = next(parts, (0, memoryview(b"")))
    if stored not in _NUMBERS:
        raise ValueError(f"an array has numbers of type {stored}")
    numbers = np.frombuffer(content, order + _NUMBERS[stored])
    if numbers.size != entries:
        raise ValueError(f"an array of {entries} entries holds {numbers.size}")
    return name, numbers.astype(np.float64).reshape(shape, order="F")


def _next(parts: Iterator[tuple[int, memoryview]]) -> memoryview:
    found = next(parts, None)
    if found is None:
        raise ValueError("an array ends too soon")
    return found[1]
