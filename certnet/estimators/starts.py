"""Where a refinement starts: a scikit-learn regressor that is trained here, or a fitted model that is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.estimators.preparation import require_readable
from certnet.io import from_sklearn, from_torch
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["is_fitted", "read_fitted", "require_columns", "require_trainable", "thawed", "trained", "untrained"]


def is_fitted(estimator: Any, *, prefit: bool) -> bool:
    """Is ``estimator`` to be used as it stands?"""
    return prefit or isinstance(estimator, FrozenEstimator | ShallowNetwork | FeedForward)


def thawed(estimator: Any) -> Any:
    """The model itself, without scikit-learn's wrapper that keeps clones from unfitting it."""
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


def trained(estimator: Any, X: Float, y: Float, *, standardise: bool, seed: int) -> tuple[Any, ShallowNetwork]:
    """A model fitted to X (N, d) and y (N,) or (N, m), and its network in raw units.

    Raises
    ------
    UnsupportedModelError
        A step around the regressor cannot be read; raised before the regressor is trained.
    """
    model = untrained(estimator, standardise=standardise, seed=seed)
    if estimator is not None and type(estimator) is not MLPRegressor:  # those have no steps
        require_readable(model, X, y)
    model.fit(X, y)
    return model, _shallow(from_sklearn(model, units="raw"))


def untrained(estimator: Any, *, standardise: bool, seed: int) -> Any:
    """The estimator to train, within the standardisation that the objective is stated in.

    Raises
    ------
    InvalidInputError
        What is given is no scikit-learn estimator.
    """
    if estimator is not None and not isinstance(estimator, BaseEstimator):
        raise InvalidInputError(
            f"estimator is {_kind(estimator)}, which cannot be trained here: pass a scikit-learn estimator, "
            "or prefit=True for a fitted model"
        )
    if estimator is None:
        # scikit-learn's limit of 200 epochs is too low for small data sets
        inner = MLPRegressor(hidden_layer_sizes=(100,), max_iter=5000, random_state=seed)
    else:
        require_trainable(estimator)
        inner = clone(estimator)
    if not standardise:
        return inner
    return make_pipeline(StandardScaler(), TransformedTargetRegressor(inner, transformer=StandardScaler()))


def require_trainable(estimator: Any) -> None:
    """Refuse, before any training, an estimator whose network could not be refined after it.

    Raises
    ------
    UnsupportedModelError
        The innermost regressor is another one than ``MLPRegressor``, or has not one hidden layer with ReLU.
    """
    inner = _innermost(estimator)
    what = f"the estimator is {type(inner).__module__}.{type(inner).__name__}"
    need = "an MLPRegressor with one hidden layer and activation='relu' can be refined"
    if type(inner) is not MLPRegressor:
        raise UnsupportedModelError(f"{what}: {need}, alone or at the end of a Pipeline")
    sizes = inner.hidden_layer_sizes
    layers = np.size(sizes)
    if inner.activation != "relu" or layers != 1:
        raise UnsupportedModelError(f"{what} with activation={inner.activation!r} and {layers} hidden layer(s): {need}")


def _innermost(model: Any) -> Any:
    """The regressor or classifier within pipelines, transformers of targets and searches."""
    if type(model) is Pipeline and model.steps:
        return _innermost(model.steps[-1][1])
    if type(model) is TransformedTargetRegressor:
        return _innermost(model.regressor)
    return _innermost(model.estimator) if isinstance(model, FrozenEstimator | BaseSearchCV) else model


def read_fitted(model: Any) -> ShallowNetwork:
    """The network of a fitted model, in the units of the data that the model takes and gives.

    Raises
    ------
    UnsupportedModelError
        The model is not fitted, or of a kind that certnet does not read.
    """
    if isinstance(model, ShallowNetwork | FeedForward):
        return _shallow(model)
    if isinstance(model, BaseEstimator):
        try:
            check_is_fitted(model)
        except NotFittedError as error:
            raise UnsupportedModelError(
                f"the prefit {type(model).__name__} is not fitted: fit it first; clones, as GridSearchCV makes them, "
                "are unfitted unless the model is wrapped: FrozenEstimator(model)"
            ) from error
        if isinstance(_innermost(model), MLPClassifier):
            raise UnsupportedModelError(
                "the prefit model is a classifier, this is a regressor: certnet.from_sklearn(model) reads its logits"
            )
        return _shallow(from_sklearn(model, units="raw"))
    if any(base.__module__.partition(".")[0] == "torch" for base in type(model).__mro__):
        return _shallow(from_torch(model, units="raw"))
    raise UnsupportedModelError(
        f"the prefit estimator is {_kind(model)}: certnet takes a fitted scikit-learn model, a ShallowNetwork or a "
        "torch module"
    )


def require_columns(
    network: ShallowNetwork, X: Float, y: Float, names: Sequence[str] | None, fitted_on: Sequence[str] | None
) -> None:
    """Refuse a network without the inputs and outputs of the data, or with other names where both have names.

    ``names`` are those of the columns of X, ``fitted_on`` those that the network's model was fitted on.
    """
    outputs = 1 if y.ndim == 1 else y.shape[1]
    for name, found, needed, kind in (
        ("X", X.shape[1], network.n_inputs, "inputs"),
        ("y", outputs, network.n_outputs, "output(s)"),
    ):
        if found != needed:
            raise InvalidInputError(f"{name} has {found} columns, the prefit estimator has {needed} {kind}")
    if fitted_on is not None and names is not None and list(fitted_on) != list(names):
        raise InvalidInputError(
            f"X has the columns {', '.join(names)}, the prefit estimator was fitted on {', '.join(fitted_on)}: "
            "give the same columns in the same order"
        )


def _shallow(network: ShallowNetwork | FeedForward) -> ShallowNetwork:
    """The network as one that can be refined."""
    return network.shallow() if isinstance(network, FeedForward) else network


def _kind(found: Any) -> str:
    return "None" if found is None else f"of type {type(found).__name__}"
