"""Networks from and to scikit-learn's MLPRegressor, with the scaling around it folded in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.validation import check_is_fitted

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.io.networks import build
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import UNITS, ShallowNetwork

__all__ = ["from_sklearn", "to_sklearn"]

_SUPPORTED: Final = (
    "certnet reads a fitted MLPRegressor (at least one hidden layer, squared error), alone or inside "
    "Pipeline and TransformedTargetRegressor whose other parts are StandardScaler or pass data through; "
    "of a search, pass best_estimator_"
)

_ACTIVATIONS: Final = {"relu": "relu", "tanh": "tanh", "logistic": "sigmoid", "identity": "identity"}
"""scikit-learn's names of activations, and certnet's."""

_Scaler = tuple[str, StandardScaler]
"""A scaler and the side it acts on: "x" for inputs, "y" for targets."""


def from_sklearn(model: BaseEstimator, *, units: str | None = None) -> ShallowNetwork | FeedForward:
    """``x_{k+1} = φ(coefs_[k]ᵀ x_k + intercepts_[k])`` of a fitted ``MLPRegressor``, the last layer without φ.

    φ is relu, tanh, logistic or identity. With scalers around it,
    ``f_raw(x) = y_scale · f((x − x_mean) / x_scale) + y_mean``.

    Parameters
    ----------
    model : MLPRegressor, Pipeline or TransformedTargetRegressor
        Fitted; nested in any order (``Pipeline(StandardScaler, TransformedTargetRegressor(MLPRegressor))``, the
        reverse, several scalers in a row). Steps that are ``"passthrough"`` change nothing.
    units : {"raw", "standardised", "as given"} or None
        With a scaler in ``model``: ``"raw"`` (what ``None`` means) folds every scaler into the weights, so that the
        network maps what ``model.predict`` takes to what it gives; ``"standardised"`` returns the inner network as
        it was trained. Without a scaler nothing is folded, and ``units`` only says what the model's inputs and
        outputs are measured in (``None`` means ``"as given"``).

    Returns
    -------
    ShallowNetwork or FeedForward
        A ``ShallowNetwork`` for one hidden layer with relu. Without folding, the weights are those of the model, bit
        for bit; folded weights are rounded to float64.

    Raises
    ------
    UnsupportedModelError
        Another kind of model, transformer or loss, no hidden layer, or not fitted.
    InvalidInputError
        Unknown ``units``, ``"as given"`` for a model with scalers, or weights that are NaN or infinite.
    """
    if units is not None and units not in UNITS:
        raise InvalidInputError(f"units must be one of {', '.join(map(repr, UNITS))} or None, got {units!r}")
    regressor, scalers = _unwrap(model)
    if not scalers:
        return _network(regressor, units or "as given")
    if units == "as given":
        raise InvalidInputError('the model holds a StandardScaler: choose units="raw" or units="standardised"')
    net = _network(regressor, "standardised")
    return net if units == "standardised" else _folded(net, scalers)


def to_sklearn(net: ShallowNetwork | FeedForward) -> MLPRegressor:
    """A fitted ``MLPRegressor`` with the weights of ``net``, bit for bit.

    It predicts in the units of ``net``, can be cloned, pickled and scored, and trained further by ``partial_fit`` or,
    with ``warm_start=True``, by ``fit``. Its parameters are scikit-learn's defaults but for ``hidden_layer_sizes``
    and ``activation``. As nothing was trained, ``n_iter_`` and ``t_`` are 0, ``loss_curve_`` is empty and ``loss_`` is
    NaN.

    Raises
    ------
    UnsupportedModelError
        Layers with different activations, or one that scikit-learn has not (it has relu, tanh, logistic, identity).
    """
    net = FeedForward.of(net)
    model = MLPRegressor(hidden_layer_sizes=net.widths[1:-1], activation=_activation_for(net))
    model.coefs_ = [np.array(W.T, order="C") for W in net.weights]
    model.intercepts_ = [b.copy() for b in net.biases]
    model.n_features_in_ = net.n_inputs
    model.n_outputs_ = net.n_outputs
    model.n_layers_ = len(net.widths)
    model.out_activation_ = "identity"
    _reset_training(model)
    return model


def _activation_for(net: FeedForward) -> str:
    """scikit-learn's name of the one activation of all layers."""
    names = {phi.name for phi in net.activations}
    found = [theirs for theirs, ours in _ACTIVATIONS.items() if names == {ours}]
    if not found:
        raise UnsupportedModelError(
            f"{net!r} cannot be an MLPRegressor, which has one activation for all layers among "
            f"{', '.join(_ACTIVATIONS)}: save it as .npz or .onnx"
        )
    return found[0]


