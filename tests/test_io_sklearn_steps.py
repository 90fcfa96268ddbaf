"""Pipelines of scikit-learn: affine steps are folded, categories are held at chosen values, the rest is refused."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.decomposition import PCA, FactorAnalysis, FastICA, IncrementalPCA, KernelPCA, TruncatedSVD
from sklearn.feature_selection import RFE, SelectFromModel, SelectKBest, VarianceThreshold, f_regression
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from certnet.certification import certify
from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.io import from_sklearn
from certnet.networks.shallow import ShallowNetwork

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:n_quantiles:UserWarning"),
]


def mlp(**parameters: object) -> MLPRegressor:
    return MLPRegressor(**{"hidden_layer_sizes": (7,), "max_iter": 12, "random_state": 0, **parameters})


def numbers(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Inputs far from standardised, one of them constant."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 5)) * [1.0, 50.0, 1e-2, 0.0, 3.0] + [3.0, -200.0, 0.5, 7.0, 0.0]
    return X, 40.0 * np.sin(X[:, 0]) + X[:, 1] + 1000.0


def frame(n: int = 60) -> tuple[pd.DataFrame, np.ndarray]:
    X, y = numbers(n)
    rng = np.random.default_rng(1)
    table = pd.DataFrame(X, columns=["a", "b", "c", "d", "e"])
    table.insert(1, "colour", rng.choice(["red", "green", "blue"], n))
    table.insert(4, "size", rng.choice(["S", "M", "L"], n))
    table.insert(7, "year", rng.choice([1999, 2005, 2020], n))
    return table, y + 3.0 * (table["colour"] == "red").to_numpy()


AFFINE = {
    "StandardScaler": StandardScaler,
    "MinMaxScaler": MinMaxScaler,
    "MinMaxScaler of a range": lambda: MinMaxScaler((-2.0, 5.0)),
    "RobustScaler": RobustScaler,
    "RobustScaler without centring": lambda: RobustScaler(with_centering=False),
    "RobustScaler without scaling": lambda: RobustScaler(with_scaling=False),
    "MaxAbsScaler": MaxAbsScaler,
    "PCA": lambda: PCA(3),
    "PCA that whitens": lambda: PCA(3, whiten=True),
    "IncrementalPCA": lambda: IncrementalPCA(2, whiten=True),
    "FastICA": lambda: make_pipeline(VarianceThreshold(), FastICA(2, random_state=0)),
    "TruncatedSVD": lambda: TruncatedSVD(2, random_state=0),
    "GaussianRandomProjection": lambda: GaussianRandomProjection(3, random_state=0),
    "SparseRandomProjection": lambda: SparseRandomProjection(3, random_state=0),
    "SelectKBest": lambda: SelectKBest(f_regression, k=2),
    "SelectFromModel": lambda: SelectFromModel(LinearRegression()),
    "VarianceThreshold": VarianceThreshold,
    "RFE": lambda: RFE(LinearRegression(), n_features_to_select=2),
    "SimpleImputer": SimpleImputer,
    "KNNImputer": KNNImputer,
    "identity": FunctionTransformer,
    "frozen": lambda: FrozenEstimator(MinMaxScaler().fit(numbers()[0])),
    "nested": lambda: make_pipeline(make_pipeline(SimpleImputer(), RobustScaler()), "passthrough", PCA(4)),
    "union": lambda: FeatureUnion(
        [("pca", PCA(2)), ("scaled", StandardScaler()), ("as is", "passthrough"), ("none", "drop")],
        transformer_weights={"pca": 0.5},
    ),
    "columns": lambda: ColumnTransformer(
        [("m", MinMaxScaler(), [1, 4]), ("s", make_pipeline(StandardScaler(), PCA(1)), slice(0, 2))],
        remainder="passthrough",
        transformer_weights={"m": 3.0},
    ),
    "columns twice": lambda: make_pipeline(
        ColumnTransformer([("m", MinMaxScaler(), [1, 1, 4])], remainder=RobustScaler()),
        make_column_transformer((StandardScaler(), [0, 2]), (PCA(2), [1, 3, 4])),
    ),
}


@pytest.mark.filterwarnings("ignore:Features .* are constant:UserWarning")
@pytest.mark.parametrize("kind", AFFINE)
@pytest.mark.parametrize("sizes", [(7,), (5, 4)])
def test_affine_steps_are_folded(kind: str, sizes: tuple[int, ...]) -> None:
    X, y = numbers()
    model = make_pipeline(AFFINE[kind](), mlp(hidden_layer_sizes=sizes)).fit(X, y)
    net = from_sklearn(model)
    assert net.n_inputs == 5
    far = np.vstack([X, 3.0 * X - 2.0])
    assert_allclose(net.predict(far), model.predict(far), rtol=1e-9)
    assert "scikit-learn" in net.about.read
    assert net.about.inputs == ()


@pytest.mark.parametrize("transformer", [MinMaxScaler(), RobustScaler(), MaxAbsScaler(), FunctionTransformer()])
@pytest.mark.parametrize("outputs", [1, 3])
def test_affine_targets(transformer: object, outputs: int) -> None:
    X, y = numbers()
    Y = y if outputs == 1 else y[:, None] * [1.0, -2.0, 5.0] + [0.0, 1.0, 9.0]
    model = TransformedTargetRegressor(make_pipeline(MinMaxScaler(), mlp()), transformer=transformer).fit(X, Y)
    assert_allclose(from_sklearn(model).predict(X), model.predict(X), rtol=1e-9)


def test_targets_that_are_mixed_are_refused() -> None:
    X, y = numbers()
    model = TransformedTargetRegressor(mlp(), transformer=PCA(2)).fit(X, np.column_stack([y, -y + X[:, 0]]))
    with pytest.raises(UnsupportedModelError, match=r"the targets go through .*PCA"):
        from_sklearn(model)


REFUSED = {
    "MinMaxScaler that clips": (lambda: MinMaxScaler(clip=True), "clip=True, which is not affine.*clip=False"),
    "PolynomialFeatures": (lambda: PolynomialFeatures(2), "PolynomialFeatures.*products of inputs.*pass the model"),
    "SplineTransformer": (SplineTransformer, "SplineTransformer.*splines"),
    "KBinsDiscretizer": (
        lambda: KBinsDiscretizer(3, encode="ordinal", quantile_method="averaged_inverted_cdf"),
        "KBins.*jump",
    ),
    "Binarizer": (Binarizer, "Binarizer.*jump"),
    "Normalizer": (Normalizer, "Normalizer.*norm"),
    "PowerTransformer": (PowerTransformer, "PowerTransformer.*powers"),
    "QuantileTransformer": (QuantileTransformer, "QuantileTransformer.*quantiles"),
    "KernelPCA": (lambda: KernelPCA(2, kernel="rbf"), "KernelPCA.*kernels"),
    "FactorAnalysis": (lambda: FactorAnalysis(2), "step 'factoranalysis' is .*FactorAnalysis: certnet reads"),
    "indicators": (lambda: SimpleImputer(add_indicator=True), "add_indicator=False"),
    "imputer of zeros": (lambda: SimpleImputer(missing_values=0.0), "replaces the number 0.0, which jumps"),
    "a function": (lambda: FunctionTransformer(np.cbrt), "func=<ufunc 'cbrt'>"),
    "inside columns": (
        lambda: ColumnTransformer([("poly", PolynomialFeatures(2), [0, 1])], remainder=StandardScaler()),
        r"step 'poly' is .*PolynomialFeatures.*its columns: x0, x1",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_other_steps_are_refused_with_the_reason(kind: str) -> None:
    step, match = REFUSED[kind]
    X, y = numbers()
    model = make_pipeline(step(), mlp()).fit(X[:, [0, 1, 2, 4]], y)
    with pytest.raises(UnsupportedModelError, match=match):
        from_sklearn(model)


class TestCategories:
    def pipeline(self, encoder: object = None, **parameters: object) -> TransformedTargetRegressor:
        columns = make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), ["b", "a", "c"]),
            (OneHotEncoder() if encoder is None else encoder, ["colour"]),
            (make_pipeline(SimpleImputer(strategy="most_frequent"), OrdinalEncoder()), ["size"]),
            ("drop", ["d"]),
            remainder="passthrough",
        )
        return TransformedTargetRegressor(make_pipeline(columns, mlp(**parameters)), transformer=MinMaxScaler())

    @pytest.mark.parametrize("encoder", [None, OneHotEncoder(drop="first"), OrdinalEncoder(), TargetEncoder(cv=2)])
    @pytest.mark.parametrize("colour", ["red", "blue"])
    def test_they_are_held_at_chosen_values(self, encoder: object, colour: str) -> None:
        X, y = frame()
        model = self.pipeline(encoder).fit(X, y)
        net = from_sklearn(model, fixed={"colour": colour, "size": "M"})
        assert isinstance(net, ShallowNetwork)
        assert net.about.inputs == ("a", "b", "c", "e", "year")  # in the order of the frame, without what is dropped
        assert f"colour is held at '{colour}'" in net.about.remarks
        assert "no input is d, which the model drops" in net.about.remarks
        rows = X.assign(colour=colour, size="M")
        assert_allclose(net.predict(rows[list(net.about.inputs)].to_numpy()), model.predict(rows), rtol=1e-9)

    def test_the_bound_is_per_original_input(self) -> None:
        X, y = frame()
        net = from_sklearn(self.pipeline().fit(X, y), fixed={"colour": "red", "size": "S"})
        assert isinstance(net, ShallowNetwork)
        proof = certify(net)
        assert proof.check(net)
        slopes = [np.linalg.norm(g) for g in net.gradients(X[list(net.about.inputs)].to_numpy())[:, 0]]
        assert max(slopes) <= proof.upper

    def test_what_must_be_chosen_is_named(self) -> None:
        X, y = frame()
        model = self.pipeline().fit(X, y)
        with pytest.raises(UnsupportedModelError, match=r"colour, size.*fixed=\{'colour': …\}\); colour among 'blue'"):
            from_sklearn(model)
        with pytest.raises(UnsupportedModelError, match=r"columns size, in which.*'L', 'M', 'S'"):
            from_sklearn(model, fixed={"colour": "red"})

    def test_bad_choices(self) -> None:
        X, y = frame()
        model = self.pipeline().fit(X, y)
        with pytest.raises(InvalidInputError, match="fixed names the column 'shade', the model takes a, colour"):
            from_sklearn(model, fixed={"shade": "red"})
        with pytest.raises(InvalidInputError, match=r"colour='mauve'.*Choose colour among 'blue', 'green', 'red'"):
            from_sklearn(model, fixed={"colour": "mauve", "size": "M"})
        with pytest.raises(InvalidInputError, match=r"size='XXL'.*size among"):
            from_sklearn(model, fixed={"colour": "red", "size": "XXL"})
        with pytest.raises(InvalidInputError, match="fixed must map"):
            from_sklearn(model, fixed="red")  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="'e' is used as a number"):
            from_sklearn(model, fixed={"colour": "red", "size": "M", "e": "far"})
        with pytest.raises(InvalidInputError, match="leave out units"):
            from_sklearn(model, fixed={"colour": "red"}, units="standardised")
        assert from_sklearn(model, units="standardised").n_inputs == 9

    def test_an_unknown_category_is_said(self) -> None:
        X, y = frame()
        model = self.pipeline(OneHotEncoder(handle_unknown="ignore")).fit(X, y)
        net = from_sklearn(model, fixed={"colour": "mauve", "size": "M"})
        assert "colour = 'mauve' is no category that the encoder knows" in net.about.remarks

    def test_numbers_may_be_held_too_and_numbers_may_be_categories(self) -> None:
        X, y = frame()
        columns = make_column_transformer(
            (OneHotEncoder(), ["year", "colour"]), (StandardScaler(), ["a", "b"]), ("passthrough", ["c"])
        )
        model = make_pipeline(columns, mlp()).fit(X, y)
        net = from_sklearn(model, fixed={"year": 2005, "colour": "green", "b": -190.0, "c": 0.4})
        assert net.about.inputs == ("a",)
        rows = X.assign(year=2005, colour="green", b=-190.0, c=0.4)
        assert_allclose(net.predict(rows[["a"]].to_numpy()), model.predict(rows), rtol=1e-9)

    def test_a_step_of_another_kind_is_read_where_its_columns_are_held(self) -> None:
        X, y = frame()
        columns = make_column_transformer((PolynomialFeatures(2), ["a", "e"]), (StandardScaler(), ["b"]))
        model = make_pipeline(columns, mlp()).fit(X, y)
        net = from_sklearn(model, fixed={"a": 3.0, "e": 1.0})
        assert_allclose(net.predict(X[["b"]].to_numpy()), model.predict(X.assign(a=3.0, e=1.0)), rtol=1e-9)

    def test_arrays_without_names(self) -> None:
        X, y = numbers()
        X = np.column_stack([X, np.arange(60) % 3])
        columns = ColumnTransformer([("code", OneHotEncoder(sparse_output=False), [5])], remainder=MinMaxScaler())
        model = make_pipeline(columns, mlp()).fit(X, y)
        with pytest.raises(UnsupportedModelError, match=r"x5 among 0.0, 1.0, 2.0"):
            from_sklearn(model)
        net = from_sklearn(model, fixed={"x5": 1.0})
        assert net.about.inputs == ("x0", "x1", "x2", "x3", "x4")
        assert_allclose(net.predict(X[:, :5][X[:, 5] == 1]), model.predict(X[X[:, 5] == 1]), rtol=1e-9)

    def test_only_categories(self) -> None:
        X, y = frame()
        model = make_pipeline(OneHotEncoder(), mlp()).fit(X[["colour"]], y)
        with pytest.raises(UnsupportedModelError, match="no input is left"):
            from_sklearn(model, fixed={"colour": "red"})

    def test_polars(self) -> None:
        polars = pytest.importorskip("polars")
        X, y = frame()
        model = self.pipeline().fit(polars.DataFrame({name: X[name].to_list() for name in X}), y)
        net = from_sklearn(model, fixed={"colour": "red", "size": "M"})
        rows = X.assign(colour="red", size="M")
        assert_allclose(net.predict(rows[list(net.about.inputs)].to_numpy()), model.predict(rows), rtol=1e-9)


class TestWrappers:
    def test_searches_and_frozen_models(self) -> None:
        X, y = numbers()
        inner = make_pipeline(StandardScaler(), mlp())
        for search in (
            GridSearchCV(inner, {"mlpregressor__alpha": [0.1, 1.0]}, cv=2),
            RandomizedSearchCV(inner, {"mlpregressor__alpha": [0.1, 1.0]}, n_iter=1, cv=2, random_state=0),
        ):
            model = search.fit(X, y)
            net = from_sklearn(FrozenEstimator(model))
            assert f"best_estimator_ of {type(search).__name__}" in net.about.read
            assert_allclose(net.predict(X), model.predict(X), rtol=1e-9)
        with pytest.raises(UnsupportedModelError, match="no best_estimator_"):
            from_sklearn(GridSearchCV(inner, {"mlpregressor__alpha": [0.1]}))

    @pytest.mark.parametrize("classes", [2, 3])
    def test_classifiers_give_logits(self, classes: int) -> None:
        X, y = numbers()
        labels = np.array(["no", "yes", "perhaps"])[np.argsort(np.argsort(y)) * classes // len(y)]
        model = make_pipeline(RobustScaler(), MLPClassifier((6,), max_iter=30, random_state=0)).fit(X, labels)
        net = from_sklearn(model)
        assert net.n_outputs == (1 if classes == 2 else 3)
        z = net.forward(X)
        if classes == 2:
            assert_allclose(1.0 / (1.0 + np.exp(-z[:, 0])), model.predict_proba(X)[:, 1], atol=1e-12)
            assert net.about.outputs == ("logit of yes",)
            assert "the outputs are the logits: the logistic function is left out" in net.about.remarks
        else:
            p = np.exp(z - z.max(axis=1, keepdims=True))
            assert_allclose(p / p.sum(axis=1, keepdims=True), model.predict_proba(X), atol=1e-12)
            assert net.about.outputs == ("logit of no", "logit of perhaps", "logit of yes")
        assert_allclose(from_sklearn(model[-1]).forward(model[:-1].transform(X)), z, rtol=1e-9, atol=1e-9)

    def test_names_of_the_inputs(self) -> None:
        X, y = frame()
        X = X[["b", "a", "e"]]
        assert from_sklearn(mlp().fit(X, y)).about.inputs == ("b", "a", "e")
        model = TransformedTargetRegressor(Pipeline([("no", "passthrough"), ("s", StandardScaler()), ("m", mlp())]))
        assert from_sklearn(model.fit(X, y)).about.inputs == ("b", "a", "e")
        held = from_sklearn(mlp().fit(X, y), fixed={"a": 2.0})
        assert held.about.inputs == ("b", "e")
        assert held.units == "as given"


class TestAgreement:
    def test_a_model_that_predicts_otherwise_is_refused(self) -> None:
        class Shifted(StandardScaler):
            pass

        X, y = numbers()
        model = make_pipeline(StandardScaler(), mlp()).fit(X, y)
        # a transform that is not the class's own, which no look at the attributes would find
        model[0].transform = lambda X: StandardScaler.transform(model[0], X) + 0.1
        with pytest.raises(UnsupportedModelError, match=r"does not agree with the model.*of another network"):
            from_sklearn(model)
        with pytest.raises(UnsupportedModelError, match="Shifted: certnet reads"):
            from_sklearn(make_pipeline(Shifted(), mlp()).fit(X, y))

    def test_a_model_that_cannot_be_asked_is_refused(self) -> None:
        X, y = numbers()
        model = make_pipeline(StandardScaler(), mlp()).fit(X, y)
        broken = copy.deepcopy(model)
        del broken[-1].n_layers_
        with pytest.raises(UnsupportedModelError, match="cannot be asked for its outputs"):
            from_sklearn(broken)

    def test_inputs_far_from_zero_are_no_disagreement(self) -> None:
        X, y = numbers()
        model = make_pipeline(StandardScaler(), mlp()).fit(X + 1e6, y)
        assert_allclose(from_sklearn(model).predict(X + 1e6), model.predict(X + 1e6), rtol=1e-5, atol=1e-6)
