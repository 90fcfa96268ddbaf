"""What the studies make of images: mirrored, grey, a Gaussian of the same mean and spread, a validation part."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.validation import whole_number

__all__ = ["gaussian_like", "grey", "mirrored", "split_off"]

_LUMA: Final = (0.299, 0.587, 0.114)
_BLOCK: Final = 4096


def mirrored(images: NDArray[Any]) -> NDArray[Any]:
    """Images (N, h, w) or (N, h, w, c) with left and right exchanged, as a copy.

    Raises
    ------
    InvalidInputError
        Rows of pixels or a single image: the width is not known, or not which axis it is.
    """
    array = np.asarray(images)
    if array.ndim not in (3, 4):
        raise InvalidInputError(
            f"images have shape {array.shape}: (N, height, width[, channels]) is needed, as ImageDataset.images gives"
        )
    return np.ascontiguousarray(array[:, :, ::-1])


def grey(images: NDArray[Any]) -> NDArray[Any]:
    """0.299 R + 0.587 G + 0.114 B (the luma Y' of ITU-R Recommendation BT.601) over the last axis.

    The usual meaning of a grey image made from an sRGB one; H (section 4.2) does not say which was used.

    Parameters
    ----------
    images : ndarray of uint8, float32 or float64, shape (..., 3)

    Returns
    -------
    ndarray of the same dtype, shape (...)
        uint8 is rounded to the nearest, halves to even.

    Raises
    ------
    InvalidInputError
        No three channels in the last axis, or another dtype.
    """
    array = np.asarray(images)
    if array.ndim < 2 or array.shape[-1] != 3:
        raise InvalidInputError(f"images have shape {array.shape}: red, green and blue are needed in the last axis")
    if array.dtype.name not in ("uint8", "float32", "float64"):
        raise InvalidInputError(f"images have dtype {array.dtype}: uint8, float32 or float64 is needed")
    weights = np.array(_LUMA, dtype=np.float64 if array.dtype == np.uint8 else array.dtype)
    luma = array @ weights
    # the three rounded weights may sum to a little more than 1: white must stay in the range
    return np.rint(luma).astype(np.uint8) if array.dtype == np.uint8 else np.minimum(luma, array.max(axis=-1))


def gaussian_like(X: NDArray[Any], n: int, random_state: int | np.random.Generator | None = None) -> NDArray[Any]:
    """n draws of N(m, diag(s^2)), m and s^2 the mean and variance (divisor N) of each column of X.

    The samples outside the distribution of H, Table 1 ("a Gaussian fitted to the training set with diagonal covariance
    matrix"). H does not say whether they were clipped to the range of pixels: here they are not.

    Parameters
    ----------
    X : ndarray of floats, shape (N, d) or (N, h, w[, c])
    n : int
    random_state : int, Generator or None

    Returns
    -------
    ndarray of the dtype of X, shape (n, d) or (n, h, w[, c])

    Raises
    ------
    InvalidInputError
        X that is not of floats, has no rows or entries that are NaN or infinite; n below 1.
    """
    array = np.asarray(X)
    if array.dtype.kind != "f" or array.ndim < 2 or len(array) == 0:
        raise InvalidInputError(f"X ({array.dtype}, shape {array.shape}) must have at least one row of float pixels")
    n = whole_number(n, "n", least=1)
    mean = array.mean(axis=0, dtype=np.float64)
    deviation = np.sqrt(_variance(array, mean))
    if not np.all(np.isfinite(deviation)):
        raise InvalidInputError("X has entries that are NaN or infinite: remove them first")
    draws = np.random.default_rng(random_state).normal(size=(n, *array.shape[1:]))
    draws *= deviation
    draws += mean
    return draws.astype(array.dtype, copy=False)


def _variance(X: NDArray[Any], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Block by block: ``X.var`` would hold a second array of the size of X, in float64."""
    total = np.zeros_like(mean)
    for start in range(0, len(X), _BLOCK):
        total += np.sum((X[start : start + _BLOCK] - mean) ** 2, axis=0)
    return total / len(X)


def split_off(
    X: NDArray[Any], y: ArrayLike, fraction: float, random_state: int | np.random.Generator | None = None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """What remains of X and y, and a validation part with ``fraction`` of each class, drawn at random.

    Of a class with m members ``round(fraction * m)`` are split off, at least one, and at least one remains. The rows
    of both parts keep their order.

    Returns
    -------
    X_rest, y_rest, X_split, y_split : ndarray

    Raises
    ------
    InvalidInputError
        A fraction not between 0 and 1, labels that are not integers or of another number than rows, a class with one
        member only.
    """
    array, labels = np.asarray(X), np.asarray(y)
    if not 0 < fraction < 1:
        raise InvalidInputError(f"fraction must be above 0 and below 1, got {fraction!r}")
    if array.ndim < 1 or labels.dtype.kind not in "iu" or labels.shape != (len(array),):
        raise InvalidInputError(f"y ({labels.dtype}, shape {labels.shape}) must hold one integer for each row of X")
    is_split = _stratified(labels, fraction, np.random.default_rng(random_state))
    return array[~is_split], labels[~is_split], array[is_split], labels[is_split]


def _stratified(labels: NDArray[Any], fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    mask = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise InvalidInputError(f"class {label} has one member: two are needed, one for each part")
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        mask[rng.permutation(members)[:count]] = True
    return mask
