"""Fitted preprocessing of scikit-learn as affine maps of the numeric columns, the others held at fixed values."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, FastICA, IncrementalPCA, TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection
from sklearn.utils.validation import check_is_fitted

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.sklearn_maps import AffineMap, Chain, Constant, Matrix, Parallel, Part, Scaling, Selection

__all__ = ["FREE", "SUPPORTED", "Column", "Reading", "check_fitted", "describe", "is_identity", "plan"]

SUPPORTED: Final = (
    "certnet reads a fitted MLPRegressor or MLPClassifier (at least one hidden layer), alone or inside Pipeline, "
    "TransformedTargetRegressor, FrozenEstimator and searches, whose other parts are affine (StandardScaler, "
    "MinMaxScaler, RobustScaler, MaxAbsScaler, PCA, TruncatedSVD, feature selection, SimpleImputer, ColumnTransformer "
    "with encoders) or pass data through"
)

FREE: Final = object()
"""The value of a column that is an input of the network."""

_ENCODERS: Final = (OneHotEncoder, OrdinalEncoder, TargetEncoder)

_REASONS: Final = {
    "PolynomialFeatures": "products of inputs have no bounded slope",
    "SplineTransformer": "splines are not affine, and their slopes are not known to certnet",
    "KBinsDiscretizer": "bins jump, so that no Lipschitz constant exists",
    "Binarizer": "thresholds jump, so that no Lipschitz constant exists",
    "Normalizer": "a division by the row's norm is not affine, and its slope is unbounded near 0",
    "PowerTransformer": "powers are not affine, and their slopes are not bounded",
    "QuantileTransformer": "quantiles are not affine, and their slopes are as steep as the data are dense",
    "KernelPCA": "kernels are not affine, and their slopes are not known to certnet",
    "Nystroem": "kernels are not affine, and their slopes are not known to certnet",
    "RBFSampler": "cosines of inputs are not affine",
}
"""Why what many pipelines hold cannot be read."""


@dataclass(frozen=True, eq=False)
class Column:
    """A column on its way through the steps.

    Attributes
    ----------
    origin : int or None
        The column of the model's input that it is, unchanged; None for what a step has computed.
    value : object
        :data:`FREE`, or the value that it is held at.
    """

    origin: int | None
    value: Any = FREE


@dataclass(frozen=True, eq=False)
class Reading:
    """The columns of a model's input, and what is learnt of them on the way through its steps.

    Attributes
    ----------
    names : tuple of str
        Of the columns that the model takes.
    fixed : mapping
        From the position of a column to the value it is held at.
    needed : dict
        Positions of columns that an encoder takes and that are not fixed, with what may be chosen.
    used, dropped : set of int
        What some step takes, and what some step drops.
    hints : dict
        Centre and spread of a column, from the scaler that it meets first.
    remarks : list of str
    """

    names: tuple[str, ...]
    fixed: Mapping[int, Any]
    needed: dict[int, str] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    hints: dict[int, tuple[float, float]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the first step takes."""
        return tuple(Column(j, self.fixed.get(j, FREE)) for j in range(len(self.names)))

    @property
    def left_out(self) -> tuple[int, ...]:
        return tuple(sorted(self.dropped - self.used - set(self.fixed)))

    def remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)


_Planned = tuple[AffineMap, tuple[Column, ...]]


