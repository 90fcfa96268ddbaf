"""Labelled images in NPZ files, read without pickles and without trusting a header's size."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from certnet.core.archives import check_sizes
from certnet.core.errors import FileFormatError
from certnet.core.files import path_of
from certnet.data.image_arrays import MAX_BYTES, LabelledImages, labelled

__all__ = ["read_npz_images", "read_npz_part", "read_npz_samples"]

_KEYS: Final = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test"), "all": ("x", "y")}
_HEADERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz_images(path: str | os.PathLike[str], *, n_classes: int | None = None) -> dict[str, LabelledImages]:
    """The parts of an NPZ file: ``train`` (keys ``x_train``, ``y_train``), ``test``, or ``all`` (keys ``x``, ``y``).

    Parameters
    ----------
    path : path
        Images of uint8, shape (N, h, w) or (N, h, w, c); labels of any integer type, shape (N,) or (N, 1).
    n_classes : int, optional
        Labels must be below it.

    Raises
    ------
    FileFormatError
        Missing, truncated, corrupt, not an NPZ file, with none of these pairs of keys or only one half of a pair, an
        array that is pickled, of another type or shape, or of more than 2 GiB.
    """
    parts = {part: keys for part, keys in _KEYS.items() if set(keys) & _names(path_of(path))}
    if not parts:
        wanted = "; ".join(" and ".join(keys) for keys in _KEYS.values())
        raise FileFormatError(f"{path} has none of the arrays {wanted}: save the images and labels under such names")
    return {part: read_npz_part(path, part, n_classes) for part in parts}


def read_npz_part(path: str | os.PathLike[str], part: str, n_classes: int | None = None) -> LabelledImages:
    """One part (``train``, ``test`` or ``all``) of an NPZ file, without reading the others.

    Raises
    ------
    FileFormatError
        As :func:`read_npz_images`; also when the file has no such part.
    """
    source = path_of(path)
    if missing := [key for key in _KEYS[part] if key not in _names(source)]:
        held = ", ".join(sorted(_names(source))) or "nothing"
        raise FileFormatError(f"{source} has no array {' and no '.join(missing)}: it holds {held}")
    images, labels = (_array(source, key) for key in _KEYS[part])
    return labelled(images, labels, f"{source} ({', '.join(_KEYS[part])})", n_classes)


def read_npz_samples(path: str | os.PathLike[str]) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64] | None]]:
    """The parts of an NPZ file as :func:`read_npz_images`, but labels may be missing: None then.

    Raises
    ------
    FileFormatError
        As :func:`read_npz_images`, but for missing labels.
    """
    source = path_of(path)
    names = _names(source)
    if not names & {key for keys in _KEYS.values() for key in keys}:
        read_npz_images(source)  # says which arrays are wanted
    return {part: _with_or_without(source, part, names) for part, keys in _KEYS.items() if set(keys) & names}


def _with_or_without(source: Path, part: str, names: set[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    x, y = _KEYS[part]
    if y in names or x not in names:
        return tuple(read_npz_part(source, part))  # type: ignore[return-value]
    images = _array(source, x)
    # judged as images with labels are
    return labelled(images, np.zeros(len(images) if images.ndim else 0, np.int64), f"{source} ({x})").images, None


def _names(source: Path) -> set[str]:
    try:
        with source.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            check_sizes(source, source.stat().st_size, [member.file_size for member in members])
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except FileFormatError:
        raise
    except FileNotFoundError as error:
        raise FileFormatError(f"{source} does not exist: check the path") from error
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise FileFormatError(
            f"{source} is not an NPZ file, or is truncated ({error}): get or save it again"
        ) from error


def _array(source: Path, key: str) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(source) as archive, archive.open(f"{key}.npy") as file:
            return _parse(file, f"{source} ({key})")
    except FileFormatError:
        raise
    # RuntimeError: encrypted; the others are what a damaged archive or header raises
    except (
        *(OSError, EOFError, KeyError, ValueError, TypeError, SyntaxError, RuntimeError, MemoryError),
        *(zlib.error, zipfile.BadZipFile),
    ) as error:
        raise FileFormatError(f"{source} ({key}) cannot be read ({error}): get or save the file again") from error


def _parse(file: Any, where: str) -> NDArray[Any]:
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise FileFormatError(
            f"{where} is of version {version} of the NPY format: save plain integers with numpy.savez"
        )
    shape, by_columns, dtype = _HEADERS[version](file)
    if dtype.kind not in "iu":
        raise FileFormatError(f"{where} has dtype {dtype}: integers are needed (uint8 images, integer labels)")
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_BYTES:
        raise FileFormatError(f"{where} announces {shape} = {size} bytes, more than {MAX_BYTES}: it is too large")
    content = file.read(size + 1)
    if len(content) != size:
        raise FileFormatError(
            f"{where} announces {shape} = {size} bytes and holds {'more' if len(content) > size else len(content)}: "
            "get or save the file again"
        )
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if by_columns else "C")
