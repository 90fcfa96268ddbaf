"""What regressors take: checked samples, and the names of their columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import column_or_1d, validate_data

from certnet.core.validation import Float, finite_array

__all__ = ["named_columns", "regression_samples"]


def regression_samples(estimator: BaseEstimator, X: ArrayLike, y: ArrayLike) -> tuple[Float, Float]:
    """X (N, d) and y (N,) or (N, m), m > 1, as scikit-learn checks them; the estimator learns the columns of X."""
    inputs, y = validate_data(
        estimator, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2
    )
    targets = finite_array(y, "y", ndim=(1, 2))
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = column_or_1d(targets, warn=True)  # as scikit-learn's own MLPRegressor does
    return inputs, targets


def named_columns(estimator: BaseEstimator) -> Sequence[str] | None:
    """The names of the columns of X; by scikit-learn's convention the attribute is there only where they have any."""
    names: Sequence[str] | None = getattr(estimator, "feature_names_in_", None)
    return names