def plan(step: Any, name: str, columns: tuple[Column, ...], reading: Reading) -> _Planned:
    """The map of a fitted transformer, and the columns that it gives.

    Raises
    ------
    UnsupportedModelError
        The transformer is not affine in the columns that are free, of an unknown kind, or not fitted.
    InvalidInputError
        A fixed value that the transformer does not take.
    """
    if type(step) is FrozenEstimator:
        return plan(step.estimator, name, columns, reading)
    if is_identity(step):
        return Chain(), columns
    if type(step) is Pipeline:
        maps: list[AffineMap] = []
        for inner_name, inner in step.steps:
            made, columns = plan(inner, inner_name, columns, reading)
            if made.__class__ is not Chain or made.maps:  # type: ignore[union-attr]
                maps.append(made)
        return Chain(tuple(maps)), columns
    if not isinstance(step, BaseEstimator) or isinstance(step, type):
        raise UnsupportedModelError(f"the step {name!r} is {describe(step)}: {SUPPORTED}")
    check_fitted(step)
    _check_width(step, name, len(columns))
    if type(step) is ColumnTransformer:
        return _side_by_side(_groups(step), columns, reading)
    if type(step) is FeatureUnion:
        return _side_by_side(_union(step, columns), columns, reading)
    if columns and all(column.value is not FREE for column in columns):
        return _evaluated(step, name, columns, reading)
    if type(step) in _ENCODERS:
        return _unfixed(step, name, columns, reading)
    if type(step) in _SCALERS:
        scaling = _SCALERS[type(step)](step)
        for column, shift, scale in zip(columns, scaling.shift, scaling.scale):
            if column.origin is not None:
                reading.hints.setdefault(column.origin, (float(shift), abs(float(scale))))
        return scaling, tuple(Column(None) for _ in columns)
    if type(step) in _PROJECTIONS:
        matrix = _PROJECTIONS[type(step)](step, len(columns))
        return matrix, tuple(Column(None) for _ in matrix.A)
    if type(step) in (SimpleImputer, KNNImputer):
        return _imputed(step, name, columns, reading)
    if isinstance(step, SelectorMixin) and type(step).transform is SelectorMixin.transform:
        kept = tuple(int(j) for j in np.flatnonzero(step.get_support()))
        return Selection(kept, len(columns)), tuple(columns[j] for j in kept)
    reason = _REASONS.get(type(step).__name__, "")
    if reason:
        free = ", ".join(reading.names[c.origin] for c in columns if c.origin is not None and c.value is FREE)
        more = f" (its columns: {free})" if free else ""
        raise UnsupportedModelError(
            f"the step {name!r} is {describe(step)}, which cannot be read, because {reason}{more}: {SUPPORTED}; "
            "a model after such steps is certified in the columns that they give: pass the model alone"
        )
    raise UnsupportedModelError(f"the step {name!r} is {describe(step)}: {SUPPORTED}")


def is_identity(step: Any) -> bool:
    """Whether a step passes data through; TransformedTargetRegressor writes None as an empty FunctionTransformer."""
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return True
    return type(step) is FunctionTransformer and step.func is None and step.inverse_func is None


def describe(found: Any) -> str:
    """How an object is named in a message; of a function transformer, the functions matter."""
    if type(found) is FunctionTransformer:
        return f"FunctionTransformer(func={found.func!r}, inverse_func={found.inverse_func!r})"
    return repr(found) if isinstance(found, str) else f"{type(found).__module__}.{type(found).__name__}"


def check_fitted(part: BaseEstimator) -> None:
    try:
        check_is_fitted(part)
    except NotFittedError as error:
        raise UnsupportedModelError(f"the {type(part).__name__} is not fitted: call fit first; {SUPPORTED}") from error


def _check_width(step: BaseEstimator, name: str, width: int) -> None:
    taken = getattr(step, "n_features_in_", width)
    if taken != width:
        raise UnsupportedModelError(
            f"the {type(step).__name__} in step {name!r} was fitted on {taken} columns, and is given {width}: "
            "fit all steps together"
        )


# -------------------------------------------------------------------------------------------------------- affine steps


def _standard(step: StandardScaler) -> Scaling:
    # transform obeys the flags: a scaler with with_mean=False may well hold a mean_
    d = step.n_features_in_
    return _scaling(d, step.mean_ if step.with_mean else 0.0, step.scale_ if step.with_std else 1.0)


def _min_max(step: MinMaxScaler) -> Scaling:
    _refuse_clip(step)
    return _scaling(step.n_features_in_, -step.min_ / step.scale_, 1.0 / step.scale_)


def _robust(step: RobustScaler) -> Scaling:
    d = step.n_features_in_
    return _scaling(d, step.center_ if step.with_centering else 0.0, step.scale_ if step.with_scaling else 1.0)


def _max_abs(step: MaxAbsScaler) -> Scaling:
    if getattr(step, "clip", False):  # scikit-learn 1.8 and newer
        _refuse_clip(step)
    return _scaling(step.n_features_in_, 0.0, step.scale_)


