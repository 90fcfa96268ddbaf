"""Labels as targets of a network and back, what samples weigh, and the energies of the classes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import type_of_target

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, as_weights
from certnet.lifted.network import LiftedNetwork

__all__ = [
    "UNLABELLED",
    "accuracy",
    "energies_of_classes",
    "indicators",
    "known_classes",
    "labelled_of",
    "require_classes",
    "signed_or_counted",
    "targets_of",
    "threshold_of",
    "weights_of",
]


UNLABELLED: Final = -1
"""The label of samples that have none, as in scikit-learn's semi-supervised learners."""


def labelled_of(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Which samples have a label, (N,): it is not −1; rows of several labels all have theirs.

    Raises
    ------
    InvalidInputError
        No sample has one, or labels are text, among them "-1".
    """
    if labels.ndim == 2:
        return np.ones(len(labels), dtype=bool)
    if labels.dtype.kind not in "iufb" and (labels.astype(str) == str(UNLABELLED)).any():
        raise InvalidInputError("labels are text, and -1 for samples without a label is a number: encode them")
    known: NDArray[np.bool_] = labels != UNLABELLED
    if not known.any():
        raise InvalidInputError(
            "all labels are -1, which stands for none: 'semi_supervised' needs some, LiftedDensity none"
        )
    return known


def require_classes(classes: NDArray[Any]) -> None:
    """Refuse a single class."""
    if len(classes) < 2:
        one = classes.tolist()[0]
        raise InvalidInputError(f"y holds one class, {one!r}: a classifier needs two or more classes")


def known_classes(labels: NDArray[Any], given: ArrayLike | None, before: NDArray[Any] | None) -> NDArray[Any]:
    """All classes of a fit in parts: those ``given``, which must be those of the calls ``before`` where there were any.

    Raises
    ------
    InvalidInputError
        No classes at the first call, others at a later one, a single class, or labels that are not among them.
    """
    if given is not None:
        known = np.unique(np.asarray(given))
    elif before is not None:
        known = before
    else:
        raise InvalidInputError("classes must be given at the first call of partial_fit")
    require_classes(known)
    if before is not None and not np.array_equal(known, before):
        raise InvalidInputError("classes differ from those of the first call of partial_fit")
    unknown = np.setdiff1d(labels, known)
    if unknown.size:
        first = unknown.tolist()[0]
        raise InvalidInputError(f"y holds {first!r}, which is not among the classes of the first call")
    return known


def targets_of(indices: NDArray[np.intp], m: int, loss: Any) -> Float:
    """Numbers of classes (N,), 0 to m − 1, as they are for a loss that takes them, else as one-hot rows (N, m).

    NaN for samples without a class, whose index is −1.
    """
    missing = indices == UNLABELLED
    labels = indices.astype(np.float64)
    if not isinstance(loss, str):
        own = labels[~missing]
        try:
            loss.targets(own, len(own), m)
        except InvalidInputError:
            pass
        else:
            labels[missing] = np.nan
            return labels
    rows = np.eye(m)[indices]
    rows[missing] = np.nan
    return rows


def energies_of_classes(net: LiftedNetwork, X: Float, *, tol: float | None, threads: int) -> Float:
    """``min_{z: z_L = e_c} E(z; x)`` for scaled inputs X (N, d) and every class c, shape (N, C)."""
    return net.class_energies(X, tol=1e-6 if tol is None else min(tol, 1e-6), threads=threads)


def indicators(labels: NDArray[Any]) -> bool:
    """Are there several labels to a sample: columns (N, C) of zeros and ones?"""
    return labels.ndim == 2 and type_of_target(labels) == "multilabel-indicator"


def signed_or_counted(labels: NDArray[Any], loss: Any) -> Float:
    """Columns of zeros and ones (N, C) as they are, or as signs for a loss that takes those.

    Raises
    ------
    InvalidInputError
        The loss takes neither.
    """
    given = np.asarray(labels, dtype=np.float64)
    return given if threshold_of(loss, given.shape[1]) == 0.5 else 2.0 * given - 1.0


def threshold_of(loss: Any, n_outputs: int) -> float:
    """The output above which a label is given: 1/2 between zeros and ones, 0 between signs.

    Raises
    ------
    InvalidInputError
        The loss takes neither several ones in a row nor signs.
    """
    if isinstance(loss, str):
        return 0.5
    for rows, threshold in ((np.array([0.0, 1.0]), 0.5), (np.array([-1.0, 1.0]), 0.0)):
        try:
            loss.targets(np.repeat(rows[:, None], n_outputs, axis=1), 2, n_outputs)  # no label, and all of them
        except InvalidInputError:
            continue
        return threshold
    raise InvalidInputError(
        f"loss {type(loss).__name__} takes one class to a sample, and y holds several labels: take 'clamp', 'squared', "
        "HuberLoss or SquaredHinge"
    )


def weights_of(
    sample_weight: ArrayLike | None, class_weight: Any, labels: NDArray[Any], known: NDArray[np.bool_]
) -> Float | None:
    """Weights of the samples (N,), their own times those of their classes; None where all are alike.

    Only ``known`` labels (N,) have a class, the others weigh 1.

    Raises
    ------
    InvalidInputError
        Weights of another shape, negative, or all zero; weights of classes where samples have several labels, or of
        classes that there are not.
    """
    own = None if sample_weight is None else as_weights(sample_weight, len(labels))
    if class_weight is None:
        return own
    if labels.ndim == 2:
        raise InvalidInputError("class_weight is of classes, and y holds several labels to a sample: use sample_weight")
    try:
        by_class = np.ones(len(labels))
        by_class[known] = compute_sample_weight(class_weight, labels[known])
    except ValueError as error:
        raise InvalidInputError(f"class_weight is {class_weight!r}: {error}") from error
    return as_weights(by_class if own is None else own * by_class, len(labels))


def accuracy(predicted: NDArray[Any], expected: NDArray[Any], weights: Float | None) -> float:
    """The share of samples whose class, or labels all, are right, by weight."""
    right = predicted == expected
    return float(np.average(right if right.ndim == 1 else right.all(axis=1), weights=weights))
