"""What regressors take: checked samples, and the names of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d, validate_data

from certnet.core.errors import InvalidInputError
from certnet.core.frames import is_frame
from certnet.core.validation import Float, finite_array
from certnet.estimators.preparation import require_numbers

__all__ = ["Observed", "known_inputs", "named_columns", "regression_samples"]


@dataclass(frozen=True, eq=False)
class Observed:
    """Samples that are checked.

    Attributes
    ----------
    X : ndarray of shape (N, d), or a frame
    y : ndarray, shape (N,) or (N, m)
    weight : ndarray of shape (N,) or None
        At least 0.
    """

    X: Any
    y: Float
    weight: Float | None = None

    def at(self, rows: Any) -> Observed:
        """Some of them, by number."""
        return Observed(_safe_indexing(self.X, rows), self.y[rows], None if self.weight is None else self.weight[rows])

    def counted(self, what: str) -> Observed:
        """Those of positive weight, with weights of mean 1: of weights only the ratios count.

        Raises
        ------
        InvalidInputError
            Fewer than two are left.
        """
        if self.weight is None:
            return self
        kept = np.flatnonzero(self.weight)
        if len(kept) < 2:
            raise InvalidInputError(
                f"sample_weight is above zero for {len(kept)} of {what}: two samples of positive weight, not zero, are "
                "needed"
            )
        some = self if len(kept) == len(self.weight) else self.at(kept)
        weight = self.weight[kept] / self.weight.max()
        return Observed(some.X, some.y, weight / weight.mean())


def regression_samples(
    estimator: BaseEstimator,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    whole: bool = False,
) -> Observed:
    """X (N, d) and y (N,) or (N, m), m > 1, as scikit-learn checks them; the estimator learns the columns of X.

    With ``whole``, X is left as it is, whatever its columns hold.

    Raises
    ------
    InvalidInputError
        Weights that are not one number ≥ 0 for each sample.
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
    return Observed(inputs, targets, None if sample_weight is None else _weights(sample_weight, len(targets)))


def _weights(sample_weight: ArrayLike, n: int) -> Float:
    weight = finite_array(np.asarray(sample_weight), "sample_weight", ndim=(1,))
    if len(weight) != n:
        raise InvalidInputError(f"sample_weight has {len(weight)} numbers, X has {n} samples: one for each is needed")
    if (weight < 0.0).any():
        raise InvalidInputError(f"sample_weight of sample {int(np.argmin(weight))} is negative: weights are at least 0")
    return weight


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
