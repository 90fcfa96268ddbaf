"""Samples and targets at the door of the training, without copies of what is large."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.frames import plain_array
from certnet.core.validation import Float, as_inputs, finite_array
from certnet.lifted.learn.mixture import labelled_rows
from certnet.lifted.learn.settings import Training
from certnet.lifted.loss_functions import SquaredLoss
from certnet.lifted.network import LiftedNetwork
from certnet.programs.box_qp import as_clamp

__all__ = ["samples_of"]


def samples_of(net: LiftedNetwork, X: ArrayLike, y: ArrayLike | None, how: Training) -> tuple[Float, Float | None]:
    """Inputs (N, d), float64 or float32, and targets (N, n_L), or None where the objective has none.

    Where the objective is "semi_supervised", samples without a target have NaN throughout.

    Raises
    ------
    InvalidInputError
        Shapes that do not fit the network or each other, NaN, no samples, missing targets, targets outside of the box
        that they clamp.
    """
    inputs = _inputs(X, net.n_inputs)
    if len(inputs) == 0:
        raise InvalidInputError("X has no samples: at least one is needed")
    if how.objective.target_sign == 0.0:
        return inputs, None
    if y is None:
        raise InvalidInputError(f"the objective {how.objective.kind!r} needs targets y")
    if not how.objective.mixes:
        return inputs, _targets(net, y, len(inputs), how.objective.loss)
    given = plain_array(y, "y")
    if given.ndim not in (1, 2) or len(given) != len(inputs):
        raise InvalidInputError(f"X has {len(inputs)} samples and y has shape {given.shape}: a row for each is needed")
    given = given.astype(np.float64)
    known = labelled_rows(given)
    own = _targets(net, given[known], int(known.sum()), how.objective.loss)
    targets = np.full((len(inputs), *own.shape[1:]), np.nan)
    targets[known] = own
    return inputs, targets


def _targets(net: LiftedNetwork, y: ArrayLike, n: int, loss: Any) -> Float:
    """Targets of n samples as the phase that sees them takes them."""
    if not isinstance(loss, str):
        own: Float = loss.targets(y, n, net.n_outputs)
        return own
    targets = finite_array(y, "y", ndim=(1, 2))
    if len(targets) != n:
        raise InvalidInputError(f"X has {n} samples and y has {len(targets)}")
    if loss == "clamp":
        return as_clamp(net, targets, n)
    return SquaredLoss().targets(targets, n, net.n_outputs)


def _inputs(X: ArrayLike, n_inputs: int) -> Float:
    """Large float arrays as they are, once they are seen to be finite; all else as a float64 copy."""
    given = np.asarray(X)
    if given.dtype in (np.float64, np.float32) and given.ndim == 2 and given.shape[1] == n_inputs:
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(given.sum(axis=1)).all()  # no array of N × d booleans
        if finite:
            return given
    return as_inputs(X, n_inputs)
