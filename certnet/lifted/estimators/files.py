"""Fitted estimators to files and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator

from certnet.core.errors import FileFormatError
from certnet.lifted.learn.scaling import Scaling
from certnet.lifted.learn.stored import CURVES, Stored, load_estimator, save_estimator
from certnet.lifted.network import LiftedNetwork

__all__ = ["load_fitted", "save_fitted"]

E = TypeVar("E", bound=BaseEstimator)


def save_fitted(
    estimator: BaseEstimator,
    path: str | os.PathLike[str],
    network: LiftedNetwork,
    scaling: Scaling,
    *names: str,
    force: bool,
) -> Path:
    """Write parameters, network, scaling, curves, and the fitted attributes ``names``.

    Raises
    ------
    InvalidInputError
        A loss of your own, or labels that are neither numbers nor text.
    OutputError
        The file exists and ``force`` is false, or cannot be written.
    """
    known = vars(estimator)
    # names of columns are there only where the data had some
    extra = {name: np.atleast_1d(known[name]) for name in (*names, *CURVES, "feature_names_in_") if name in known}
    stored = Stored(type(estimator).__name__, estimator.get_params(deep=False), network, scaling, extra)
    return save_estimator(path, stored, force=force)


def load_fitted(kind: type[E], path: str | os.PathLike[str]) -> E:
    """An estimator of this kind as :func:`save_fitted` wrote it.

    Raises
    ------
    FileFormatError
        The file is missing, truncated, or of another estimator.
    """
    stored = load_estimator(path)
    if stored.kind != kind.__name__:
        raise FileFormatError(f"{path} holds a {stored.kind[:60]}, not a {kind.__name__}")
    unknown = stored.params.keys() - kind().get_params(deep=False).keys()
    if unknown:
        raise FileFormatError(f"{path}: a {kind.__name__} has no parameter {min(unknown)[:40]!r}")
    model = kind(**stored.params)
    curves = {name: stored.extra[name].tolist() for name in CURVES}
    told: dict[str, Any] = {
        "network_": stored.network,
        "n_features_in_": stored.network.n_inputs,
        "n_iter_": len(curves["loss_curve_"]),
        "_scaling": stored.scaling,
        "_state": None,  # the optimiser's memory is not kept
        "_certificates": {},
    }
    if "classes_" in stored.extra:  # files of earlier versions have one class to a sample, and do not say so
        told["multilabel_"] = bool(np.any(stored.extra.get("multilabel_", False)))
    model.__dict__.update(stored.extra | curves | told)
    return model
