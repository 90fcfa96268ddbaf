"""Pipelines apart from the regressor at their end: what they do to its inputs, and whether it can be read."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.feature_selection import SelectorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import ParameterGrid
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.frames import column_names, is_frame, plain_array
from certnet.core.validation import Float, finite_array
from certnet.io import from_sklearn, to_sklearn
from certnet.io.sklearn_ import Columns, columns_of
from certnet.networks.about import About
from certnet.networks.feedforward import FeedForward
from certnet.networks.network import Network
from certnet.networks.shallow import ShallowNetwork

__all__ = ["Preparation", "parted", "require_numbers", "require_readable", "takes_frames"]

N = TypeVar("N", bound=Network)
_OF_COLUMNS = (ColumnTransformer, FeatureUnion, OneHotEncoder, OrdinalEncoder, TargetEncoder)


@dataclass(frozen=True, eq=False)
class Preparation:
    """The fitted steps before a regressor.

    Attributes
    ----------
    steps : Pipeline
    columns : Columns
        Which columns of the user's table are numbers, categories, or dropped.
    """

    steps: Pipeline
    columns: Columns

    @classmethod
    def fitted(cls, steps: Sequence[tuple[str, Any]], X: Any, y: Float) -> Preparation:
        """Fit the steps to X (N, d) and y; refuse those that no bound can be carried through.

        Raises
        ------
        UnsupportedModelError
            A step is neither affine nor an encoder of categories.
        """
        return cls.of(Pipeline(list(steps)).fit(X, y))

    @classmethod
    def of(cls, steps: Pipeline) -> Preparation:
        """Of steps that are fitted.

        Raises
        ------
        UnsupportedModelError
            A step is neither affine nor an encoder of categories, or no column is a number.
        """
        columns = columns_of(steps)
        if not columns.numeric:
            raise UnsupportedModelError(
                f"the model has no numeric input: it encodes {', '.join(columns.categorical)}, and a slope is one in "
                "numbers"
            )
        return cls(steps, columns)

    @property
    def folds(self) -> bool:
        """Are the steps affine in all columns, so that a network can be stated in the user's units?"""
        return not self.columns.categorical

    def inputs(self, X: Any) -> Float:
        """What the steps give of X (N, d), shape (N, k)."""
        made = self.steps.transform(X)
        made = made.toarray() if issparse(made) else made  # type: ignore[attr-defined]
        return finite_array(np.asarray(made), "the preprocessed X", ndim=(2,))

    def numbers(self, X: Any) -> Float:
        """The columns of X (N, d) that are numbers and that the steps use, as the networks of :meth:`at` take them."""
        places = self._places(X, self.columns.numeric)
        if is_frame(X):
            return finite_array(plain_array(X, "X", places), "X", ndim=(2,))
        return finite_array(np.asarray(X)[:, places].tolist(), "X", ndim=(2,))

    def categories(self, X: Any) -> list[tuple[Any, ...]]:
        """The values of the categorical columns in every row of X."""
        places = self._places(X, self.columns.categorical)
        if is_frame(X):
            names = column_names(X)
            return list(zip(*(np.asarray(X[names[j]], dtype=object).tolist() for j in places)))
        return [tuple(row) for row in np.asarray(X, dtype=object)[:, places].tolist()]

    def _places(self, X: Any, wanted: Sequence[str]) -> list[int]:
        names = (column_names(X) if is_frame(X) else ()) or self.columns.names
        return [names.index(name) for name in wanted]

    def first(self, X: Any) -> dict[str, Any]:
        """The categories of the first row of X, by column."""
        return dict(zip(self.columns.categorical, self.categories(X)[0])) if self.columns.categorical else {}

    def at(self, network: Network, fixed: Mapping[Any, Any]) -> ShallowNetwork | FeedForward:
        """``network`` behind the steps, in the user's numeric columns, the categories held at values."""
        whole = Pipeline([("preprocessing", self.steps), ("network", to_sklearn(_known(network)))])
        return from_sklearn(whole, fixed=fixed)

    def slopes_in_numbers(self, X: Any) -> Float:
        """What the steps multiply numeric columns by: the derivatives of all that they give, shape (k, n_numeric).

        The categories of X are held: the steps are affine in the numbers beside them.
        """
        k = self.inputs(X).shape[1]
        identity = ShallowNetwork(np.eye(k), np.zeros(k), np.eye(k), np.zeros(k))
        return self.at(identity, self.first(X)).weights[0]

    def described(self, network: N) -> N:
        """``network``, whose inputs are what the steps give, with words that say so."""
        try:
            names = tuple(map(str, self.steps.get_feature_names_out()))
        except (AttributeError, ValueError):
            names = ()
        words = f"the inputs are those after the preprocessing, which encodes {', '.join(self.columns.categorical)}"
        return network.described(About(network.about.read, names, network.about.outputs, (words,)))


