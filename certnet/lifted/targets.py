"""Targets of supervised learning: class labels as one-hot rows, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, as_inputs, finite_array

__all__ = ["accuracy", "as_targets", "labelled_samples", "labels_of", "one_hot"]


def one_hot(labels: ArrayLike, n_classes: int) -> Float:
    """Rows of the identity, (N, n_classes), for labels 0 to ``n_classes − 1``.

    Raises
    ------
    InvalidInputError
        Labels that are not whole numbers, or are outside of the range.
    """
    values = finite_array(labels, "y", ndim=(1,))
    wrong = (values != np.round(values)) | (values < 0) | (values >= n_classes)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise InvalidInputError(
            f"y[{i}] is {values[i]:g}: labels are whole numbers from 0 to {n_classes - 1}, one per output"
        )
    return np.asarray(np.eye(n_classes)[values.astype(np.intp)])


def as_targets(y: ArrayLike, n_outputs: int, n_samples: int) -> Float:
    """Targets (N, m): labels (N,) become one-hot rows where there are several outputs; real targets stay.

    Raises
    ------
    InvalidInputError
        Another shape, NaN, labels outside of the range.
    """
    values = finite_array(y, "y", ndim=(1, 2))
    if len(values) != n_samples:
        raise InvalidInputError(f"X has {n_samples} samples and y has {len(values)}")
    if values.ndim == 1:
        return values[:, None] if n_outputs == 1 else one_hot(values, n_outputs)
    if values.shape[1] != n_outputs:
        raise InvalidInputError(f"y has {values.shape[1]} columns, the network has {n_outputs} output(s)")
    return values


def labelled_samples(X: ArrayLike, y: ArrayLike, n_inputs: int, n_outputs: int, loss: str) -> tuple[Float, Float]:
    """Inputs (N, d) and targets (N, m) of a training by back-propagation with that loss.

    Raises
    ------
    InvalidInputError
        No samples, wrong shapes, NaN; targets of "cross_entropy" that are no labels and no rows of probabilities.
    """
    inputs = as_inputs(X, n_inputs)
    if len(inputs) == 0:
        raise InvalidInputError("X has no samples: at least one is needed")
    targets = as_targets(y, n_outputs, len(inputs))
    if loss == "cross_entropy":
        wrong = (targets < 0.0).any(axis=1) | (np.abs(targets.sum(axis=1) - 1.0) > 1e-6)
        if targets.shape[1] < 2 or wrong.any():
            where = f"row {int(np.argmax(wrong))} of y is none" if wrong.any() else "there is one output"
            raise InvalidInputError(f"cross_entropy needs labels or rows of probabilities, two or more, and {where}")
    return inputs, targets


def labels_of(targets: Float) -> NDArray[np.intp] | None:
    """The labels (N,) whose one-hot rows ``targets`` (N, m ≥ 2) are, or None where they are not such rows."""
    if targets.shape[1] < 2 or not (((targets == 0.0) | (targets == 1.0)).all() and (targets.sum(axis=1) == 1.0).all()):
        return None
    return targets.argmax(axis=1)


def accuracy(outputs: Float, targets: Float) -> float | None:
    """The share of samples whose largest output is that of their label; None where the targets are no labels."""
    labels = labels_of(targets)
    return None if labels is None or len(labels) == 0 else float((outputs.argmax(axis=1) == labels).mean())
