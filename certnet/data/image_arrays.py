"""Labelled images as every file format hands them on, checked once."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import FileFormatError

__all__ = ["MAX_BYTES", "LabelledImages", "labelled"]

MAX_BYTES: Final = 2**31
"""The most that one array of a file may hold: ten times CIFAR-10, and below what a forged header could ask for."""


class LabelledImages(NamedTuple):
    """Images of uint8, shape (N, h, w) or (N, h, w, c), and labels of int64, shape (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def labelled(images: NDArray[Any], labels: NDArray[Any], where: str, n_classes: int | None = None) -> LabelledImages:
    """The pair, if it fits together; ``where`` (a path) opens every message.

    Labels may have shape (N,) or (N, 1) and any integer type.

    Raises
    ------
    FileFormatError
        Pixels that are not uint8, no images, another shape, labels that are not integers, of another number than the
        images, negative, or not below ``n_classes``.
    """
    if images.dtype != np.uint8:
        raise FileFormatError(f"{where}: the images have dtype {images.dtype}, uint8 (0 to 255) is needed: save that")
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise FileFormatError(
            f"{where}: the images have shape {images.shape}: (N, height, width) or (N, height, width, channels) is "
            "needed, none of them 0"
        )
    return LabelledImages(images, _labels(labels, len(images), where, n_classes))


def _labels(labels: NDArray[Any], n: int, where: str, n_classes: int | None) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu":
        raise FileFormatError(f"{where}: the labels have dtype {labels.dtype}: save them as integers, 0 for the first")
    if labels.shape not in ((n,), (n, 1)):
        raise FileFormatError(f"{where}: the labels have shape {labels.shape}, there are {n} images: one label each")
    least, most = int(labels.min()), int(labels.max())
    # no limit given: a label must still be countable, 2**31 classes are a misread file
    limit = MAX_BYTES if n_classes is None else n_classes
    if least < 0 or most >= limit:
        raise FileFormatError(
            f"{where}: labels from {least} to {most}: they must be 0 or more and below {limit} (the number of classes)"
        )
    return labels.reshape(n).astype(np.int64)