def _refuse_clip(step: Any) -> None:
    if step.clip:
        raise UnsupportedModelError(
            f"the {type(step).__name__} has clip=True, which is not affine beyond the range of the data: "
            "fit it with clip=False"
        )


def _scaling(d: int, shift: Any, scale: Any) -> Scaling:
    shift, scale = (np.array(np.broadcast_to(a, (d,)), dtype=np.float64) for a in (shift, scale))
    if not np.all(scale):
        raise InvalidInputError("a scale is zero: a constant column must have scale 1")
    return Scaling(shift, scale)


def _pca(step: PCA | IncrementalPCA, d: int) -> Matrix:
    A = np.asarray(step.components_, dtype=np.float64)
    scale = np.ones(len(A))
    if step.whiten:
        least = np.finfo(step.explained_variance_.dtype).eps  # scikit-learn's own limit
        scale = np.maximum(np.sqrt(np.asarray(step.explained_variance_, dtype=np.float64)), least)
    return Matrix(A, A @ _vector(step.mean_, d), scale)


def _ica(step: FastICA, d: int) -> Matrix:
    A = np.asarray(step.components_, dtype=np.float64)
    return Matrix(A, A @ _vector(step.mean_ if step.whiten else None, d), np.ones(len(A)))


def _linear(step: Any, d: int) -> Matrix:
    A = np.asarray(_dense(step.components_), dtype=np.float64)
    return Matrix(A, np.zeros(len(A)), np.ones(len(A)))


def _dense(array: Any) -> Any:
    return array.toarray() if issparse(array) else array  # type: ignore[attr-defined]


def _vector(values: Any, d: int) -> Float:
    return np.zeros(d) if values is None else np.asarray(values, dtype=np.float64)


_SCALERS: Final[dict[type, Callable[[Any], Scaling]]] = {
    StandardScaler: _standard,
    MinMaxScaler: _min_max,
    RobustScaler: _robust,
    MaxAbsScaler: _max_abs,
}
_PROJECTIONS: Final[dict[type, Callable[[Any, int], Matrix]]] = {
    PCA: _pca,
    IncrementalPCA: _pca,
    FastICA: _ica,
    TruncatedSVD: _linear,
    GaussianRandomProjection: _linear,
    SparseRandomProjection: _linear,
}
"""Exact types: a subclass may transform otherwise."""


def _imputed(step: SimpleImputer | KNNImputer, name: str, columns: tuple[Column, ...], reading: Reading) -> _Planned:
    """On finite inputs an imputer changes nothing, but drops columns that had no value when it was fitted."""
    mark = step.missing_values
    if isinstance(mark, numbers.Number) and mark == mark:  # a number, not NaN
        raise UnsupportedModelError(
            f"the step {name!r} replaces the number {mark!r}, which jumps: mark missing values by NaN"
        )
    if step.add_indicator:
        raise UnsupportedModelError(
            f"the step {name!r} is a {type(step).__name__} with add_indicator=True: indicators of missing values jump; "
            "fit it with add_indicator=False"
        )
    reading.remark("imputation is left out: it changes nothing where no value is missing")
    if type(step) is SimpleImputer:
        kept = [j for j, fill in enumerate(step.statistics_) if step.keep_empty_features or not _is_nan(fill)]
    else:
        names = [f"x{j}" for j in range(len(columns))] if getattr(step, "feature_names_in_", None) is None else None
        given = list(names or step.feature_names_in_)
        kept = [given.index(out) for out in step.get_feature_names_out(names)]
    if len(kept) == len(columns):
        return Chain(), columns
    return Selection(tuple(kept), len(columns)), tuple(columns[j] for j in kept)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


# ------------------------------------------------------------------------------------------------------ fixed columns


