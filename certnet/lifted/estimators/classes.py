"""Labels as targets of a network, and the energies of the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.lifted.estimators.fitted import inferred
from certnet.lifted.network import LiftedNetwork

__all__ = ["energies_of_classes", "known_classes", "require_classes", "targets_of"]


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
    """Numbers of classes (N,), 0 to m − 1, as they are for a loss that takes them, else as one-hot rows (N, m)."""
    labels = indices.astype(np.float64)
    if isinstance(loss, str):
        return np.eye(m)[indices]
    try:
        loss.targets(labels, len(labels), m)
    except InvalidInputError:
        return np.eye(m)[indices]
    return labels


def energies_of_classes(net: LiftedNetwork, X: Float, *, tol: float | None, threads: int) -> Float:
    """``min_{z: z_L = e_c} E(z; x)`` for scaled inputs X (N, d) and every class c, shape (N, C)."""
    columns = []
    for target in np.eye(net.n_outputs):
        clamp = np.repeat(target[None, :], len(X), axis=0)
        if net.depth == 1:
            columns.append(net.energy(X, clamp))
        else:
            columns.append(inferred(net, X, tol=tol, threads=threads, clamp=clamp).energy)
    return np.column_stack(columns)
