"""CIFAR-10's pickled batches, read by an unpickler that can build nothing but the few values they hold."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import FileFormatError

__all__ = ["unpickle_batch"]

_MEMO: Final = 2**20
"""A batch remembers about ten thousand values; the unpickler makes room for the largest number that a file names."""


def unpickle_batch(content: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels (n, 3072), each row red, green and blue planes of 32 x 32, and labels (n,) of one pickled batch.

    The batches are dictionaries of an array, a list of integers and strings, written by Python 2. No code named in the
    file is ever imported or called: the four names that such a file needs are replaced by the inert classes below, and
    any other name is refused.

    Raises
    ------
    FileFormatError
        Another name in the pickle, not a pickle, truncated, or not such a dictionary.
    """
    try:
        _check_memo(content)
        batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
    except FileFormatError as error:
        raise FileFormatError(f"{where} {error}") from error
    except Exception as error:  # a damaged pickle may raise any of the built-in errors
        raise FileFormatError(
            f"{where} is not a batch of CIFAR-10, or is damaged ({type(error).__name__}: {error}): get the file again"
        ) from error
    if not isinstance(batch, dict):
        raise FileFormatError(f"{where} holds a {type(batch).__name__}: a batch of CIFAR-10 is a dictionary")
    data, labels = (batch.get(key.encode(), batch.get(key)) for key in ("data", "labels"))
    if not isinstance(data, _PickledArray) or data.values is None or data.values.shape[1:] != (3072,):
        raise FileFormatError(f"{where} has no array 'data' with 3072 columns: a batch of CIFAR-10 has one")
    return data.values, _label_array(labels, where)


def _check_memo(content: bytes) -> None:
    for opcode, number, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (number or 0) > _MEMO:
            raise FileFormatError(
                f"numbers a value {number}, more than a batch of CIFAR-10 holds: it would fill the memory"
            )


def _label_array(labels: Any, where: str) -> NDArray[np.int64]:
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label <= 255 for label in labels):
        raise FileFormatError(f"{where} has no list 'labels' of integers from 0 to 255: a batch of CIFAR-10 has one")
    return np.array(labels, dtype=np.int64)


class _BatchUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _Encode()
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _Reconstruct()
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _PickledArray if name == "ndarray" else _PickledDtype
        raise FileFormatError(
            f"asks for {module}.{name}, which no batch of CIFAR-10 needs, and was not loaded: do not trust this file; "
            "get it from https://www.cs.toronto.edu/~kriz/cifar.html"
        )


class _Inert:
    """Something that a pickle can neither change nor run, beyond what its subclass says."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise FileFormatError("sets the state of something that has none: it is not a batch of CIFAR-10")


class _Encode(_Inert):
    """``_codecs.encode(text, "latin1")``: how Python 3 writes bytes in protocol 2."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: Any) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise FileFormatError(f"encodes text as {encoding!r}: a batch of CIFAR-10 needs only latin1")
        return text.encode("latin1")


class _Reconstruct(_Inert):
    """``numpy.core.multiarray._reconstruct``: an array that waits for its state."""

    __slots__ = ()

    def __call__(self, kind: Any, shape: Any, code: Any) -> _PickledArray:
        return _PickledArray()


class _PickledDtype(_Inert):
    """``numpy.dtype("u1")`` and no other."""

    __slots__ = ()

    def __init__(self, code: Any, align: Any = 0, copy: Any = 1) -> None:
        if code not in ("u1", b"u1"):
            raise FileFormatError(f"holds an array of dtype {code!r}: the pixels of CIFAR-10 are unsigned bytes (u1)")

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment, which a single byte does not have."""


class _PickledArray(_Inert):
    """``numpy.ndarray`` of unsigned bytes with two dimensions, whose size is that of its bytes."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: NDArray[np.uint8] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_columns, content = state
        if not isinstance(dtype, _PickledDtype) or not isinstance(content, bytes):
            raise FileFormatError("holds an array that is not made of unsigned bytes: CIFAR-10's is")
        if len(shape) != 2 or math.prod(shape) != len(content):
            raise FileFormatError(f"announces an array of shape {shape} and holds {len(content)} bytes")
        self.values = np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_columns else "C")
