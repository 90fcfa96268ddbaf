"""Couellan's regularisers: values against NumPy's singular values, constraints that hold, training with each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certnet.core.errors import InvalidInputError, SolverError
from certnet.train import Coupled, CoupledBound, MaxNorm, PerLayerSpectral, Unregularized, train_regularized
from certnet.train.regularizers import require_regularizer, spectral_norms


def weights(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return [scale * rng.standard_normal(shape) for shape in ((5, 3), (5, 5), (1, 5))]


def norms(matrices):
    return [np.linalg.norm(W, 2) for W in matrices]


def samples(n=50):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((n, 3))
    return X, np.tanh(X @ np.array([2.0, -1.0, 0.5]))


def train(regularizer=None, **options):
    pytest.importorskip("torch")
    options = {"epochs": 30, "batch_size": 10, "learning_rate": 0.01, "device": "cpu"} | options
    return train_regularized(*samples(), (6, 6), regularizer, **options)


def test_penalties_are_those_of_the_singular_values():
    Ws = weights(0)
    assert spectral_norms(Ws) == pytest.approx(norms(Ws), rel=1e-12)
    assert PerLayerSpectral(0.3).penalty(norms(Ws)) == pytest.approx(0.3 * sum(norms(Ws)))
    assert Coupled(0.3).penalty(norms(Ws)) == pytest.approx(0.3 * np.prod(norms(Ws)))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_the_coupled_bound_holds_after_its_factors(seed, scale, bound):
    Ws = weights(seed, scale)
    factors = CoupledBound(bound).factors(Ws)
    after = [W * factor for W, factor in zip(Ws, factors)]
    assert np.prod(norms(after)) <= bound
    if np.prod(norms(Ws)) > bound:
        assert np.prod(norms(after)) == pytest.approx(bound, rel=1e-9)
        np.testing.assert_allclose(np.array(norms(after)) / norms(Ws), factors[0])  # the coupling: ratios are kept
    else:
        assert all(factor == 1.0 for factor in factors)


def test_the_coupled_bound_on_weights_whose_product_overflows():
    after = [W * factor for W, factor in zip(weights(0, 1e150), CoupledBound(2.0).factors(weights(0, 1e150)))]
    assert np.prod(norms(after)) == pytest.approx(2.0)
    assert CoupledBound(2.0).factors([np.zeros((2, 2))] * 2)[0] == 1.0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 10.0))
def test_max_norm_shortens_long_rows_only(seed, limit):
    for W, factor in zip(weights(seed), MaxNorm(limit).factors(weights(seed))):
        long = np.linalg.norm(W, axis=1) > limit
        lengths = np.linalg.norm(W * factor, axis=1)
        assert np.all(lengths <= limit)
        np.testing.assert_allclose(lengths[long], limit)
        np.testing.assert_array_equal((W * factor)[~long], W[~long])


@pytest.mark.parametrize("regularizer", [PerLayerSpectral(0.05), Coupled(0.05)])
def test_the_curve_is_the_penalised_objective(regularizer):
    X, y = samples()
    done = train(regularizer, weight_decay=0.01)
    net = done.network
    decay = sum(np.sum(W**2) for W in net.weights) + sum(np.sum(b**2) for b in net.biases[:-1])
    expected = np.mean((net.predict(X) - y) ** 2) + regularizer.penalty(norms(net.weights)) + 0.01 * decay
    assert done.loss_curve[-1] == pytest.approx(expected, rel=1e-12)
    assert done.loss_curve[-1] < done.loss_curve[0]
    assert done.settings["regularizer"] == regularizer.name
    assert done.settings["regularizer_weight"] == 0.05


@pytest.mark.parametrize("regularizer", [PerLayerSpectral(0.2), Coupled(0.2)])
def test_a_full_batch_step_follows_the_penaltys_gradient(regularizer):
    one = {"epochs": 1, "batch_size": 50, "optimizer": "sgd", "momentum": 0.0}
    still = train(regularizer, learning_rate=1e-13, **one).network
    plain, moved = (train(r, learning_rate=1e-3, **one).network for r in (None, regularizer))
    for k, W in enumerate(still.weights):
        slope = (moved.weights[k] - plain.weights[k]) / -1e-3
        for at in np.ndindex(W.shape):
            ends = []
            for change in (1e-6, -1e-6):
                Ws = [V.copy() for V in still.weights]
                Ws[k][at] += change
                ends.append(regularizer.penalty(norms(Ws)))
            assert slope[at] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-6)


def test_constraints_hold_at_the_end_and_bind():
    bounded = train(CoupledBound(0.6)).network
    assert 0.59 < np.prod(norms(bounded.weights)) <= 0.6
    short = train(MaxNorm(0.5)).network
    lengths = np.concatenate([np.linalg.norm(W, axis=1) for W in short.weights])
    assert 0.49 < lengths.max() <= 0.5
    assert np.prod(norms(train(None).network.weights)) > 1.0


def test_coupling_lets_the_layers_differ():
    """At equal products of norms, the sum of norms is what only the layer-by-layer penalty keeps small."""
    couple, single = (train(r, epochs=60).network for r in (Coupled(0.05), PerLayerSpectral(0.05)))
    assert np.ptp(norms(couple.weights)) > np.ptp(norms(single.weights))


@pytest.mark.parametrize(
    ("layers", "bound", "accuracy"),
    [
        ((2.828, 1.954, 1.825), 10.01, 1e-2),
        ((2.508, 1.625, 3.315), 13.52, 1e-3),
        ((3.464, 1.791, 1.983), 12.31, 1e-3),
        ((2.383, 1.883, 1.707), 7.66, 1e-3),
    ],
)
def test_couellans_table_leaves_out_the_output_layer(layers, bound, accuracy):
    """C, table 1: the bound of a network with three hidden layers is the product of three norms, not of four."""
    assert np.prod(layers) == pytest.approx(bound, rel=accuracy)


def test_a_product_without_the_output_layer_is_no_bound():
    first, last = np.array([[1.0]]), np.array([[5.0]])  # f(x) = 5 relu(x) has the slope 5
    assert Coupled(1.0).penalty(norms([first, last])) == 5.0 > norms([first])[0]


def test_no_regulariser_is_none():
    assert train(None).network == train(Unregularized()).network
    assert train(None).settings["regularizer"] == "none"


@pytest.mark.parametrize("regularizer", [None, Coupled(0.1), PerLayerSpectral(0.1), MaxNorm(1.0), CoupledBound(1.0)])
def test_divergence_gives_advice_with_every_regulariser(regularizer):
    with pytest.raises(SolverError, match="use a learning rate below"):
        train(regularizer, learning_rate=1e170, optimizer="sgd")


@pytest.mark.parametrize("kind", [PerLayerSpectral, Coupled])
def test_negative_weights_are_refused(kind):
    with pytest.raises(InvalidInputError, match="weight must be a finite non-negative number"):
        kind(-0.1)


@pytest.mark.parametrize(("kind", "name"), [(MaxNorm, "limit"), (CoupledBound, "bound")])
def test_limits_are_positive(kind, name):
    with pytest.raises(InvalidInputError, match=f"{name} must be a finite positive number"):
        kind(0.0)


def test_other_regularisers_are_refused():
    with pytest.raises(InvalidInputError, match=r"got 'l2'"):
        require_regularizer("l2")
