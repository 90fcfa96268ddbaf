"""CertifiedRegressor on frames: text columns through pipelines, bounds in the user's numeric columns, or a refusal."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)

from certnet.certification import certify
from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.estimators import CertifiedRegressor, CertifiedRegressorCV

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def certified(*arguments: object, **options: object) -> CertifiedRegressor:
    """A regressor with little effort, where no program is named."""
    effort = {} if "method" in options else {"effort": "quick"}
    return CertifiedRegressor(*arguments, **(effort | options))


def certified_cv(*arguments: object, **options: object) -> CertifiedRegressorCV:
    return CertifiedRegressorCV(*arguments, **({"effort": "quick"} | options))


def mlp(units: int = 5, **parameters: object) -> MLPRegressor:
    options = {"hidden_layer_sizes": (units,), "solver": "lbfgs", "max_iter": 60, "random_state": 0}
    return MLPRegressor(**options | parameters)


def table(n: int = 60) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"length": rng.normal(10.0, 2.0, n), "colour": rng.choice(["red", "blue", "green"], n)})
    X["width"] = rng.normal(-300.0, 50.0, n)
    X["size"] = rng.choice(["S", "L"], n)
    X["id"] = [f"row {i}" for i in range(n)]
    y = np.abs(X["length"] - 9.0) + 0.1 * X["width"] + 3.0 * (X["colour"] == "red") * (X["length"] > 10)
    return X, y.to_numpy()


def pipeline(last: object = None, **parameters: object) -> object:
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["width", "length"]),
        (OneHotEncoder(handle_unknown="ignore"), ["colour"]),
        (OrdinalEncoder(), ["size"]),
    )
    return make_pipeline(columns, mlp(**parameters) if last is None else last)


@pytest.fixture(scope="module")
def fitted() -> CertifiedRegressor:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return certified(pipeline(), weight=0.01, random_state=0).fit(*table())


class TestCategories:
    def test_it_is_refined_and_certified_on_what_the_steps_give(self, fitted):
        X, y = table()
        assert fitted.improved_
        assert fitted.objective_after_ < fitted.objective_before_
        assert fitted.certificate_.check(fitted.network_)
        assert fitted.network_.n_inputs == 6
        assert "after the preprocessing, which encodes colour, size" in fitted.network_.about.remarks[0]
        assert fitted.network_.about.inputs[2].endswith("colour_blue")
        assert fitted.score(X, y) > 0.8
        assert list(fitted.feature_names_in_) == list(X)
        assert fitted.estimator_.predict(X).shape == (60,)

    @pytest.mark.parametrize("colour", ["red", "green"])
    def test_the_network_for_categories_predicts_what_the_model_predicts(self, fitted, colour):
        X, _ = table()
        net = fitted.network_for({"colour": colour, "size": "L"})
        assert net.about.inputs == ("length", "width")
        rows = X.assign(colour=colour, size="L")
        assert_allclose(net.predict(rows[["width", "length"]]), fitted.predict(rows), rtol=1e-9, atol=1e-9)
        with pytest.raises(UnsupportedModelError, match="categorical columns size"):
            fitted.network_for({"colour": colour})

    def test_intervals_hold_perturbations_of_the_numbers(self, fitted):
        X, _ = table()
        rng = np.random.default_rng(1)
        for epsilon in (0.0, 0.1, 3.0):
            lower, upper = fitted.certified_interval(X, epsilon, relaxed=False)
            assert_allclose((lower + upper) / 2, fitted.predict(X), rtol=1e-9, atol=1e-9)
            lower, upper = fitted.certified_interval(X, epsilon)
            for _ in range(20):
                step = rng.normal(size=(60, 2))
                step *= epsilon / np.linalg.norm(step, axis=1, keepdims=True)
                moved = X.assign(length=X["length"] + step[:, 0], width=X["width"] + step[:, 1])
                assert np.all((lower - 1e-9 <= fitted.predict(moved)) & (fitted.predict(moved) <= upper + 1e-9))

    def test_the_radius_is_a_bound_at_every_category(self, fitted):
        X, _ = table()
        lower, upper = fitted.certified_interval(X, 1.0, relaxed=False)
        radius = (upper - lower).max() / 2
        for colour in ("red", "blue", "green", "mauve"):
            for size in ("S", "L"):
                net = fitted.network_for({"colour": colour, "size": size})
                proof = certify(net)
                assert proof.check(net)
                assert proof.lower <= radius
                assert_allclose(proof.upper, radius, rtol=1e-5)

    def test_it_pickles_clones_and_is_cross_validated(self, fitted):
        X, y = table()
        assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))
        assert not hasattr(clone(fitted), "network_")
        assert cross_val_score(certified(pipeline(), random_state=0), X, y, cv=2).shape == (2,)

    @pytest.mark.parametrize("frozen", [True, False])
    @pytest.mark.parametrize("outer", [True, False])
    def test_prefit(self, frozen, outer):
        X, y = table()
        made = TransformedTargetRegressor(pipeline(), transformer=MinMaxScaler()) if outer else pipeline()
        start = made.fit(X, y)
        model = FrozenEstimator(start) if frozen else start
        done = certified(model, prefit=not frozen, random_state=0).fit(X, y)
        assert done.improved_
        assert done.certificate_.check(done.network_)
        mse = np.mean((start.predict(X) - y) ** 2) / y.var()
        assert done.trace_[0].mse == pytest.approx(mse, rel=1e-6)

    @pytest.mark.parametrize("standardise", [True, False])
    def test_targets_inside_and_nested_steps(self, standardise):
        X, y = table()
        last = make_pipeline(StandardScaler(), TransformedTargetRegressor(mlp(), transformer=MinMaxScaler()))
        done = certified(pipeline(last), random_state=0, standardise=standardise).fit(X, y)
        assert done.certificate_.check(done.network_)
        net = done.network_for({"colour": "red", "size": "S"})
        rows = X.assign(colour="red", size="S")
        assert_allclose(net.predict(rows[["length", "width"]]), done.predict(rows), rtol=1e-9, atol=1e-9)

    def test_several_outputs_and_missing_numbers(self):
        X, y = table()
        X.loc[3, "length"] = np.nan
        done = certified(pipeline(), random_state=0).fit(X, np.column_stack([y, -2.0 * y]))
        assert done.predict(X).shape == (60, 2)
        lower, upper = done.certified_interval(X.dropna(), 0.1)
        assert lower.shape == upper.shape == (59, 2)
        with pytest.raises(InvalidInputError, match="NaN"):
            done.certified_interval(X, 0.1)

    def test_cross_validation_of_the_weight(self):
        X, y = table()
        model = certified_cv(pipeline(), weights=[0.01, 1.0], cv=2, random_state=0).fit(X, y)
        assert model.weight_ == 0.01
        assert model.certificate_.check(model.network_)
        assert model.certified_interval(X, 0.1)[0].shape == (60,)
        assert model.network_for({"colour": "red", "size": "S"}).n_inputs == 2

    def test_polars(self):
        polars = pytest.importorskip("polars")
        X, y = table()
        frame = polars.DataFrame({name: X[name].to_list() for name in X})
        ours = certified(pipeline(), random_state=0).fit(frame, y)
        theirs = certified(pipeline(), random_state=0).fit(X, y)
        assert_allclose(ours.predict(frame), theirs.predict(X), rtol=1e-9)
        assert_allclose(ours.certified_interval(frame, 0.1), theirs.certified_interval(X, 0.1), rtol=1e-9)

    def test_arrays_of_objects(self):
        X, y = table()
        columns = make_column_transformer((StandardScaler(), [0, 2]), (OneHotEncoder(), [1]))
        array = X.to_numpy(dtype=object)
        model = certified(make_pipeline(columns, mlp()), random_state=0).fit(array, y)
        lower, upper = model.certified_interval(array, 0.1)
        assert np.all((lower < model.predict(array)) & (model.predict(array) < upper))
        assert model.network_for({"x1": "red"}).about.inputs == ("x0", "x2")


def test_affine_columns_are_folded_into_raw_units():
    X, y = table()
    columns = make_column_transformer((StandardScaler(), ["width"]), (MinMaxScaler(), ["length"]))
    model = certified(make_pipeline(columns, mlp()), random_state=0).fit(X, y)
    assert model.network_.about.inputs == ("length", "width")
    assert model.network_.units == "raw"
    assert model.certificate_.check(model.network_)
    assert_allclose(model.network_.predict(X[["width", "length"]]), model.predict(X), rtol=1e-9)
    lower, upper = model.certified_interval(X, 0.5, relaxed=False)
    assert_allclose((upper - lower) / 2, 0.5 * model.lipschitz_upper_, rtol=1e-6)
    assert model.network_for() == model.network_


class TestRefusedBeforeTraining:
    @pytest.fixture(autouse=True)
    def no_training(self, monkeypatch):
        def fit(self, X, y, sample_weight=None):
            raise AssertionError("trained")

        monkeypatch.setattr(MLPRegressor, "fit", fit)

    @pytest.mark.parametrize("estimator", [None, mlp(), make_pipeline(StandardScaler(), mlp())])
    @pytest.mark.parametrize("kind", [CertifiedRegressor, CertifiedRegressorCV])
    def test_text_without_an_encoder(self, estimator, kind):
        with pytest.raises(InvalidInputError, match=r"column 'colour' is text .*nothing is trained.*OneHotEncoder"):
            kind(estimator).fit(*table())

    @pytest.mark.parametrize(
        ("estimator", "match"),
        [
            (lambda: mlp(hidden_layer_sizes=()), "no hidden layer"),
            (lambda: pipeline(hidden_layer_sizes=()), "no hidden layer"),
            (lambda: MLPClassifier((4,)), "MLPClassifier: an MLPRegressor"),
            (
                lambda: make_pipeline(make_column_transformer((PolynomialFeatures(2), ["width", "length"])), mlp()),
                "PolynomialFeatures.*products of inputs",
            ),
            (
                lambda: make_pipeline(make_column_transformer((OneHotEncoder(), ["colour", "size"])), mlp()),
                "no numeric input: it encodes colour, size",
            ),
        ],
    )
    def test_what_cannot_be_refined(self, estimator, match):
        X, y = table()
        made = estimator()
        given = X if hasattr(made, "steps") else X[["width", "length"]]
        with pytest.raises(UnsupportedModelError, match=match):
            certified(made).fit(given, y)

    @pytest.mark.parametrize("as_array", [True, False])
    @pytest.mark.parametrize(
        "step",
        [
            PolynomialFeatures(2),
            KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf"),
            PowerTransformer(),
            QuantileTransformer(n_quantiles=20),
            Normalizer(),
            SplineTransformer(),
            Binarizer(),
            FunctionTransformer(np.tanh),
        ],
        ids=lambda step: type(step).__name__,
    )
    def test_a_step_that_cannot_be_read(self, step, as_array):
        X, y = table()
        numbers = X[["width", "length"]]
        match = rf"the step '{type(step).__name__.lower()}' is .*{type(step).__name__}"
        with pytest.raises(UnsupportedModelError, match=match):
            certified(make_pipeline(StandardScaler(), step, mlp())).fit(numbers.to_numpy() if as_array else numbers, y)

    @pytest.mark.parametrize("kind", [CertifiedRegressor, CertifiedRegressorCV])
    @pytest.mark.parametrize("standardise", [True, False])
    @pytest.mark.parametrize(
        ("estimator", "match"),
        [
            (TransformedTargetRegressor(make_pipeline(PolynomialFeatures(2), mlp())), "PolynomialFeatures"),
            (make_pipeline(StandardScaler(), make_pipeline(PolynomialFeatures(2), mlp())), "products of inputs"),
            (
                GridSearchCV(
                    make_pipeline(PolynomialFeatures(2), mlp()),
                    {"polynomialfeatures__degree": [2, 3], "mlpregressor__alpha": [0.1, 1.0]},
                ),
                "PolynomialFeatures",
            ),
            (TransformedTargetRegressor(mlp(), transformer=QuantileTransformer(n_quantiles=20)), "QuantileTransformer"),
            (TransformedTargetRegressor(mlp(), func=np.cbrt, inverse_func=np.tanh, check_inverse=False), "cbrt"),
        ],
    )
    def test_wherever_the_regressor_is(self, estimator, match, standardise, kind):
        X, y = table()
        with pytest.raises(UnsupportedModelError, match=match):
            kind(estimator, standardise=standardise).fit(X[["width", "length"]].to_numpy(), y)

    def test_a_target_transformer_behind_encoders(self):
        outer = TransformedTargetRegressor(pipeline(), transformer=QuantileTransformer(n_quantiles=20))
        with pytest.raises(UnsupportedModelError, match="QuantileTransformer"):
            certified(outer).fit(*table())

    @pytest.mark.parametrize(
        "estimator",
        [
            make_pipeline(MinMaxScaler(), SelectKBest(f_regression, k=1), mlp()),
            GridSearchCV(
                make_pipeline(PolynomialFeatures(2), mlp()), {"polynomialfeatures": [Normalizer(), StandardScaler()]}
            ),
            TransformedTargetRegressor(make_pipeline(StandardScaler(), mlp()), transformer=MinMaxScaler()),
        ],
    )
    def test_what_may_work_is_trained(self, estimator):
        X, y = table()
        with pytest.raises(Exception, match=r"trained|fits failed"):
            certified(estimator).fit(X[["width", "length"]], y)


def test_a_classifier_that_is_fitted_is_refused():
    X, y = table()
    model = MLPClassifier((4,), max_iter=5).fit(X[["length"]], y > y.mean())
    with pytest.raises(UnsupportedModelError, match=r"a classifier.*from_sklearn\(model\) reads its logits"):
        certified(model, prefit=True).fit(X[["length"]], y)


def test_frames_of_numbers_of_any_kind():
    X, y = table()
    numbers = X[["length", "width"]].assign(whole=pd.array(range(60), dtype="Int64"), yes=X["size"] == "S")
    model = certified(make_pipeline(SelectKBest(f_regression, k=3), mlp()), random_state=0).fit(numbers, y)
    assert model.certificate_.check(model.network_)
    assert model.network_.n_inputs == 4
