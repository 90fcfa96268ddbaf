"""Tensors of ONNX files as arrays: no size is believed before the bytes are counted."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import FileFormatError, UnsupportedModelError
from certnet.io.paths import readable_file

__all__ = ["FLOAT_TYPES", "ExternalData", "read_tensor"]

# TensorProto.DataType of the ONNX IR specification: name, stored type, field that holds it where raw_data does not
_TYPES: Final[dict[int, tuple[str, np.dtype[Any], str]]] = {
    1: ("float", np.dtype("<f4"), "float_data"),
    6: ("int32", np.dtype("<i4"), "int32_data"),
    7: ("int64", np.dtype("<i8"), "int64_data"),
    10: ("float16", np.dtype("<f2"), "int32_data"),
    11: ("double", np.dtype("<f8"), "double_data"),
    16: ("bfloat16", np.dtype("<u2"), "int32_data"),
}
FLOAT_TYPES: Final = (1, 10, 11, 16)
_BFLOAT16: Final = 16
_EXTERNAL: Final = 1
_MAX_DIMENSIONS: Final = 16


class ExternalData:
    """Files beside a model that its tensors may lie in; never more than ``limit`` bytes are read altogether."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._left = limit

    def read(self, tensor: Any, size: int, where: str) -> bytes:
        """The ``size`` bytes of ``tensor``.

        Raises
        ------
        FileFormatError
            The location is not the name of a file in the model's own folder (links that lead elsewhere included), the
            file is missing or shorter than said, or the sizes do not agree.
        """
        said = {entry.key: entry.value for entry in tensor.external_data}
        path = self._inside(said.get("location", ""), where)
        offset = _count(said.get("offset", "0"), where)
        held = path.stat().st_size - offset
        length = _count(said["length"], where) if "length" in said else held
        if length != size or length > held:
            raise FileFormatError(
                f"{where} needs {size} bytes, its external data are said to have {length}, and {path.name} holds "
                f"{max(held, 0)} from there on: the files do not belong together, or one is truncated"
            )
        if size > self._left:
            raise FileFormatError(f"{where}: the external data are larger than certnet reads")
        self._left -= size
        try:
            with path.open("rb") as file:
                file.seek(offset)
                raw = file.read(size)
        except OSError as error:
            raise FileFormatError(f"{where}: {path} cannot be read: {error.strerror or error}") from error
        if len(raw) != size:
            raise FileFormatError(f"{where}: {path} became shorter while it was read")
        return raw

    def _inside(self, location: str, where: str) -> Path:
        plain = PurePosixPath(location).name == location == PureWindowsPath(location).name
        if not plain or location in ("", ".", "..") or "\0" in location:
            raise FileFormatError(
                f"{where} has its data in {location[:80]!r}: external data are read from a file in the model's own "
                "folder only, named without a path"
            )
        path = readable_file(self._folder / location).resolve()
        if path.parent != self._folder.resolve():
            raise FileFormatError(
                f"{where} has its data in {location[:80]!r}, a link that leads out of the model's folder: copy the "
                "file there"
            )
        return path


def read_tensor(tensor: Any, where: str, external: ExternalData) -> NDArray[Any]:
    """A TensorProto as an array of float64 (exact for every float type) or int64.

    External data are moved into the tensor, so that what is checked later needs no other file.

    Raises
    ------
    FileFormatError
        The data have not the size that dimensions and type ask for, or lie outside the model's folder.
    UnsupportedModelError
        Another type than float, double, float16, bfloat16, int32, int64.
    """
    if tensor.data_type not in _TYPES:
        names = ", ".join(name for name, _, _ in _TYPES.values())
        raise UnsupportedModelError(f"{where} has the ONNX type {tensor.data_type}: certnet reads {names}")
    name, dtype, field = _TYPES[tensor.data_type]
    shape = tuple(int(n) for n in tensor.dims)
    if len(shape) > _MAX_DIMENSIONS or any(n < 0 for n in shape) or tensor.HasField("segment"):
        raise FileFormatError(f"{where} has the dimensions {shape[:_MAX_DIMENSIONS]}, which certnet does not read")
    count = math.prod(shape)  # Python's integers do not overflow
    if tensor.data_location == _EXTERNAL:
        tensor.raw_data = external.read(tensor, count * dtype.itemsize, where)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    raw = tensor.HasField("raw_data")
    held = len(tensor.raw_data) if raw else len(getattr(tensor, field)) * dtype.itemsize
    if held != count * dtype.itemsize:
        raise FileFormatError(
            f"{where} has the dimensions {shape}, so {count} entries of type {name}, but {held // dtype.itemsize} are "
            "stored: the file is damaged"
        )
    if raw:
        stored = np.frombuffer(tensor.raw_data, dtype)
    else:
        stored = _from_field(np.array(getattr(tensor, field)), dtype, where)
    if tensor.data_type == _BFLOAT16:  # the upper half of a float32
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):  # NaN is refused where the tensor is used
        return stored.astype(np.float64 if tensor.data_type in FLOAT_TYPES else np.int64).reshape(shape)


def _from_field(values: NDArray[Any], dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    """Entries of a repeated field; 16-bit floats lie there as the integers that their bits spell."""
    if dtype.itemsize != 2:
        return values.astype(dtype)
    if values.size and not 0 <= values.min() <= values.max() < 1 << 16:
        raise FileFormatError(f"{where} holds numbers that are no 16-bit floats: the file is damaged")
    return values.astype(np.uint16).view(dtype)


def _count(text: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise FileFormatError(f"{where} has the offset or length {text[:40]!r}: a number of bytes is needed")
    return int(text)
