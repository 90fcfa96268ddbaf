"""A training and a test part of labelled images."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.validation import whole_number

__all__ = ["ImageDataset"]

_LARGEST = {"uint8": 255, "float32": 1, "float64": 1}


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageDataset:
    """Labelled images, checked once and never changed.

    The arrays are not copied, as they may fill a good part of the memory: they are read-only views of what is given,
    which must not be changed elsewhere.

    Attributes
    ----------
    name : str
    X_train, X_test : ndarray, shapes (N, d) and (n, d), or (N, height, width[, channels]); read-only
        Pixels of float32 or float64 in [0, 1], or of uint8 in 0 to 255. d = height * width * channels, ordered by row,
        column, channel. A part that was not loaded has no rows; not both.
    y_train, y_test : ndarray of int64, shapes (N,) and (n,), read-only
        0 to ``n_classes - 1``.
    height, width, channels : int
    class_names : tuple of str
    source, licence, notes : str
        Where the images come from, on which terms, and what to mind.

    Raises
    ------
    InvalidInputError
        Shapes that do not fit together, no images, pixels of another type or outside their range (or NaN), labels
        that are not integers or outside the classes, sizes that are not whole numbers above 0.
    """

    name: str
    X_train: NDArray[Any] = field(repr=False)
    y_train: NDArray[np.int64] = field(repr=False)
    X_test: NDArray[Any] = field(repr=False)
    y_test: NDArray[np.int64] = field(repr=False)
    height: int
    width: int
    channels: int
    class_names: tuple[str, ...]
    source: str = field(repr=False)
    licence: str = field(repr=False)
    notes: str = field(repr=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        for size in ("height", "width", "channels"):
            object.__setattr__(self, size, whole_number(getattr(self, size), size, least=1))
        for part in ("train", "test"):
            X, y = np.asarray(getattr(self, f"X_{part}")), np.asarray(getattr(self, f"y_{part}"))
            self._check_pixels(part, X)
            self._check_labels(part, y, len(X))
            object.__setattr__(self, f"X_{part}", _read_only(X))
            object.__setattr__(self, f"y_{part}", _read_only(y.astype(np.int64)))
        if len(self.X_train) + len(self.X_test) == 0:
            raise InvalidInputError("there is no image: a training or a test part is needed")
        if self.X_train.dtype != self.X_test.dtype or self.X_train.shape[1:] != self.X_test.shape[1:]:
            raise InvalidInputError(
                f"X_train ({self.X_train.dtype}, {self.X_train.shape}) and X_test ({self.X_test.dtype}, "
                f"{self.X_test.shape}) differ in more than the number of rows"
            )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width) of grey images, (height, width, channels) of others."""
        return (self.height, self.width) if self.channels == 1 else (self.height, self.width, self.channels)

    def images(self, part: str) -> NDArray[Any]:
        """The images of ``part`` ("train" or "test"), shape (N, height, width[, channels]); a read-only view.

        Raises
        ------
        InvalidInputError
            Another part.
        """
        if part not in ("train", "test"):
            raise InvalidInputError(f"part must be 'train' or 'test', got {part!r}")
        X: NDArray[Any] = getattr(self, f"X_{part}")
        return X.reshape(len(X), *self.image_shape)

    def _check_pixels(self, part: str, X: NDArray[Any]) -> None:
        d = self.height * self.width * self.channels
        if X.ndim < 2 or X.shape[1:] not in ((d,), self.image_shape):
            raise InvalidInputError(
                f"X_{part} has shape {X.shape}: rows of {d} pixels or of shape {self.image_shape} are needed"
            )
        largest = _LARGEST.get(X.dtype.name)
        if largest is None:
            raise InvalidInputError(f"X_{part} has dtype {X.dtype}: uint8, float32 or float64 is needed")
        # the minimum of an array with NaN is NaN, which fails the comparison
        if X.size and not (X.min() >= 0 and X.max() <= largest):
            raise InvalidInputError(
                f"X_{part} has pixels from {X.min()} to {X.max()}: {X.dtype} pixels must be in [0, {largest}]"
            )

    def _check_labels(self, part: str, y: NDArray[Any], n: int) -> None:
        if y.dtype.kind not in "iu" or y.shape != (n,):
            raise InvalidInputError(
                f"y_{part} ({y.dtype}, shape {y.shape}) must hold one integer for each of {n} images"
            )
        if n and (y.min() < 0 or y.max() >= self.n_classes):
            raise InvalidInputError(
                f"y_{part} has labels from {y.min()} to {y.max()}: there are {self.n_classes} classes, counted from 0"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        # rebuilt through the constructor, so that a copy from another process is read-only too
        return _rebuild, ({item.name: getattr(self, item.name) for item in fields(self)},)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _rebuild(values: dict[str, Any]) -> ImageDataset:
    return ImageDataset(**values)
