"""Training of feed-forward regression/reconstruction networks: steps by hand, bounds that hold, errors that advise."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from certnet import certify
from certnet.core.errors import InvalidInputError, SolverError
from certnet.lifted.targets import one_hot
from certnet.robust import certified_accuracy

torch = pytest.importorskip("torch", reason='PyTorch is not installed: pip install "certnet[torch]"')

from certnet.lifted.rr_ import rr_network  # noqa: E402
from certnet.lifted.rr_training_ import train_rr  # noqa: E402

SIZES = (5, 6, 4, 3)


def samples(n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 5)), rng.integers(0, 3, n)


def values(f: np.ndarray, y: np.ndarray, loss: str, margin: float) -> np.ndarray:
    """The loss of every sample, in plain NumPy."""
    if loss == "squared":
        return np.asarray(0.5 * ((f - np.eye(3)[y]) ** 2).sum(axis=1))
    if loss == "cross_entropy":
        return np.asarray(np.log(np.exp(f).sum(axis=1)) - f[np.arange(len(y)), y])
    short = [max(max(0.0, margin - (row[c] - row[j])) for j in range(3) if j != c) for row, c in zip(f, y)]
    return np.array(short)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy", "margin"])
def test_a_step_is_that_of_the_gradient_by_finite_differences(loss: str) -> None:
    """One batch of all samples, plain descent: the step is the rate times the gradient, decay included."""
    sizes = (5, 16, 8, 3)  # with few units a sample may find all of them at their kinks
    X, y = samples()
    options: dict[str, Any] = {
        "loss": loss,
        "margin": 0.4,
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "dtype": "float64",
    }
    done = train_rr(
        sizes, X, y, epochs=1, batch_size=12, schedule="constant", weight_decay=0.3, random_state=4, **options
    )
    start = rr_network(sizes, random_state=4)

    def objective(module: Any) -> float:
        f = module.to_feed_forward().outputs(X)
        return float(values(f, y, loss, 0.4).mean() + 0.15 * (module.last.weight.detach().numpy() ** 2).sum())

    rng = np.random.default_rng(1)
    moved = dict(done.module.named_parameters())
    for name, parameter in start.named_parameters():
        direction = torch.tensor(rng.standard_normal(tuple(parameter.shape)))
        step = (parameter - moved[name]).detach()
        ends = []
        for size in (1e-6, -2e-6, 1e-6):
            with torch.no_grad():
                parameter += size * direction
            ends.append(objective(start))
        slope = (ends[0] - ends[1]) / 2e-6
        assert float((step * direction).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-7)
    assert done.loss_curve[0] == pytest.approx(values(start.to_feed_forward().outputs(X), y, loss, 0.4).mean())
    assert done.loss_curve[1] == pytest.approx(values(done.network.outputs(X), y, loss, 0.4).mean())


def test_it_learns_digits_and_what_is_certified_holds() -> None:
    data = load_digits()
    X, y = data.data / 16.0, data.target
    done = train_rr(
        (64, 24, 24, 10), X[:1000], y[:1000], epochs=20, weight_decay=1e-3, X_test=X[1000:], y_test=y[1000:]
    )
    assert done.test_accuracy is not None
    assert done.test_accuracy > 0.85
    predicted = done.network.outputs(X[1000:]).argmax(axis=1)
    assert done.test_accuracy == pytest.approx((predicted == y[1000:]).mean())
    assert len(done.loss_curve) == 21
    assert done.loss_curve[-1] < 0.3 * done.loss_curve[0]
    # the layers before the last are 1-Lipschitz
    last = np.linalg.norm(done.network.weights[-1], 2)
    assert all(np.linalg.norm(W, 2) <= 1.0 + 1e-9 for W in done.network.weights[:-1])
    assert done.lipschitz_bound <= last * (1.0 + 1e-6)
    certificate = certify(done.network)
    assert certificate.check(done.network)
    assert certificate.upper <= last * (1.0 + 1e-6)
    clean, near = certified_accuracy(done.network, X[1000:1200], y[1000:1200], [0.0, 0.1], certificate)
    assert 0.2 < near <= clean


def test_a_larger_decay_gives_a_smaller_bound() -> None:
    X, y = samples(60)
    bounds = [
        train_rr(SIZES, X, y, epochs=10, learning_rate=0.02, weight_decay=decay).lipschitz_bound
        for decay in (0.0, 0.03, 0.3)
    ]
    assert all(after < before for before, after in pairwise(bounds))


def test_the_seed_decides() -> None:
    X, y = samples(40)
    seen: list[int] = []
    one = train_rr(SIZES, X, y, epochs=3, batch_size=8, callback=lambda epoch, loss: seen.append(epoch))
    same = train_rr(SIZES, X, one_hot(y, 3), epochs=3, batch_size=8)
    other = train_rr(SIZES, X, y, epochs=3, batch_size=8, random_state=1)
    assert seen == [1, 2, 3]
    assert one.loss_curve == same.loss_curve
    assert all((a == b).all() for a, b in zip(one.network.weights, same.network.weights))
    assert one.loss_curve != other.loss_curve
    assert one.train_accuracy is not None
    assert one.test_accuracy is None
    assert one.settings["sizes"] == SIZES
    regression = train_rr(SIZES, X, np.random.default_rng(0).standard_normal((40, 3)), loss="squared", epochs=1)
    assert regression.train_accuracy is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sizes": (5, 3)}, "one hidden layer or more"),
        ({"sizes": (4, 6, 3)}, "5 columns"),
        ({"loss": "hinge"}, "loss must be one of 'squared', 'cross_entropy', 'margin'"),
        ({"optimizer": "lbfgs"}, "optimizer must be one of"),
        ({"schedule": "step"}, "schedule must be one of"),
        ({"dtype": "float16"}, "dtype must be one of"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"margin": 0.0}, "margin"),
        ({"beta": -1.0}, "beta"),
        ({"y": np.full(12, 3)}, "labels are whole numbers from 0 to 2"),
        ({"y": np.ones((12, 3))}, "the margin loss needs labels"),
        ({"y": np.ones((12, 3)), "loss": "cross_entropy"}, "rows of probabilities"),
        ({"X": np.zeros((0, 5)), "y": np.zeros((0, 3))}, "at least one is needed"),
        ({"X_test": np.zeros((3, 5))}, "both X_test and y_test"),
    ],
)
def test_bad_input(change: dict[str, Any], said: str) -> None:
    X, y = samples()
    given = {"sizes": SIZES, "X": X, "y": y, "epochs": 1} | change
    with pytest.raises(InvalidInputError, match=said):
        train_rr(**given)


def test_divergence_stops_with_advice() -> None:
    X, y = samples(40)
    with pytest.raises(SolverError, match="not finite after epoch"):
        train_rr(SIZES, X, y, loss="squared", optimizer="sgd", learning_rate=1e6, schedule="constant", epochs=100)
