"""Where a refinement starts: a scikit-learn regressor that is trained here, or a fitted model that is read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.estimators.choice import TAKES_WEIGHTS, StartChoice, choose_start
from certnet.estimators.preparation import require_readable
from certnet.estimators.samples import Observed
from certnet.estimators.standardisation import Standardisation
from certnet.io import from_sklearn, from_torch
from certnet.networks.feedforward import FeedForward
from certnet.networks.network import Network
from certnet.networks.shallow import ShallowNetwork

__all__ = [
    "Start",
    "is_fitted",
    "read_fitted",
    "require_columns",
    "require_trainable",
    "stand_in",
    "thawed",
    "trained",
]


def is_fitted(estimator: Any, *, prefit: bool) -> bool:
    """Is ``estimator`` to be used as it stands?"""
    return prefit or isinstance(estimator, FrozenEstimator | ShallowNetwork | FeedForward)


def thawed(estimator: Any) -> Any:
    """The model itself, without scikit-learn's wrapper that keeps clones from unfitting it."""
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


@dataclass(frozen=True, eq=False)
class Start:
    """A fitted model and its network, in the units of the data that the model takes and gives.

    Attributes
    ----------
    model : estimator, ShallowNetwork, FeedForward or torch module
    network : ShallowNetwork or FeedForward
        A ``ShallowNetwork`` for one hidden layer of ReLU.
    choice : StartChoice or None
        How the model was trained, where that was chosen here.
    """

    model: Any
    network: ShallowNetwork | FeedForward
    choice: StartChoice | None = None


def trained(estimator: Any, rows: Observed, *, standardise: bool, sizes: tuple[int, ...], seed: int) -> Start:
    """A model fitted to rows of numbers, and its network in raw units.

    Raises
    ------
    InvalidInputError
        What is given is no scikit-learn estimator.
    UnsupportedModelError
        A step around the regressor cannot be read, or its network could not be refined; raised before it is trained.
    """
    choice: StartChoice | None = None
    if estimator is None:
        X, y = Standardisation.of(rows.X, rows.y, rows.weight).data(rows.X, rows.y) if standardise else (rows.X, rows.y)
        choice = choose_start(X, y, rows.weight, sizes, seed)
        inner = choice.perceptron(seed)
    else:
        require_trainable(estimator)
        inner = clone(estimator)
    model = _standardised(inner, rows) if standardise else inner
    if estimator is not None and type(estimator) is not MLPRegressor:  # those have no steps
        require_readable(model, rows.X, rows.y)
    # scikit-learn's keys with "__" are those of its plain way to hand weights on
    with warnings.catch_warnings(), config_context(enable_metadata_routing=False):
        if choice is not None:
            warnings.simplefilter("ignore", ConvergenceWarning)  # where to stop was chosen
        model.fit(rows.X, rows.y, **_weight_options(model, rows.weight))
    return Start(model, _plain(from_sklearn(model, units="raw")), choice)


def _standardised(inner: Any, rows: Observed) -> Any:
    """The estimator within the standardisation that the objective is stated in."""
    scaler: Any = StandardScaler()
    if rows.weight is not None:  # a TransformedTargetRegressor hands no weights to its transformer
        scaler = make_pipeline(FrozenEstimator(scaler.fit(rows.y.reshape(len(rows.y), -1), sample_weight=rows.weight)))
    return make_pipeline(StandardScaler(), TransformedTargetRegressor(inner, transformer=scaler))


def _weight_options(model: Any, weight: Float | None) -> dict[str, Float]:
    """What ``fit`` of an estimator is given so that its regressor, and the outermost scaling, see the weights."""
    if weight is None:
        return {}
    key = _path_to_weights(model)
    options = {key: weight} if TAKES_WEIGHTS else {}
    if type(model) is Pipeline and type(model.steps[0][1]) is StandardScaler:
        options[f"{model.steps[0][0]}__sample_weight"] = weight
    return options


def _path_to_weights(model: Any) -> str:
    if type(model) is Pipeline and model.steps:
        name, last = model.steps[-1]
        return f"{name}__{_path_to_weights(last)}"
    if type(model) is TransformedTargetRegressor:
        return _path_to_weights(model.regressor)
    return _path_to_weights(model.estimator) if isinstance(model, BaseSearchCV) else "sample_weight"


def require_trainable(estimator: Any) -> None:
    """Refuse, before any training, an estimator whose network could not be refined after it.

    Raises
    ------
    InvalidInputError
        What is given is no scikit-learn estimator.
    UnsupportedModelError
        The innermost regressor is another one than ``MLPRegressor``, or has no hidden layer.
    """
    if not isinstance(estimator, BaseEstimator):
        raise InvalidInputError(
            f"estimator is {_kind(estimator)}, which cannot be trained here: pass a scikit-learn estimator, "
            "or prefit=True for a fitted model"
        )
    inner = _innermost(estimator)
    what = f"the estimator is {type(inner).__module__}.{type(inner).__name__}"
    if type(inner) is not MLPRegressor:
        raise UnsupportedModelError(
            f"{what}: an MLPRegressor can be refined, alone or at the end of a Pipeline; other models after they are "
            "fitted (prefit=True), where certnet reads them"
        )
    if np.size(inner.hidden_layer_sizes) == 0:
        raise UnsupportedModelError(f"{what} with no hidden layer: its slope is that of its weights")


def stand_in(estimator: Any, n_inputs: int, n_outputs: int) -> FeedForward:
    """A network with the depth and the activation of the one that an estimator (None: the default) will be trained to.

    Every layer has one unit, and all weights are 0.
    """
    inner = MLPRegressor() if estimator is None else _innermost(estimator)
    depth = np.size(inner.hidden_layer_sizes)
    widths = [n_inputs, *[1] * depth, n_outputs]
    weights = [np.zeros((n, m)) for m, n in pairwise(widths)]
    activation = {"logistic": "sigmoid"}.get(inner.activation, inner.activation)
    return FeedForward(weights, [np.zeros(n) for n in widths[1:]], activation)


def _innermost(model: Any) -> Any:
    """The regressor or classifier within pipelines, transformers of targets and searches."""
    if type(model) is Pipeline and model.steps:
        return _innermost(model.steps[-1][1])
    if type(model) is TransformedTargetRegressor:
        return _innermost(model.regressor)
    return _innermost(model.estimator) if isinstance(model, FrozenEstimator | BaseSearchCV) else model


def read_fitted(model: Any) -> ShallowNetwork | FeedForward:
    """The network of a fitted model, in the units of the data that the model takes and gives.

    Raises
    ------
    UnsupportedModelError
        The model is not fitted, or of a kind that certnet does not read.
    """
    if isinstance(model, ShallowNetwork | FeedForward):
        return _plain(model)
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
        return _plain(from_sklearn(model, units="raw"))
    if any(base.__module__.partition(".")[0] == "torch" for base in type(model).__mro__):
        return _plain(from_torch(model, units="raw"))
    raise UnsupportedModelError(
        f"the prefit estimator is {_kind(model)}: certnet takes a fitted scikit-learn model, a ShallowNetwork, a "
        "FeedForward or a torch module"
    )


def require_columns(
    network: Network, X: Float, y: Float, names: Sequence[str] | None, fitted_on: Sequence[str] | None
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


def _plain(network: ShallowNetwork | FeedForward) -> ShallowNetwork | FeedForward:
    """The network as a ``ShallowNetwork`` where it is one."""
    return network.shallow() if isinstance(network, FeedForward) and network.relu_only else network


def _kind(found: Any) -> str:
    return "None" if found is None else f"of type {type(found).__name__}"
