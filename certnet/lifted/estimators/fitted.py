"""What an estimator knows once it is fitted, and the inference of its network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

import numpy as np
from sklearn.base import BaseEstimator

from certnet.core.errors import NotConvergedWarning
from certnet.core.validation import Float
from certnet.lifted.inference import Inference
from certnet.lifted.learn.plan import Learned
from certnet.lifted.learn.scaling import Scaling
from certnet.lifted.network import LiftedNetwork

__all__ = ["DTYPES", "fitted_attributes", "inferred", "is_fitted", "once"]

DTYPES: Final[list[type[np.floating[Any]]]] = [np.float64, np.float32]
"""Kinds of inputs that are not copied."""

T = TypeVar("T")


def is_fitted(estimator: BaseEstimator) -> bool:
    """Has it a network? Attributes of a fitted estimator exist or not, by scikit-learn's convention."""
    return "network_" in vars(estimator)


def fitted_attributes(learned: Learned, scaling: Scaling) -> dict[str, Any]:
    """What a fit tells every estimator, by scikit-learn's names; those with ``_`` before are for going on."""
    done, before = learned.training, learned.pretraining
    told: dict[str, Any] = {} if before is None else {"pretrain_loss_curve_": list(before.loss_curve)}
    return told | {
        "network_": done.network,
        "loss_curve_": list(done.loss_curve),
        "n_iter_": len(done.loss_curve),
        "validation_scores_": list(done.score_curve),
        "_scaling": scaling,
        "_state": done.state,
        "_certificates": {},
    }


def inferred(net: LiftedNetwork, X: Float, *, tol: float | None, threads: int) -> Inference:
    """The activations of scaled inputs X (N, d), to 1e-6 or finer; warns where some did not converge."""
    found = net.infer(X, tol=1e-6 if tol is None else min(tol, 1e-6), threads=threads)
    missed = int((~found.converged).sum())
    if missed:
        status = found.status[~found.converged][0]
        warnings.warn(
            f"the inference of {missed} of {len(X)} samples did not converge: {status.advice}",
            NotConvergedWarning,
            stacklevel=4,
        )
    return found


def once(kept: dict[Hashable, Any], key: Hashable, make: Callable[[], T]) -> T:
    """What ``make`` gives, made at the first call and kept."""
    if key not in kept:
        kept[key] = make()
    value: T = kept[key]
    return value
