"""What regressors take: checked samples, and the names of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d, validate_data

from certnet.core.frames import is_frame
from certnet.core.validation import Float, finite_array
from certnet.estimators.preparation import require_numbers

__all__ = ["known_inputs", "named_columns", "regression_samples"]


def regression_samples(
    estimator: BaseEstimator, X: ArrayLike, y: ArrayLike, *, whole: bool = False
) -> tuple[Any, Float]:
    """X (N, d) and y (N,) or (N, m), m > 1, as scikit-learn checks them; the estimator learns the columns of X.

    With ``whole``, X is left as it is, whatever its columns hold.
    """
    if whole:
        validate_data(estimator, X, skip_check_array=True)
        inputs = X if is_frame(X) else check_array(X, dtype=None, ensure_all_finite=False)
        y = check_array(y, dtype=np.float64, ensure_2d=False, ensure_min_samples=2, input_name="y")
        check_consistent_length(inputs, y)
    else:
        require_numbers(X)
        inputs, y = validate_data(
            estimator, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
    targets = finite_array(y, "y", ndim=(1, 2))
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = column_or_1d(targets, warn=True)  # as scikit-learn's own MLPRegressor does
    return inputs, targets


def known_inputs(estimator: BaseEstimator, X: ArrayLike, *, whole: bool) -> Any:
    """X (N, d) of the columns that the estimator was fitted on; ``whole`` leaves it as it is."""
    if not whole:
        return validate_data(estimator, X, dtype=np.float64, reset=False)
    validate_data(estimator, X, skip_check_array=True, reset=False)
    return X if is_frame(X) else check_array(X, dtype=None, ensure_all_finite=False)


def named_columns(estimator: BaseEstimator) -> Sequence[str] | None:
    """The names of the columns of X; by scikit-learn's convention the attribute is there only where they have any."""
    names: Sequence[str] | None = getattr(estimator, "feature_names_in_", None)
    return names
