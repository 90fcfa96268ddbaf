"""from_sklearn and to_sklearn: equal predictions, bit-exact weights, clear refusals."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, PowerTransformer, StandardScaler
from sklearn.utils.validation import check_is_fitted

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.io import from_sklearn, to_sklearn
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(outputs: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets far from standardised, with one constant input."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(60, 4)) * [1.0, 50.0, 1e-2, 0.0] + [3.0, -200.0, 0.5, 7.0]
    y = 40.0 * np.sin(X[:, :1]) + X[:, 1:2] + 10.0 * rng.normal(size=(60, outputs)) + 1000.0
    return X, y[:, 0] if outputs == 1 else y


def mlp(**parameters: object) -> MLPRegressor:
    return MLPRegressor(**{"hidden_layer_sizes": (9,), "max_iter": 15, "random_state": 0, **parameters})


def target(regressor: object, transformer: object = "scaler") -> TransformedTargetRegressor:
    return TransformedTargetRegressor(regressor, transformer=StandardScaler() if transformer == "scaler" else None)


def random_network(d: int = 3, h: int = 5, m: int = 1, seed: int = 0) -> ShallowNetwork:
    rng = np.random.default_rng(seed)
    return ShallowNetwork(rng.normal(size=(h, d)), rng.normal(size=h), rng.normal(size=(m, h)), rng.normal(size=m))


SCALED = {
    "pipeline": lambda: make_pipeline(StandardScaler(), mlp()),
    "target": lambda: target(mlp()),
    "pipeline of target": lambda: make_pipeline(StandardScaler(), target(mlp())),
    "target of pipeline": lambda: target(make_pipeline(StandardScaler(), mlp())),
    "target without transformer": lambda: target(make_pipeline(StandardScaler(), mlp()), None),
    "passthrough": lambda: Pipeline([("a", "passthrough"), ("b", make_pipeline(StandardScaler(), mlp()))]),
    "no mean": lambda: make_pipeline(StandardScaler(with_mean=False), mlp()),
    "no scale": lambda: make_pipeline(StandardScaler(with_std=False), mlp()),
    "neither": lambda: make_pipeline(StandardScaler(with_mean=False, with_std=False), mlp()),
    "several scalers": lambda: make_pipeline(
        StandardScaler(with_mean=False), StandardScaler(with_std=False), StandardScaler(), mlp()
    ),
    "pipeline as a step": lambda: make_pipeline(make_pipeline(StandardScaler(), "passthrough"), None, mlp()),
    "two targets": lambda: target(
        make_pipeline(StandardScaler(), TransformedTargetRegressor(mlp(), transformer=StandardScaler(with_mean=False)))
    ),
    "pipeline of targets": lambda: TransformedTargetRegressor(
        mlp(), transformer=make_pipeline(StandardScaler(with_mean=False), StandardScaler())
    ),
}


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("kind", SCALED)
def test_folded_network_predicts_what_the_model_predicts(kind: str, outputs: int) -> None:
    X, y = data(outputs)
    model = SCALED[kind]().fit(X, y)
    net = from_sklearn(model)
    assert net.units == "raw"
    np.testing.assert_allclose(net.predict(X), model.predict(X), rtol=1e-10)
    assert net == from_sklearn(model, units="raw")


def test_scaling_matters_in_these_models() -> None:
    X, y = data()
    model = target(make_pipeline(StandardScaler(), mlp())).fit(X, y)
    inner = from_sklearn(model, units="standardised")
    assert not np.allclose(inner.predict(X), model.predict(X), rtol=0.1)


def test_standardised_is_the_inner_network_bit_for_bit() -> None:
    X, y = data()
    model = target(make_pipeline(StandardScaler(), mlp())).fit(X, y)
    inner = from_sklearn(model, units="standardised")
    fitted = model.regressor_[-1]
    assert inner.units == "standardised"
    assert np.array_equal(inner.W, fitted.coefs_[0].T)
    assert np.array_equal(inner.V, fitted.coefs_[1].T)
    assert np.array_equal(inner.b, fitted.intercepts_[0])
    assert np.array_equal(inner.c, fitted.intercepts_[1])


def test_constant_column_keeps_its_weight() -> None:
    X, y = data()
    model = make_pipeline(StandardScaler(), mlp()).fit(X, y)
    assert model[0].scale_[3] == 1.0
    assert np.array_equal(from_sklearn(model).W[:, 3], model[-1].coefs_[0][3])


@pytest.mark.parametrize("outputs", [1, 2])
def test_bare_model(outputs: int) -> None:
    X, y = data(outputs)
    model = mlp().fit(X, y)
    net = from_sklearn(model)
    assert net.units == "as given"
    assert net.n_outputs == outputs
    np.testing.assert_allclose(net.predict(X), model.predict(X), rtol=1e-12)


def test_units_of_a_model_without_scaler_are_the_users_word() -> None:
    X, y = data()
    model = make_pipeline("passthrough", target(mlp(), None)).fit(X, y)
    bare = from_sklearn(model)
    assert bare.units == "as given"
    for units in ("raw", "standardised"):
        named = from_sklearn(model, units=units)
        assert named.units == units
        assert np.array_equal(named.W, bare.W)


def test_float32_and_sparse_data() -> None:
    X, y = data()
    model = mlp().fit(X.astype(np.float32), y.astype(np.float32))
    assert model.coefs_[0].dtype == np.float32
    net = from_sklearn(model)
    assert np.array_equal(net.W, model.coefs_[0].T)
    sparse = make_pipeline(StandardScaler(with_mean=False), mlp()).fit(scipy.sparse.csr_array(X), y)
    np.testing.assert_allclose(from_sklearn(sparse).predict(X), sparse.predict(X), rtol=1e-10)


def test_lbfgs_and_parameters_changed_after_fit() -> None:
    X, y = data()
    model = mlp(solver="lbfgs").fit(X, y).set_params(hidden_layer_sizes=(2, 2))
    np.testing.assert_allclose(from_sklearn(model).predict(X), model.predict(X), rtol=1e-12)


def test_model_is_not_changed() -> None:
    X, y = data()
    model = target(make_pipeline(StandardScaler(), mlp())).fit(X, y)
    before = pickle.dumps(model)
    from_sklearn(model)
    assert pickle.dumps(model) == before


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (mlp(hidden_layer_sizes=()), "0 hidden layers.*at least one hidden layer"),
        (LinearRegression(), "found sklearn.linear_model.*LinearRegression: certnet reads a fitted MLPRegressor"),
        (make_pipeline(StandardScaler(), LinearRegression()), "LinearRegression"),
        (make_pipeline(FunctionTransformer(np.sqrt), mlp()), "FunctionTransformer.*sqrt"),
        (TransformedTargetRegressor(mlp(), transformer=PowerTransformer()), "step 'transformer' is .*PowerTransformer"),
        (TransformedTargetRegressor(mlp(), func=np.log, inverse_func=np.exp), "func=<ufunc 'log'>"),
        (GridSearchCV(mlp(), {"alpha": [0.1]}, cv=2, refit=False), "GridSearchCV has no best_estimator_.*refit=True"),
        (Pipeline([("scaler", StandardScaler()), ("end", "passthrough")]), "found 'passthrough'"),
    ],
)
def test_unsupported_models(model: object, match: str) -> None:
    X, y = data()
    X = X + 1000.0  # positive, for the square root
    with pytest.raises(UnsupportedModelError, match=match):
        from_sklearn(model.fit(X, y))  # type: ignore[attr-defined]


NAMES = {"relu": "relu", "tanh": "tanh", "logistic": "sigmoid", "identity": "identity"}


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize("sizes", [(9,), (6, 5), (4, 3, 4)])
def test_any_depth_and_activation(sizes: tuple[int, ...], activation: str, outputs: int) -> None:
    X, y = data(outputs)
    regressor = mlp(hidden_layer_sizes=sizes, activation=activation)
    model = target(make_pipeline(StandardScaler(), regressor)).fit(X, y)
    raw, inner = from_sklearn(model), from_sklearn(model, units="standardised")
    np.testing.assert_allclose(raw.predict(X), model.predict(X), rtol=1e-10)
    assert raw.units == "raw"
    if sizes == (9,) and activation == "relu":
        assert isinstance(raw, ShallowNetwork)
        return
    assert isinstance(raw, FeedForward)
    assert inner.activations == (Activation(NAMES[activation]),) * len(sizes)
    assert all(np.array_equal(W, V.T) for W, V in zip(inner.weights, model.regressor_[-1].coefs_))
    back = to_sklearn(inner)
    assert back.hidden_layer_sizes == sizes
    assert from_sklearn(back, units="standardised").digest == inner.digest
    Z = np.random.default_rng(3).normal(size=(20, 4))
    np.testing.assert_allclose(back.predict(Z), inner.predict(Z), rtol=1e-12, atol=1e-12)
    assert back.partial_fit(Z, np.zeros((20, outputs)).squeeze()).t_ == 20


def test_activation_that_scikit_learn_does_not_have() -> None:
    X, y = data()
    model = mlp().fit(X, y)
    model.activation = "gelu"
    with pytest.raises(UnsupportedModelError, match="activation='gelu'"):
        from_sklearn(model)
    eye, zero = [np.eye(2)] * 3, [np.zeros(2)] * 3
    for phis in ("elu", ["relu", "tanh"], [(0.0, 1.0)] * 2):
        with pytest.raises(UnsupportedModelError, match="relu, tanh, logistic, identity"):
            to_sklearn(FeedForward(eye, zero, phis))


def test_poisson_loss_is_refused() -> None:
    X, y = data()
    model = mlp().fit(X, y)
    model.out_activation_ = "exp"  # what loss="poisson" sets, where scikit-learn has it
    with pytest.raises(UnsupportedModelError, match="out_activation_='exp'"):
        from_sklearn(model)


@pytest.mark.parametrize(
    "model", [mlp(), make_pipeline(StandardScaler(), mlp()), target(mlp()), target(mlp(), None), StandardScaler()]
)
def test_unfitted_models(model: object) -> None:
    with pytest.raises(UnsupportedModelError, match="MLPRegressor") as caught:
        from_sklearn(model)
    if not isinstance(model, StandardScaler):
        assert "is not fitted: call fit" in str(caught.value)
        assert isinstance(caught.value.__cause__, NotFittedError)


def test_fitted_model_behind_an_unfitted_scaler() -> None:
    model = Pipeline([("scaler", StandardScaler()), ("mlp", to_sklearn(random_network()))])
    with pytest.raises(UnsupportedModelError, match="StandardScaler is not fitted"):
        from_sklearn(model)


def test_scaler_of_other_columns() -> None:
    X, _ = data()
    model = Pipeline([("scaler", StandardScaler().fit(X)), ("mlp", to_sklearn(random_network(d=3)))])
    with pytest.raises(UnsupportedModelError, match="fitted on 4 columns and give 4, the network has 3"):
        from_sklearn(model)


def test_subclass_is_refused() -> None:
    class Doubled(MLPRegressor):
        def predict(self, X: np.ndarray) -> np.ndarray:
            return 2.0 * super().predict(X)

    X, y = data()
    with pytest.raises(UnsupportedModelError, match=r"Doubled: certnet reads"):
        from_sklearn(Doubled(hidden_layer_sizes=(4,), max_iter=2).fit(X, y))


@pytest.mark.parametrize("thing", [None, "model.pkl", 3, MLPRegressor, Pipeline([]), np.zeros(3)])
def test_things_that_are_no_models(thing: object) -> None:
    with pytest.raises(UnsupportedModelError, match=r"found .*: certnet reads"):
        from_sklearn(thing)


def test_bad_units_and_weights() -> None:
    X, y = data()
    model = make_pipeline(StandardScaler(), mlp()).fit(X, y)
    with pytest.raises(InvalidInputError, match=r"units must be one of .*'furlongs'"):
        from_sklearn(model, units="furlongs")
    with pytest.raises(InvalidInputError, match='choose units="raw" or units="standardised"'):
        from_sklearn(model, units="as given")
    model[-1].coefs_[0][1, 2] = np.nan
    with pytest.raises(InvalidInputError, match="W has 1 entries that are NaN"):
        from_sklearn(model)


def test_sparse_weights_are_refused() -> None:
    model = to_sklearn(random_network())
    model.coefs_[0] = scipy.sparse.csr_array(model.coefs_[0])
    with pytest.raises(UnsupportedModelError, match=r"sparse.*toarray"):
        from_sklearn(model)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 8), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_round_trip_is_bit_exact(d: int, h: int, m: int, seed: int) -> None:
    net = random_network(d, h, m, seed)
    model = to_sklearn(net)
    assert from_sklearn(model).digest == net.digest
    X = np.random.default_rng(seed).normal(size=(7, d))
    assert model.predict(X).shape == net.predict(X).shape
    np.testing.assert_allclose(model.predict(X), net.predict(X), rtol=1e-12, atol=1e-12)


def test_made_model_has_what_a_fitted_one_has() -> None:
    X, y = data()
    fitted = mlp().fit(X, y)
    made = to_sklearn(from_sklearn(fitted))
    check_is_fitted(made)
    public = {name for name in vars(fitted) if name.endswith("_") and not name.startswith("_")}
    assert public <= set(vars(made))
    for name in ("n_features_in_", "n_outputs_", "n_layers_", "out_activation_", "hidden_layer_sizes", "activation"):
        assert getattr(made, name) == getattr(fitted, name)
    assert [a.shape for a in made.coefs_] == [a.shape for a in fitted.coefs_]
    assert made.get_params().keys() == fitted.get_params().keys()
    assert made.score(X, y) == pytest.approx(fitted.score(X, y), rel=1e-12)


def test_made_model_pickles_and_clones() -> None:
    net = random_network()
    model = to_sklearn(net)
    assert from_sklearn(pickle.loads(pickle.dumps(model))) == net
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(np.zeros((1, 3)))


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_made_model_trains_on_by_partial_fit(solver: str) -> None:
    X, y = standard()
    model = to_sklearn(random_network()).set_params(solver=solver, learning_rate_init=1e-3, random_state=0)
    start = np.mean((model.predict(X) - y) ** 2)
    for _ in range(30):
        model.partial_fit(X, y)
    assert np.mean((model.predict(X) - y) ** 2) < start
    assert (model.t_, len(model.loss_curve_)) == (30 * len(X), 30)
    assert np.isfinite([model.loss_, model.best_loss_]).all()


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_made_model_trains_on_by_warm_start(solver: str) -> None:
    X, y = standard()
    model = to_sklearn(random_network()).set_params(warm_start=True, solver=solver, max_iter=20, random_state=0)
    start = model.coefs_[0].copy()
    loss = np.mean((model.predict(X) - y) ** 2)
    model.fit(X, y)
    assert np.mean((model.predict(X) - y) ** 2) < loss
    assert not np.array_equal(model.coefs_[0], start)


def test_made_model_fits_anew_and_does_not_touch_the_network() -> None:
    X, y = standard()
    net = random_network()
    digest = net.digest
    model = to_sklearn(net)
    model.coefs_[0][:] = 0.0
    assert net.digest == digest
    model.set_params(max_iter=3).fit(X[:, :2], y)
    assert model.n_features_in_ == 2


def standard() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, 3))
    return X, np.tanh(X[:, 0]) - X[:, 1]