def _evaluated(step: Any, name: str, columns: tuple[Column, ...], reading: Reading) -> _Planned:
    """The step at the fixed values."""
    row = np.empty((1, len(columns)), dtype=object)
    row[0] = [column.value for column in columns]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the row has no names, that a category is unknown
            made = step.transform(row)
    except (TypeError, ValueError, AttributeError) as error:
        chosen = ", ".join(f"{_name_of(c, reading)}={c.value!r}" for c in columns)
        offered = "; ".join(_offers(step, columns, reading).values())
        raise InvalidInputError(
            f"the step {name!r} does not take {chosen}: {error}" + (f". Choose {offered}" if offered else "")
        ) from error
    values = list(np.asarray(_dense(made)).ravel())
    if type(step) is OneHotEncoder:
        for column, known in zip(columns, step.categories_):
            if column.value not in list(known):
                reading.remark(f"{_name_of(column, reading)} = {column.value!r} is no category that the encoder knows")
    point = np.array([float(v) if isinstance(v, numbers.Real) else 0.0 for v in values])
    # an imputer gives the column that it takes
    kept = type(step) is SimpleImputer and len(values) == len(columns)
    origins = [column.origin for column in columns] if kept else [None] * len(values)
    return Constant(point, len(columns)), tuple(Column(j, v) for j, v in zip(origins, values))


def _unfixed(step: Any, name: str, columns: tuple[Column, ...], reading: Reading) -> _Planned:
    """What an encoder needs is noted down, so that one message names all of it."""
    if any(column.origin is None and column.value is FREE for column in columns):
        raise UnsupportedModelError(
            f"the step {name!r} is {describe(step)} of columns that earlier steps have computed: {SUPPORTED}"
        )
    free = {column.origin for column in columns if column.value is FREE}
    reading.needed.update({j: offer for j, offer in _offers(step, columns, reading).items() if j in free})
    width = len(step.get_feature_names_out())
    return Constant(np.zeros(width), len(columns)), tuple(Column(None, 0.0) for _ in range(width))


def _offers(step: Any, columns: Sequence[Column], reading: Reading) -> dict[int, str]:
    """Of every original column that an encoder takes, what may be chosen."""
    if type(step) not in _ENCODERS:
        return {}
    offers = {}
    for column, known in zip(columns, step.categories_):
        if column.origin is not None:
            some = ", ".join(repr(v) for v in known[:6].tolist()) + (", …" if len(known) > 6 else "")
            offers[column.origin] = f"{reading.names[column.origin]} among {some}"
    return offers


def _name_of(column: Column, reading: Reading) -> str:
    return "a computed column" if column.origin is None else reading.names[column.origin]


# -------------------------------------------------------------------------------------------------------- side by side

_Group = tuple[str, Any, tuple[int, ...], int | None, float]
"""Name, transformer, columns taken, width given (None: what it gives), weight."""


def _groups(step: ColumnTransformer) -> list[_Group]:
    weights = step.transformer_weights or {}
    taken = step._transformer_to_input_indices
    found: list[_Group] = []
    for name, inner, _ in step.transformers_:
        span = step.output_indices_.get(name, slice(0, 0))
        columns = tuple(int(j) for j in taken[name])
        found.append((name, inner, columns, span.stop - span.start, weights.get(name, 1.0)))
    return found


def _union(step: FeatureUnion, columns: tuple[Column, ...]) -> list[_Group]:
    weights, every = step.transformer_weights or {}, tuple(range(len(columns)))
    return [(name, inner, every, None, weights.get(name, 1.0)) for name, inner in step.transformer_list]


def _side_by_side(groups: Sequence[_Group], columns: tuple[Column, ...], reading: Reading) -> _Planned:
    parts: list[Part] = []
    given: list[Column] = []
    for name, inner, taken, width, weight in groups:
        origins = {columns[j].origin for j in taken} - {None}
        if isinstance(inner, str) and inner == "drop":
            reading.dropped.update(origins)  # type: ignore[arg-type]
            continue
        if width == 0:
            continue
        reading.used.update(origins)  # type: ignore[arg-type]
        made, out = plan(inner, name, tuple(columns[j] for j in taken), reading)
        if width is not None and len(out) != width:
            raise UnsupportedModelError(f"the step {name!r} was expected to give {len(out)} columns, and gave {width}")
        parts.append(Part(taken, len(given), len(given) + len(out), made, weight))
        # scaled by a weight, a column is no longer the one that came in
        given += out if weight == 1.0 else [Column(None) for _ in out]
    return Parallel(tuple(parts), len(columns)), tuple(given)