def _known(network: Network) -> ShallowNetwork | FeedForward:
    """A network in one of the two forms that are read and written."""
    return network if isinstance(network, ShallowNetwork) else FeedForward.of(network)


def takes_frames(estimator: Any) -> bool:
    """Does the estimator treat columns differently, so that it must see them as the user gave them?"""
    return any(_of_columns(step) for _, step in parted(estimator)[0])


def _of_columns(step: Any) -> bool:
    if type(step) is Pipeline:
        return any(_of_columns(inner) for _, inner in step.steps)
    return _of_columns(step.estimator) if type(step) is FrozenEstimator else type(step) in _OF_COLUMNS


def parted(estimator: Any) -> tuple[list[tuple[str, Any]], Any]:
    """The steps before the regressor, by name, and the regressor without them; nothing is changed or copied deeply."""
    if type(estimator) is FrozenEstimator:
        return parted(estimator.estimator)
    if type(estimator) is Pipeline and estimator.steps:
        inner, last = parted(estimator.steps[-1][1])
        steps = [*estimator.steps[:-1], *inner]
        outer = len(estimator.steps) - 1
        # steps of nested pipelines may have the same names
        return [(name if k < outer else f"{name}-{k}", step) for k, (name, step) in enumerate(steps)], last
    if type(estimator) is TransformedTargetRegressor:
        is_fitted = "regressor_" in vars(estimator)
        steps, last = parted(estimator.regressor_ if is_fitted else estimator.regressor)
        if not steps:
            return [], estimator
        without = copy.copy(estimator)
        without.regressor = last
        if is_fitted:
            without.regressor_ = last
        return steps, without
    if isinstance(estimator, BaseSearchCV) and "best_estimator_" in vars(estimator):
        return parted(estimator.best_estimator_)
    return [], estimator


def require_numbers(X: Any) -> None:
    """Refuse a frame with text, naming the column, where no pipeline encodes it.

    Raises
    ------
    InvalidInputError
    """
    if not is_frame(X):
        return
    try:
        plain_array(X, "X")
    except InvalidInputError as error:
        raise InvalidInputError(
            f"{error}; nothing is trained: pass an estimator that encodes it, such as make_pipeline("
            "make_column_transformer((OneHotEncoder(), [names of text columns]), remainder=StandardScaler()), "
            "MLPRegressor(hidden_layer_sizes=(100,)))"
        ) from error


def require_readable(model: Any, X: Float, y: Float) -> None:
    """Refuse, before its regressor is trained, a model with steps or target transformers that cannot be read.

    The steps are fitted to X (N, d) and y on copies, with a constant network in the regressor's place, and the whole is
    read as the trained model would be: it is refused in the same words. Of a grid search, one candidate that can be
    read is enough; other searches are not looked into.

    Raises
    ------
    UnsupportedModelError
        What :func:`certnet.io.from_sklearn` would raise after the training.
    """
    refusal: UnsupportedModelError | None = None
    stand_in = FrozenEstimator(_constant(X.shape[1], y))  # fit leaves it alone, and clone does not copy it
    for variant in _untrained_variants(model, stand_in):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the fit that counts gives them again
                variant.fit(X, y)
                steps, _ = parted(variant)
                given = Pipeline(steps).transform(X) if steps else X
                stand_in.estimator = _constant(given.shape[1], y)
                from_sklearn(variant, units="raw")
            return
        except UnsupportedModelError as error:
            refusal = refusal or error
        except Exception:  # noqa: BLE001 - a step that does not fit: scikit-learn's own fit says so, or passes it over
            return
    if refusal is not None:
        raise refusal


def _constant(d: int, y: Float) -> Any:
    """A perceptron of d inputs that predicts 0, in the shape of y."""
    m = 1 if y.ndim == 1 else y.shape[1]
    return to_sklearn(ShallowNetwork(np.zeros((1, d)), np.zeros(1), np.zeros((m, 1)), np.zeros(m)))


def _untrained_variants(model: Any, stand_in: Any) -> Iterator[Any]:
    """Unfitted copies of ``model`` with another regressor, one for each candidate of a grid search within it."""
    if type(model) is Pipeline and model.steps:
        *steps, (name, last) = model.steps
        while steps and isinstance(steps[-1][1], SelectorMixin):
            steps.pop()  # always read, and some are as slow to fit as a network
        for inner in _untrained_variants(last, stand_in):
            copies = [(key, clone(step, safe=False)) for key, step in steps]
            yield Pipeline([*copies, (name, inner)])
    elif type(model) is TransformedTargetRegressor:
        for inner in _untrained_variants(model.regressor, stand_in):
            yield clone(model).set_params(regressor=inner)
    elif isinstance(model, BaseSearchCV) and hasattr(model, "param_grid"):
        for chosen in ParameterGrid(model.param_grid):
            parameters = {key: clone(value, safe=False) for key, value in chosen.items()}
            yield from _untrained_variants(clone(model.estimator).set_params(**parameters), stand_in)
    else:
        yield stand_in