def _reset_training(model: MLPRegressor) -> None:
    """The state in which scikit-learn starts its first epoch; training on needs every one of these."""
    model.n_iter_ = 0
    model.t_ = 0
    model.loss_ = float("nan")
    model.best_loss_ = np.inf
    model.loss_curve_ = []
    model.validation_scores_ = None
    model.best_validation_score_ = None
    model._no_improvement_count = 0


def _unwrap(model: Any) -> tuple[MLPRegressor, list[_Scaler]]:
    """The innermost regressor and the scalers around it, outermost first."""
    scalers: list[_Scaler] = []
    # exact types: a subclass may predict otherwise
    while type(model) is not MLPRegressor:
        if type(model) is Pipeline and model.steps:
            scalers += [("x", scaler) for scaler in _scalers_of(model.steps[:-1])]
            model = model.steps[-1][1]
        elif type(model) is TransformedTargetRegressor:
            _check_fitted(model)
            scalers += [("y", scaler) for scaler in _scalers_of([("transformer", model.transformer_)])]
            model = model.regressor_
        else:
            raise UnsupportedModelError(f"found {_describe(model)}: {_SUPPORTED}")
    return model, scalers


def _scalers_of(steps: Sequence[tuple[str, Any]]) -> list[StandardScaler]:
    """The scalers in the steps of a pipeline, first applied first; nested pipelines are opened."""
    found: list[StandardScaler] = []
    for name, step in steps:
        if type(step) is Pipeline:
            found += _scalers_of(step.steps)
        elif type(step) is StandardScaler:
            _check_fitted(step)
            found.append(step)
        elif not _is_identity(step):
            raise UnsupportedModelError(f"the step {name!r} is {_describe(step)}: {_SUPPORTED}")
    return found


def _is_identity(step: Any) -> bool:
    """Whether a step passes data through; TransformedTargetRegressor writes None as an empty FunctionTransformer."""
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return True
    return type(step) is FunctionTransformer and step.func is None and step.inverse_func is None


def _describe(found: Any) -> str:
    """How an object is named in a message; of a function transformer, the functions matter."""
    if type(found) is FunctionTransformer:
        return f"FunctionTransformer(func={found.func!r}, inverse_func={found.inverse_func!r})"
    return repr(found) if isinstance(found, str) else f"{type(found).__module__}.{type(found).__name__}"


def _check_fitted(part: BaseEstimator) -> None:
    try:
        check_is_fitted(part)
    except NotFittedError as error:
        raise UnsupportedModelError(f"the {type(part).__name__} is not fitted: call fit first; {_SUPPORTED}") from error


def _network(model: MLPRegressor, units: str) -> ShallowNetwork | FeedForward:
    """The weights of a supported MLPRegressor; what ``predict`` uses decides, not the parameters at construction."""
    _check_fitted(model)
    if model.activation not in _ACTIVATIONS:
        raise UnsupportedModelError(f"the MLPRegressor has activation={model.activation!r}: {_SUPPORTED}")
    if model.out_activation_ != "identity":
        raise UnsupportedModelError(f"the MLPRegressor has out_activation_={model.out_activation_!r}: {_SUPPORTED}")
    if len(model.coefs_) < 2:
        raise UnsupportedModelError(f"the MLPRegressor has 0 hidden layers: {_SUPPORTED}")
    if any(issparse(array) for array in model.coefs_):
        raise UnsupportedModelError(f"coefs_ of the MLPRegressor are sparse, use .toarray() on them: {_SUPPORTED}")
    phi = Activation(_ACTIVATIONS[model.activation])
    return build([W.T for W in model.coefs_], model.intercepts_, [phi] * (len(model.coefs_) - 1), units)


def _folded(net: ShallowNetwork | FeedForward, scalers: Sequence[_Scaler]) -> ShallowNetwork | FeedForward:
    """``net`` between its scalers, from the innermost outwards."""
    for side, scaler in reversed(scalers):
        size = net.n_inputs if side == "x" else net.n_outputs
        if scaler.n_features_in_ != size:
            raise UnsupportedModelError(
                f"a StandardScaler of {side} was fitted on {scaler.n_features_in_} columns, the network has {size}: "
                "fit the scaler and the network together"
            )
        # transform obeys the flags: a scaler with with_mean=False may well hold a mean_
        shift = scaler.mean_ if scaler.with_mean else 0.0
        scale = scaler.scale_ if scaler.with_std else 1.0
        if side == "x":
            net = net.rescaled(x_shift=shift, x_scale=scale, y_shift=0.0, y_scale=1.0)
        else:
            net = net.rescaled(x_shift=0.0, x_scale=1.0, y_shift=shift, y_scale=scale)
    return net
