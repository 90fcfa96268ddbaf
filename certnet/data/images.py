"""Named image sets, read from a user's files."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import CertnetWarning, DatasetError
from certnet.core.files import path_of
from certnet.core.validation import one_of
from certnet.data.fetch import search_folders
from certnet.data.image_arrays import LabelledImages
from certnet.data.image_content import Note, divided, image_shape, recognise
from certnet.data.image_dataset import ImageDataset
from certnet.data.image_files import ImageSource, expected_files, find_images
from certnet.data.image_registry import ImageInfo, image_info
from certnet.data.image_tools import grey as to_grey

__all__ = ["load_image_set", "load_images"]

_PARTS: Final = {"all": ("train", "test"), "train": ("train",), "test": ("test",)}
_BLOCK: Final = 4096


def load_images(
    name: str,
    *,
    data_home: str | os.PathLike[str] | None = None,
    part: str = "all",
    flatten: bool = True,
    scale: bool = True,
    grey: bool = False,
) -> ImageDataset:
    """MNIST, Kuzushiji-MNIST, Fashion-MNIST or CIFAR-10, from files that lie in a data folder. Nothing is downloaded.

    Parameters
    ----------
    name : {"mnist", "kmnist", "fashion_mnist", "cifar10"}
    data_home : path, optional
        Folder that holds ``images/``; looked in before ``$CERTNET_DATA_HOME`` and the cache
        (``$XDG_CACHE_HOME/certnet`` or ``~/.cache/certnet``). In each: ``images/<name>.npz``, then the original files
        in ``images/<name>/`` (IDX; CIFAR-10: its batches, Python or binary, or the archive of either). Where only
        ``images/<name>_test.npz`` is found, every fifth image of each class (in the order of the file) becomes the
        test part and the others the training part, with a warning.
    part : {"all", "train", "test"}
        Which part to read; the other one has no rows.
    flatten : bool
        Rows of pixels (N, d), else (N, height, width[, channels]).
    scale : bool
        float32 in [0, 1], else uint8 in 0 to 255. float32, because k/255 is then off by at most 3e-8, a hundred
        thousandth of the step between two grey values, and needs half the memory of float64 (MNIST: 220 MB).
    grey : bool
        One channel made of three, see :func:`certnet.data.grey`; no effect on sets that are grey.

    Raises
    ------
    DatasetError
        Unknown name, or files that cannot be found; the message says where to get them and where to put them.
    FileFormatError
        Files that are damaged, of other sizes or types than the set, or that hold another set.
    InvalidInputError
        Another ``part``.

    Warns
    -----
    CertnetWarning
        The content is not that of the original files; only a test part was found.
    """
    one_of(part, "part", _PARTS)
    return load_image_set(image_info(name), data_home, part=part, flatten=flatten, scale=scale, grey=grey)


def load_image_set(
    info: ImageInfo,
    data_home: str | os.PathLike[str] | None,
    *,
    part: str,
    flatten: bool,
    scale: bool,
    grey: bool,
) -> ImageDataset:
    """:func:`load_images` for a set that is described by ``info``."""
    folders = _folders(data_home)
    source = find_images(info, folders.values())
    if source is None:
        raise DatasetError(_absent(info, folders))
    raw, notes = _read(info, source, _PARTS[part])
    for note in notes:
        if note.warns:
            warnings.warn(note.text, CertnetWarning, stacklevel=3)  # at the caller of load_images
    shape = image_shape(info)[: 2 if grey else 3]
    arrays: dict[str, NDArray[Any]] = {}
    for key in ("train", "test"):
        # popped, so that the bytes of one part are gone before the other is scaled
        images, labels = raw.pop(key) if key in raw else _no_images(info)
        pixels = _pixels(images, shape, scale)
        arrays[f"X_{key}"], arrays[f"y_{key}"] = (
            pixels.reshape(len(pixels), math.prod(shape)) if flatten else pixels,
            labels,
        )
    return ImageDataset(
        name=info.name,
        **arrays,
        height=info.height,
        width=info.width,
        channels=1 if grey else info.channels,
        class_names=info.class_names,
        source=info.source,
        licence=info.licence,
        notes="; ".join(text for text in (info.notes, *(note.text for note in notes)) if text),
    )


def _folders(data_home: str | os.PathLike[str] | None) -> dict[str, Path]:
    if data_home is not None and not path_of(data_home).is_dir():
        raise DatasetError(f"data_home={str(data_home)!r} is not a folder: name the folder that holds images/")
    return search_folders(data_home)


def _absent(info: ImageInfo, folders: Mapping[str, Path]) -> str:
    places = "; ".join(f"{path} ({name})" for name, path in folders.items())
    unset = "" if "CERTNET_DATA_HOME" in folders else " (CERTNET_DATA_HOME is not set)"
    return (
        f"{info.name} is not in {places}{unset}. Looked for in each: {expected_files(info)}. certnet downloads no "
        f"image files: get them from {info.address}, save them as FOLDER/images/…, and set CERTNET_DATA_HOME=FOLDER "
        "(or pass data_home=FOLDER)"
    )


def _read(info: ImageInfo, source: ImageSource, parts: tuple[str, ...]) -> tuple[dict[str, LabelledImages], list[Note]]:
    if "all" in source.readers:
        whole = source.readers["all"]()
        known = recognise(info, "test", whole, source.path)
        made, note = divided(info, whole, source.path)
        return {part: made[part] for part in parts}, [note, *known]
    if missing := [part for part in parts if part not in source.readers]:
        raise DatasetError(
            f"{source.path} lacks the files of the {' and the '.join(missing)} part of {info.name}: put them there "
            f"(from {info.address}), or load only the other part"
        )
    raw = {part: source.readers[part]() for part in parts}
    return raw, [note for part, data in raw.items() for note in recognise(info, part, data, source.path)]


def _no_images(info: ImageInfo) -> LabelledImages:
    return LabelledImages(np.zeros((0, *image_shape(info)), dtype=np.uint8), np.zeros(0, dtype=np.int64))


def _pixels(images: NDArray[np.uint8], shape: tuple[int, ...], scale: bool) -> NDArray[Any]:
    """Block by block into the array that is returned: nothing else of its size is made."""
    out = np.empty((len(images), *shape), dtype=np.float32 if scale else np.uint8)
    for start in range(0, len(images), _BLOCK):
        block: NDArray[Any] = images[start : start + _BLOCK]
        if scale:
            block = block / np.float32(255)
        out[start : start + _BLOCK] = to_grey(block) if len(shape) < images.ndim - 1 else block
    return out
