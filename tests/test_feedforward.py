"""FeedForward: validation, values and gradients by hand, digest, frozen, pickled and saved bit for bit."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.frozen import FrozenEstimator

from certnet.core.errors import FileFormatError, InvalidInputError, OutputError, UnsupportedModelError
from certnet.estimators import CertifiedRegressor
from certnet.io import to_sklearn
from certnet.networks.activations import ACTIVATIONS, Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.refinement import refine


def random_network(phis: object = "relu", sizes: tuple[int, ...] = (3, 5, 4, 2), seed: int = 0) -> FeedForward:
    rng = np.random.default_rng(seed)
    Ws = [rng.normal(size=(h, d)) for d, h in pairwise(sizes)]
    return FeedForward(Ws, [rng.normal(size=len(W)) for W in Ws], phis)  # type: ignore[arg-type]


def by_hand() -> FeedForward:
    return FeedForward([[[1.0, 0.5]], [[-2.0], [1.0]], [[1.0, 3.0]]], [[0.25], [0.0, 1.0], [0.5]], ["relu", "tanh"])


# values --------------------------------------------------------------------------------------------------------------


def test_values_by_hand() -> None:
    x = np.array([[1.0, 2.0], [-1.0, 0.0]])
    first = np.array([2.25, 0.0])
    expected = np.tanh(-2.0 * first) + 3.0 * np.tanh(first + 1.0) + 0.5
    np.testing.assert_allclose(by_hand().predict(x), expected, rtol=1e-15)
    assert by_hand().forward(x).shape == (2, 1)
    assert random_network().predict(np.ones((4, 3))).shape == (4, 2)
    assert random_network().forward(np.empty((0, 3))).shape == (0, 2)


def test_sizes() -> None:
    net = random_network()
    assert (net.widths, net.n_inputs, net.n_outputs, net.n_hidden, net.depth) == ((3, 5, 4, 2), 3, 2, 9, 2)
    assert repr(net) == "FeedForward(3-5-4-2, relu, relu, units='as given')"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(ACTIVATIONS), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_gradients_against_differences(names: list[str], seed: int) -> None:
    sizes = (3, *([4] * len(names)), 2)
    net = random_network(names, sizes, seed)
    X = np.random.default_rng(seed).normal(size=(6, 3))
    eps = 1e-6
    steps = eps * np.eye(3)
    numeric = np.stack([(net.forward(X + e) - net.forward(X - e)) / (2.0 * eps) for e in steps], axis=2)
    near = np.zeros(6, dtype=bool)  # a kink within reach of the step
    x, reach = X, 10.0 * eps * np.ones(6)
    for W, b, phi in zip(net.weights, net.biases, net.activations):
        z = x @ W.T + b
        reach = reach * np.linalg.norm(W, 2)
        for kink in phi.kinks():
            near |= (np.abs(z - kink) < reach[:, None]).any(axis=1)
        x, reach = phi(z), reach * max(map(abs, phi.slopes))
    gradients = net.gradients(X)
    assert gradients.shape == (6, 2, 3)
    np.testing.assert_allclose(gradients[~near], numeric[~near], rtol=1e-4, atol=1e-6)


def test_agrees_with_the_shallow_network() -> None:
    rng = np.random.default_rng(3)
    shallow = ShallowNetwork(
        rng.normal(size=(6, 3)), rng.normal(size=6), rng.normal(size=(2, 6)), [1.0, 2.0], units="raw"
    )
    deep, X = FeedForward.of(shallow), rng.normal(size=(30, 3))
    assert deep.units == "raw"
    np.testing.assert_array_equal(deep.forward(X), shallow.forward(X))
    np.testing.assert_allclose(deep.gradients(X), shallow.gradients(X), rtol=1e-13, atol=1e-13)
    assert deep.shallow() == shallow
    assert FeedForward.of(deep) is deep


def test_only_one_relu_layer_is_shallow() -> None:
    for net in (random_network(), random_network("tanh", (3, 4, 1))):
        with pytest.raises(UnsupportedModelError, match=r"FeedForward\(3-.*is not a one-hidden-layer ReLU network"):
            net.shallow()


@pytest.mark.parametrize("phis", [["tanh"], ["tanh", "tanh"], ["relu", "relu"]])
def test_programs_of_a_cell_need_relu_and_say_so(phis: list[str]) -> None:
    net = random_network(phis, (3, *([4] * len(phis)), 1))
    X = np.random.default_rng(0).normal(size=(12, 3))
    with pytest.raises(UnsupportedModelError, match=r"not a one-hidden-layer ReLU network.*refinement needs it"):
        refine(net, X, X[:, 0], cells=1)
    for estimator, prefit in (
        (net, False),
        (net, True),
        (to_sklearn(net), True),
        (FrozenEstimator(to_sklearn(net)), False),
    ):
        with pytest.raises(UnsupportedModelError, match="not a one-hidden-layer ReLU network"):
            CertifiedRegressor(estimator, prefit=prefit, cells=1).fit(X, X[:, 0])


def test_one_relu_layer_is_refined_whatever_its_type() -> None:
    net = random_network("relu", (3, 4, 1))
    X = np.random.default_rng(0).normal(size=(12, 3))
    assert refine(net, X, X[:, 0]).network == refine(net.shallow(), X, X[:, 0]).network


@pytest.mark.parametrize("phi", ["relu", "sigmoid"])
def test_rescaled(phi: str) -> None:
    net, rng = random_network(phi), np.random.default_rng(5)
    x_shift, x_scale, y_shift, y_scale = rng.normal(size=3), rng.uniform(0.5, 4.0, 3), [1.0, -2.0], [3.0, 0.1]
    raw = net.rescaled(x_shift=x_shift, x_scale=x_scale, y_shift=y_shift, y_scale=y_scale)
    X = rng.normal(size=(20, 3))
    np.testing.assert_allclose(raw.forward(X), np.array(y_scale) * net.forward((X - x_shift) / x_scale) + y_shift)
    assert raw.units == "raw"
    assert raw.activations == net.activations
    assert np.array_equal(raw.weights[1], net.weights[1])
    with pytest.raises(InvalidInputError, match="scale is zero"):
        net.rescaled(x_shift=0.0, x_scale=0.0, y_shift=0.0, y_scale=1.0)
    with pytest.raises(InvalidInputError, match="x scaling has shape"):
        net.rescaled(x_shift=[0.0, 0.0], x_scale=1.0, y_shift=0.0, y_scale=1.0)


def test_slopes_alone_have_no_values() -> None:
    net = random_network([(0.0, 1.0), "relu"])
    assert net.activations[0].slopes == (0.0, 1.0)
    with pytest.raises(UnsupportedModelError, match="has no values"):
        net.forward(np.zeros((1, 3)))
    with pytest.raises(UnsupportedModelError, match="has no values"):
        net.gradients(np.zeros((1, 3)))


# validation ----------------------------------------------------------------------------------------------------------

I2, Z2 = np.eye(2), np.zeros(2)


@pytest.mark.parametrize(
    ("weights", "biases", "phis", "match"),
    [
        ([I2], [Z2], [], "1 weight matrices and 1 biases: at least one hidden layer"),
        ([], [], [], "0 weight matrices"),
        ([I2, I2], [Z2], "relu", "2 weight matrices and 1 biases"),
        ([I2, np.ones((1, 3))], [Z2, [0.0]], "relu", r"weights\[1\] takes 3 inputs, the layer before gives 2"),
        ([I2, I2], [Z2, np.zeros(3)], "relu", r"weights\[1\] has shape \(2, 2\) and biases\[1\] \(3,\)"),
        ([np.ones((0, 2)), np.ones((2, 0))], [np.zeros(0), Z2], "relu", "do not fit"),
        ([I2, np.ones(2)], [Z2, [0.0]], "relu", r"weights\[1\] has shape \(2,\)"),
        ([I2, I2], [Z2, [[0.0, 0.0]]], "relu", r"biases\[1\] has shape"),
        ([I2, [[1.0, np.nan], [0.0, 0.0]]], [Z2, Z2], "relu", r"weights\[1\] has 1 entries that are NaN"),
        ([I2, I2], [Z2, [np.inf, 0.0]], "relu", r"biases\[1\] has 1 entries"),
        ([I2, [["a", "b"]]], [Z2, [0.0]], "relu", "real numbers"),
        ([I2, I2], [Z2, Z2], ["relu", "relu"], "2 activations and 1 hidden layers"),
        ([I2, I2, I2], [Z2, Z2, Z2], ["relu"], "1 activations and 2 hidden layers"),
        ([I2, I2], [Z2, Z2], [(1.0, 0.0)], "low, high"),
    ],
)
def test_bad_layers(weights: list, biases: list, phis: object, match: str) -> None:
    with pytest.raises(InvalidInputError, match=match):
        FeedForward(weights, biases, phis)  # type: ignore[arg-type]


def test_bad_activation_units_and_inputs() -> None:
    with pytest.raises(UnsupportedModelError, match="'swish' is not known"):
        FeedForward([I2, I2], [Z2, Z2], "swish")
    with pytest.raises(InvalidInputError, match="units must be one of"):
        FeedForward([I2, I2], [Z2, Z2], units="furlongs")
    net = random_network()
    for X, match in (
        (np.zeros(3), "samples are rows"),
        (np.zeros((2, 4)), "4 columns, the network has 3 inputs"),
        ([[np.nan, 0.0, 0.0]], "NaN"),
    ):
        for call in (net.forward, net.predict, net.gradients):
            with pytest.raises(InvalidInputError, match=match):
                call(X)


# identity ------------------------------------------------------------------------------------------------------------


def test_digest_is_the_same_everywhere() -> None:
    """A literal: files and certificates made elsewhere must stay valid."""
    assert by_hand().digest == "d78721d2e589eb2a9fcc6362b14dc50ef678fe2eb918164cb2014cbe9307657e"


def test_digest_and_equality_see_everything() -> None:
    net = by_hand()
    Ws, bs, phis = net.weights, net.biases, net.activations
    others = [
        FeedForward([np.nextafter(Ws[0], 2.0), *Ws[1:]], bs, phis),
        FeedForward(Ws, [bs[0] + 1e-15, *bs[1:]], phis),
        FeedForward(Ws, bs, ["tanh", "relu"]),
        FeedForward(Ws, bs, [Activation("leaky_relu", (0.0,)), "tanh"]),
        FeedForward(Ws, bs, [Activation("leaky_relu", (1e-300,)), "tanh"]),
        net.labelled("raw"),
        FeedForward.of(ShallowNetwork(Ws[0], bs[0], [[1.0]], 0.0)),
    ]
    assert len({net, *others}) == len(others) + 1
    assert net == FeedForward(Ws, bs, phis)
    assert net != "a network"
    zero = FeedForward([-0.0 * W for W in Ws], [-0.0 * b for b in bs], phis)
    assert zero == FeedForward([0.0 * np.abs(W) for W in Ws], [0.0 * b for b in bs], phis)


def test_frozen_and_copied() -> None:
    Ws, bs = [np.eye(2), np.eye(2)], [np.zeros(2), np.zeros(2)]
    net = FeedForward(Ws, bs)
    digest = net.digest
    Ws[0][0, 0] = bs[1][0] = 7.0
    assert net.digest == digest
    with pytest.raises(ValueError, match="read-only"):
        net.weights[0][0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        net.biases[1][0] = 1.0
    with pytest.raises(FrozenInstanceError):
        net.units = "raw"  # type: ignore[misc]


@pytest.mark.parametrize("phis", ["relu", "hard_sigmoid", [(0.1, 0.9), Activation("elu", (1 / 3,))]])
def test_pickle_and_copy(phis: object) -> None:
    net = random_network(phis).labelled("standardised")
    for again in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert again == net
        assert again.activations == net.activations
        assert not again.weights[0].flags.writeable


# files ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([*ACTIVATIONS, (0.1, 1 / 3), Activation("elu", (1 / 3,))]), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1.0, 1e-310, 1e300]),
)
def test_files_are_bit_exact(tmp_path_factory: pytest.TempPathFactory, phis: list, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    Ws = [scale * rng.normal(size=(h, d)) for d, h in pairwise(rng.integers(1, 5, len(phis) + 2))]
    net = FeedForward(Ws, [rng.normal(size=len(W)) for W in Ws], phis, units="raw")
    path = net.save(tmp_path_factory.getbasetemp() / "net.npz", force=True)
    assert FeedForward.load(path).digest == net.digest
    assert all(np.array_equal(a, b) for a, b in zip(FeedForward.load(path).weights, net.weights))


def test_reads_shallow_files_and_does_not_overwrite(tmp_path: Path) -> None:
    shallow = ShallowNetwork([[1.0]], [0.0], [1.0], 0.0, units="raw")
    path = shallow.save(tmp_path / "net.npz")
    assert FeedForward.load(path) == FeedForward.of(shallow)
    with pytest.raises(OutputError, match="exists"):
        random_network().save(path)
    random_network().save(path, force=True)
    assert FeedForward.load(path) == random_network()
    with pytest.raises(FileFormatError, match="has the format"):
        ShallowNetwork.load(path)


def rewritten(folder: Path, **changes: object) -> Path:
    """A saved network with some arrays replaced (None: left out)."""
    source = random_network().save(folder / "good.npz", force=True)
    with np.load(source) as file:
        arrays = {**dict(file), **changes}
    np.savez(folder / "net.npz", **{name: a for name, a in arrays.items() if a is not None})
    return folder / "net.npz"


@pytest.mark.parametrize(
    "changes",
    [
        {"W1": None},
        {"b2": None},
        {"units": None},
        {"activations": None},
        {"units": np.array("furlongs")},
        {"format": np.array("certnet-feed-forward-99")},
        {"format": None},
        {"W1": np.full((4, 5), np.nan)},
        {"W1": np.ones((4, 6))},
        {"W1": np.array([b"x"])},
        {"W1": np.array([object()], dtype=object)},
        {"activations": np.array("")},
        {"activations": np.array("[" * 100_000)},
        {"activations": np.array("{}")},
        {"activations": np.array("3")},
        {"activations": np.array(json.dumps([["relu", []]]))},
        {"activations": np.array(json.dumps([["swish", []], ["relu", []]]))},
        {"activations": np.array(json.dumps([["elu", ["nan"]], ["relu", []]]))},
        {"activations": np.array(json.dumps([["elu", [1.0]], ["relu", []]]))},
        {"activations": np.array(json.dumps([["elu", None], ["relu", []]]))},
        {"activations": np.array(json.dumps([None, None]))},
        {"activations": np.array(json.dumps([["elu", ["0x1p99999"]], ["relu", []]]))},
    ],
)
def test_altered_files(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(FileFormatError, match=r"net\.npz"):
        FeedForward.load(rewritten(tmp_path, **changes))


def test_truncated_missing_and_other_files(tmp_path: Path) -> None:
    path = random_network().save(tmp_path / "net.npz")
    content = path.read_bytes()
    for kept in (0, 1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:kept])
        with pytest.raises(FileFormatError):
            FeedForward.load(path)
    with pytest.raises(FileFormatError, match="does not exist"):
        FeedForward.load(tmp_path / "absent.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(FileFormatError, match="one array"):
        FeedForward.load(tmp_path / "one.npy")
