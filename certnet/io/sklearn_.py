"""Networks from and to scikit-learn's multi-layer perceptrons, with the affine steps around them folded in."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import one_of
from certnet.io.networks import build, require_dense
from certnet.io.sklearn_check import require_agreement, sample_rows, table_of
from certnet.io.sklearn_maps import Chain, Scaling
from certnet.io.sklearn_steps import SUPPORTED, Reading, check_fitted, describe, is_identity, plan
from certnet.networks.about import About
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import UNITS, ShallowNetwork

__all__ = ["Columns", "columns_of", "from_sklearn", "to_sklearn"]

_ACTIVATIONS: Final = {"relu": "relu", "tanh": "tanh", "logistic": "sigmoid", "identity": "identity"}
"""scikit-learn's names of activations, and certnet's."""

_Perceptron: TypeAlias = "MLPRegressor | MLPClassifier"


def from_sklearn(
    model: BaseEstimator, *, units: str | None = None, fixed: Mapping[str, Any] | None = None
) -> ShallowNetwork | FeedForward:
    """``x_{k+1} = φ(coefs_[k]ᵀ x_k + intercepts_[k])`` of a fitted perceptron, the last layer without φ.

    φ is relu, tanh, logistic or identity. With affine steps ``z = (A x − shift) / scale`` before it and an affine
    transformer of the targets behind it, ``f_raw(x) = y_scale · f(z) + y_shift``. The result is compared with the
    model's own outputs at random inputs before it is returned.

    Parameters
    ----------
    model : MLPRegressor, MLPClassifier, Pipeline, TransformedTargetRegressor, FrozenEstimator or a fitted search
        Fitted; nested in any order. Steps may be scalers (``StandardScaler``, ``MinMaxScaler``, ``RobustScaler``,
        ``MaxAbsScaler``), ``PCA``, ``TruncatedSVD`` and other projections, feature selection, ``SimpleImputer``,
        ``ColumnTransformer`` and ``FeatureUnion`` of these, with encoders, or ``"passthrough"``. Of a search, the
        ``best_estimator_`` is read; of a classifier, the logits.
    units : {"raw", "standardised", "as given"} or None
        With affine steps in ``model``: ``"raw"`` (what ``None`` means) folds every step into the weights, so that the
        network maps what ``model.predict`` takes to what it gives; ``"standardised"`` returns the inner network as
        it was trained. Without such steps nothing is folded, and ``units`` only says what the model's inputs and
        outputs are measured in (``None`` means ``"as given"``).
    fixed : mapping, optional
        From names of columns to the values they are held at, such as ``{"colour": "red"}``; columns without names are
        ``"x0"``, ``"x1"``, …. Needed for every column that an encoder takes; any other may be held, too. The network's
        inputs are the remaining columns, in their order.

    Returns
    -------
    ShallowNetwork or FeedForward
        A ``ShallowNetwork`` for one hidden layer with relu. Without folding, the weights are those of the model, bit
        for bit; folded weights are rounded to float64. Its ``about`` has the names of the inputs and what was read.

    Raises
    ------
    UnsupportedModelError
        Another kind of model, transformer or loss, no hidden layer, not fitted; a categorical column that is not fixed;
        or the network does not agree with the model.
    InvalidInputError
        Unknown ``units``, ``"as given"`` for a model with steps, ``fixed`` with a name or value that the model does not
        take, or weights that are NaN or infinite.
    """
    if units is not None:
        one_of(units, "units", UNITS)
    nest = _opened(model)
    perceptron = _checked(nest.perceptron)
    if units == "standardised" and fixed:
        raise InvalidInputError('columns are fixed in the units of the data: leave out units="standardised"')
    if units == "standardised" or (not nest.folds and not fixed):
        network = _network(perceptron, units or "as given")
        return _told(network, nest, (), [])
    if units == "as given" and nest.folds:
        found = ", ".join(describe(step).rpartition(".")[2] for step in (*nest.before.values(), *nest.targets))
        raise InvalidInputError(f'the model holds a {found}: choose units="raw" or units="standardised"')
    return _folded(
        _network(perceptron, "standardised"), nest, fixed or {}, "raw" if nest.folds else units or "as given"
    )


def to_sklearn(net: ShallowNetwork | FeedForward) -> MLPRegressor:
    """A fitted ``MLPRegressor`` with the weights of ``net``, bit for bit.

    It predicts in the units of ``net``, can be cloned, pickled and scored, and trained further by ``partial_fit`` or,
    with ``warm_start=True``, by ``fit``. Its parameters are scikit-learn's defaults but for ``hidden_layer_sizes``
    and ``activation``. As nothing was trained, ``n_iter_`` and ``t_`` are 0, ``loss_curve_`` is empty and ``loss_`` is
    NaN.

    Raises
    ------
    UnsupportedModelError
        Layers with different activations, or one that scikit-learn has not (it has relu, tanh, logistic, identity);
        convolutions or skips.
    """
    require_dense(net, "an MLPRegressor")
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


@dataclass(frozen=True)
class Columns:
    """The columns that a preprocessing takes, by name, each kind in their order.

    Attributes
    ----------
    names : tuple of str
        All of them; ``"x0"``, ``"x1"``, … where they have no names.
    numeric, categorical : tuple of str
        Those that its outputs are affine in, and those that it encodes.
    """

    names: tuple[str, ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]


def columns_of(preprocessing: Pipeline) -> Columns:
    """Which columns a fitted preprocessing takes, and how.

    Raises
    ------
    UnsupportedModelError
        It is not affine in columns that it does not encode.
    """
    steps = [step for _, step in preprocessing.steps if not is_identity(step)]
    names = next((found for step in steps if (found := _names_of(step))), None)
    names = names or tuple(f"x{j}" for j in range(steps[0].n_features_in_))
    reading = Reading(names, {})
    plan(preprocessing, "preprocessing", reading.columns, reading)
    unused = {*reading.needed, *reading.left_out}
    return Columns(
        names,
        tuple(name for j, name in enumerate(names) if j not in unused),
        tuple(names[j] for j in sorted(reading.needed)),
    )


@dataclass(frozen=True, eq=False)
class _Nest:
    """A model opened.

    Attributes
    ----------
    model : estimator
        What was given.
    perceptron : MLPRegressor or MLPClassifier
        The innermost.
    before : dict
        The steps that the inputs go through, by name, first applied first; those that pass data through are left out.
    targets : list
        The transformers of the targets, outermost first, likewise.
    names : tuple of str or None
        Of the columns that the model takes, where it knows them.
    words : tuple of str
        The kinds of its parts, from the outside.
    """

    model: Any
    perceptron: _Perceptron
    before: dict[str, Any]
    targets: list[Any]
    names: tuple[str, ...] | None
    words: tuple[str, ...]

    @property
    def folds(self) -> bool:
        return bool(self.before or self.targets)

    @property
    def n_inputs(self) -> int:
        """Columns that the first step takes."""
        for step in (*self.before.values(), self.perceptron):
            taken = getattr(step, "n_features_in_", None)
            if taken is not None:
                return int(taken)
        return len(self.perceptron.coefs_[0])


def _opened(model: Any) -> _Nest:
    """The innermost perceptron and the steps around it."""
    given, names = model, None
    steps: dict[str, Any] = {}
    targets: list[Any] = []
    words: list[str] = []
    # exact types: a subclass may predict otherwise
    while type(model) not in (MLPRegressor, MLPClassifier):
        if type(model) is Pipeline and model.steps:
            for name, step in model.steps[:-1]:
                words += [] if is_identity(step) else [type(step).__name__]
                names = names or _names_of(step)
                if not is_identity(step):
                    steps[f"{name} ({len(steps)})" if name in steps else name] = step
            model = model.steps[-1][1]
        elif type(model) is TransformedTargetRegressor:
            check_fitted(model)
            if not is_identity(model.transformer_):
                targets.append(model.transformer_)
                words.append(f"TransformedTargetRegressor with {describe(model.transformer_).rpartition('.')[2]}")
            model = model.regressor_
        elif type(model) is FrozenEstimator:
            model = model.estimator
        elif isinstance(model, BaseSearchCV):
            if getattr(model, "best_estimator_", None) is None:
                raise UnsupportedModelError(
                    f"the {type(model).__name__} has no best_estimator_ (not fitted, or refit=False): fit it with "
                    f"refit=True, or pass the model that was fitted; {SUPPORTED}"
                )
            words.append(f"best_estimator_ of {type(model).__name__}")
            model = model.best_estimator_
        else:
            raise UnsupportedModelError(f"found {describe(model)}: {SUPPORTED}")
    names = names or _names_of(model)
    return _Nest(given, model, steps, targets, names, (*words, type(model).__name__))


def _names_of(step: Any) -> tuple[str, ...] | None:
    """The names of the columns that a step was fitted on; the attribute is there only where scikit-learn knows them."""
    names = getattr(step, "feature_names_in_", None)
    return None if names is None else tuple(map(str, names))


def _checked(model: _Perceptron) -> _Perceptron:
    """A perceptron that can be read; what ``predict`` uses decides, not the parameters at construction."""
    check_fitted(model)
    kind = type(model).__name__
    if model.activation not in _ACTIVATIONS:
        raise UnsupportedModelError(f"the {kind} has activation={model.activation!r}: {SUPPORTED}")
    known = ("identity",) if type(model) is MLPRegressor else ("softmax", "logistic")
    if model.out_activation_ not in known:
        raise UnsupportedModelError(f"the {kind} has out_activation_={model.out_activation_!r}: {SUPPORTED}")
    if len(model.coefs_) < 2:
        raise UnsupportedModelError(f"the {kind} has 0 hidden layers: {SUPPORTED}")
    if any(issparse(array) for array in model.coefs_):
        raise UnsupportedModelError(f"coefs_ of the {kind} are sparse, use .toarray() on them: {SUPPORTED}")
    return model


def _network(model: _Perceptron, units: str) -> ShallowNetwork | FeedForward:
    """The weights of a perceptron, as they are."""
    phi = Activation(_ACTIVATIONS[model.activation])
    return build([W.T for W in model.coefs_], model.intercepts_, [phi] * (len(model.coefs_) - 1), units)


def _folded(
    inner: ShallowNetwork | FeedForward, nest: _Nest, fixed: Mapping[Any, Any], units: str
) -> ShallowNetwork | FeedForward:
    """``inner`` behind its steps and before its targets, in the columns that are free."""
    names = nest.names or tuple(f"x{j}" for j in range(nest.n_inputs))
    reading = Reading(names, _positions(fixed, names))
    before, given = plan(Pipeline(list(nest.before.items())) if nest.before else None, "", reading.columns, reading)
    if reading.needed:
        columns = ", ".join(names[j] for j in sorted(reading.needed))
        offers = "; ".join(reading.needed[j] for j in sorted(reading.needed))
        raise UnsupportedModelError(
            f"the model encodes the categorical columns {columns}, in which it has no Lipschitz constant: hold them at "
            f"values that you choose, from_sklearn(model, fixed={{{names[min(reading.needed)]!r}: …}}); {offers}"
        )
    if len(given) != inner.n_inputs:
        raise UnsupportedModelError(
            f"the steps before the network were fitted on {nest.n_inputs} columns and give {len(given)}, the network "
            f"has {inner.n_inputs}: fit them together"
        )
    free = [j for j in range(len(names)) if j not in reading.fixed and j not in reading.left_out]
    if not free:
        raise UnsupportedModelError("no input is left: every column is fixed or dropped by the model")
    weights, biases = list(inner.weights), list(inner.biases)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by the new network
        W, b = before.pull(weights[0], biases[0])
        for j, value in reading.fixed.items():
            if np.any(W[:, j]):
                b = b + W[:, j] * _number(value, names[j])
    weights[0], biases[0] = W if len(free) == len(names) else W[:, free], b
    network = inner.with_parameters(weights, biases, units)
    for scaling in _target_scalings(nest.targets, network.n_outputs):
        network = network.rescaled(x_shift=0.0, x_scale=1.0, y_shift=scaling.shift, y_scale=scaling.scale, units=units)
    inputs = tuple(names[j] for j in free)
    remarks = [f"{names[j]} is held at {value!r}" for j, value in reading.fixed.items()]
    if reading.left_out:
        remarks.append(f"no input is {', '.join(names[j] for j in reading.left_out)}, which the model drops")
    known = nest.names is not None or len(free) < len(names)
    return _told(network, nest, inputs if known else (), [*remarks, *reading.remarks], reading, free)


def _positions(fixed: Mapping[Any, Any], names: tuple[str, ...]) -> dict[int, Any]:
    """The fixed values by position."""
    if not isinstance(fixed, Mapping):
        raise InvalidInputError(f'fixed must map names of columns to values, as {{"colour": "red"}}, got {fixed!r:.60}')
    for name in fixed:
        if name not in names:
            raise InvalidInputError(f"fixed names the column {name!r}, the model takes {', '.join(names)}")
    return {names.index(name): fixed[name] for name in sorted(fixed, key=names.index)}


def _number(value: Any, name: str) -> float:
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InvalidInputError(f"the column {name!r} is used as a number: hold it at a finite number, not {value!r}")
    return float(value)


def _target_scalings(transformers: Sequence[Any], outputs: int) -> list[Scaling]:
    """What the outputs go through, from the inside: ``y = scale · z + shift``."""
    found: list[Scaling] = []
    for transformer in transformers:
        reading = Reading(tuple(f"y{i}" for i in range(outputs)), {})
        made, _ = plan(transformer, "transformer", reading.columns, reading)
        stack = [made]
        while stack:
            step = stack.pop(0)
            if isinstance(step, Chain):
                stack = [*step.maps, *stack]
            elif isinstance(step, Scaling):
                found.append(step)
            else:
                raise UnsupportedModelError(
                    f"the targets go through {describe(transformer)}: scalers and what passes data through are read"
                )
    return found[::-1]


# ------------------------------------------------------------------------------------------------- words and agreement


def _told(
    network: ShallowNetwork | FeedForward,
    nest: _Nest,
    inputs: tuple[str, ...],
    remarks: Sequence[str],
    reading: Reading | None = None,
    free: Sequence[int] = (),
) -> ShallowNetwork | FeedForward:
    """``network`` with words about it, once it agrees with the model; without a reading, with the perceptron alone."""
    perceptron = nest.perceptron
    kind = describe(perceptron).rpartition(".")[2]
    sizes = " → ".join(map(str, network.widths))
    words = " · ".join(nest.words) if reading is not None else kind
    if reading is None and not nest.folds:
        inputs = nest.names or ()
    about = About(
        f"scikit-learn {words}: {sizes}, {network.activations[0].name}",
        inputs,
        _logit_names(perceptron),
        (*remarks, *_logit_words(perceptron)),
    )
    if reading is None:
        X = sample_rows({}, network.n_inputs)
        require_agreement(network, X, lambda: _regressor(perceptron).predict(X), f"the {kind}")
    else:
        X = sample_rows(reading.hints, len(reading.names))
        table = table_of(X, reading.names, reading.fixed, named=nest.names is not None)
        asked = _with_logits(nest.model)
        require_agreement(network, X[:, list(free)], lambda: asked.predict(table))
    return network.described(about)


def _logit_names(model: _Perceptron) -> tuple[str, ...]:
    if type(model) is MLPRegressor:
        return ()
    classes = list(model.classes_)
    return tuple(f"logit of {c}" for c in (classes[1:] if len(model.coefs_[-1][0]) == 1 else classes))


def _logit_words(model: _Perceptron) -> tuple[str, ...]:
    if type(model) is MLPRegressor:
        return ()
    after = "softmax" if model.out_activation_ == "softmax" else "the logistic function"
    return (f"the outputs are the logits: {after} is left out",)


def _regressor(model: _Perceptron) -> MLPRegressor:
    """A perceptron that predicts its logits."""
    if type(model) is MLPRegressor:
        return model
    made = MLPRegressor(hidden_layer_sizes=model.hidden_layer_sizes, activation=model.activation)
    made.coefs_, made.intercepts_, made.n_layers_ = model.coefs_, model.intercepts_, model.n_layers_
    made.n_features_in_, made.n_outputs_ = model.n_features_in_, model.n_outputs_
    made.out_activation_ = "identity"
    return made


def _with_logits(model: Any) -> Any:
    """The model, predicting logits where it classifies."""
    if type(model) is MLPClassifier:
        return _regressor(model)
    if type(model) is Pipeline:
        name, last = model.steps[-1]
        inner = _with_logits(last)
        return model if inner is last else Pipeline([*model.steps[:-1], (name, inner)])
    if type(model) is FrozenEstimator:
        return _with_logits(model.estimator)
    if isinstance(model, BaseSearchCV):
        return _with_logits(model.best_estimator_)
    return model
