"""The first layer in the span of its start and of the next inputs, against the same layer as a matrix."""

import numpy as np
import pytest

from certnet.lifted import LiftedNetwork, Objective, Training, initial_network, train
from certnet.lifted.learn import loop, phases
from certnet.lifted.learn.first_layer import Explicit, Spanned, batches_of_a_span
from certnet.lifted.learn.parameters import Parameters


def start(widths=(60, 9, 7, 3), beta=(1.0, 1.0, 0.0), seed=0):
    return initial_network(widths, beta=list(beta), gamma=0.3, random_state=seed)


@pytest.mark.parametrize(("d", "m"), [(60, 9), (9, 40), (25, 25)])  # wide, tall, square
@pytest.mark.parametrize("moves", [True, False])
def test_spans_are_the_steps_on_the_matrix(d, m, moves):
    rng = np.random.default_rng(d)
    net = start((d, m, 5, 3))
    one, two = Parameters.of(net), Parameters.of(net)
    batches = [rng.standard_normal((rows, d)) for rows in (4, 4, 3)]
    gradient = Parameters.over(np.full_like(one.flat, np.nan), net.widths)
    explicit, span = Explicit(one, 1.0), Spanned(two, moves=moves)
    span.begin(np.concatenate(batches))
    rate = 0.05
    for X in batches:
        A = np.maximum(rng.standard_normal((2 * len(X), m)), 0.0)
        left, weights = rng.standard_normal((3 * len(X) + 1, m)), rng.standard_normal(3 * len(X) + 1)
        np.testing.assert_allclose(span.pose(X), explicit.pose(X), atol=1e-12)
        np.testing.assert_allclose(span.gram, explicit.gram, atol=1e-12 * np.abs(explicit.gram).max())
        np.testing.assert_array_equal(span.gram, span.gram.T)
        np.testing.assert_allclose(span.squares(X), explicit.squares(X), rtol=1e-12)
        # by the formula of the module's head
        V = np.concatenate([X, one.reconstruction_biases[0][None], A @ one.weights[0]])
        wanted = one.weights[0] - rate * left.T @ V
        explicit.advance(left, weights, A, gradient, rate)
        np.testing.assert_allclose(one.weights[0], wanted, atol=1e-12 * np.abs(wanted).max())
        np.testing.assert_allclose(gradient.reconstruction_biases[0], weights @ V, atol=1e-11)
        if moves:
            one.reconstruction_biases[0][:] -= rate * gradient.reconstruction_biases[0]
        span.advance(left, weights, A, gradient, rate)
        assert not gradient.reconstruction_biases[0].any()  # the loop must not move it again
    np.testing.assert_array_equal(two.flat, Parameters.of(net).flat)  # nothing is written before the end
    span.close()
    np.testing.assert_allclose(two.flat, one.flat, atol=1e-12 * np.abs(one.flat).max())


def test_gradients_of_many_rows_go_through_the_smaller_product():
    rng = np.random.default_rng(1)
    net = start((20, 4, 3), beta=(1.0, 0.0))
    params = Parameters.of(net)
    gradient = Parameters.over(np.empty_like(params.flat), net.widths)
    X, A = rng.standard_normal((6, 20)), rng.standard_normal((12, 4))
    left, weights = rng.standard_normal((19, 4)), rng.standard_normal(19)
    first = Explicit(params, 1.0)
    first.pose(X)
    first.advance(left, weights, A, gradient, None)
    V = np.concatenate([X, params.reconstruction_biases[0][None], A @ params.weights[0]])
    np.testing.assert_allclose(gradient.weights[0], left.T @ V, atol=1e-12)
    np.testing.assert_allclose(gradient.reconstruction_biases[0], weights @ V, atol=1e-12)


def trained(monkeypatch, spanned, how, **data):
    if not spanned:
        monkeypatch.setattr(phases, "batches_of_a_span", lambda *_: 1)
    net = start()
    rng = np.random.default_rng(2)
    X = rng.random((57, 60))  # the last batch, and the last span, are shorter
    y = rng.random((57, 3))
    if how.objective.mixes:
        y[rng.random(57) < 0.6] = np.nan
    if how.objective.kind == "unsupervised":
        y = None
    return train(net, X, y, how, random_state=3, **data)


OBJECTIVES = ["contrastive", "lifted", "unsupervised", "semi_supervised"]


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("biases", [True, False])
def test_training_is_the_same_with_spans_as_without(monkeypatch, kind, biases):
    how = Training(Objective(kind), learning_rate=0.02, batch_size=4, max_epochs=2, tol=1e-13, biases=biases)
    assert batches_of_a_span((60, 9, 7, 3), 1.0, 4) == 3
    one, two = (trained(monkeypatch, spanned, how) for spanned in (True, False))
    for a, b in zip(one.network.weights + one.network.biases, two.network.weights + two.network.biases):
        np.testing.assert_allclose(a, b, atol=1e-9)
    for a, b in zip(one.network.reconstruction_biases, two.network.reconstruction_biases):
        np.testing.assert_allclose(a, b, atol=1e-9)
        assert biases or not a.any()
    np.testing.assert_allclose(one.loss_curve, two.loss_curve, rtol=1e-8)


def test_spans_are_for_plain_steps_and_wide_inputs(monkeypatch):
    assert batches_of_a_span((784, 64, 64, 10), 1.0, 10) == 8
    assert batches_of_a_span((784, 64, 64, 10), 0.0, 10) == 1  # W_0 W_0ᵀ and A W_0 are not asked for
    assert batches_of_a_span((784, 64, 64, 10), 1.0, 500) == 1
    assert batches_of_a_span((13, 64, 64, 10), 1.0, 10) == 1

    def refused(*_):
        raise AssertionError("Adam needs the gradient itself")

    monkeypatch.setattr(loop.Phases, "spanning", refused)
    how = Training(optimizer="adam", learning_rate=1e-3, batch_size=4, max_epochs=1)
    assert trained(monkeypatch, True, how).network is not None


def test_what_stops_in_a_span_leaves_the_network_of_the_epoch_before(monkeypatch):
    how = Training(learning_rate=0.02, batch_size=4, max_epochs=3)
    whole = trained(monkeypatch, True, Training(learning_rate=0.02, batch_size=4, max_epochs=1))
    calls, inner = [], phases.Phases.run

    def run(self, *given, **options):
        calls.append(1)
        if len(calls) == 15 + 5:  # in the second span of the second epoch
            raise KeyboardInterrupt
        return inner(self, *given, **options)

    monkeypatch.setattr(phases.Phases, "run", run)
    with pytest.warns(match="interrupted"):
        stopped = trained(monkeypatch, True, how)
    assert isinstance(stopped.network, LiftedNetwork)
    assert stopped.network.digest == whole.network.digest


def test_large_batches_are_shared_by_threads_with_the_same_bits():
    rng = np.random.default_rng(4)
    X, y = rng.random((120, 60)), rng.random((120, 3))
    how = Training(learning_rate=0.02, batch_size=60, max_epochs=2)
    one, three = (train(start(), X, y, how, random_state=5, threads=threads) for threads in (1, 3))
    assert one.network.digest == three.network.digest
    assert one.loss_curve == three.loss_curve
    small = train(start(), X, y, Training(learning_rate=0.02, batch_size=40, max_epochs=1), random_state=5, threads=3)
    assert small.network.digest != one.network.digest
