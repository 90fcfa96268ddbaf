"""Learning on a PyTorch device against learning on the CPU; on a GPU too where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from certnet.core.errors import InvalidInputError, SolverError
from certnet.errors import NotConvergedWarning
from certnet.lifted import initial_network
from certnet.lifted.learn import Objective, Training, train
from certnet.lifted.loss_functions import CrossEntropy

torch = pytest.importorskip("torch", reason='PyTorch is not installed: pip install "certnet[torch]"')

from certnet.lifted.device_training_ import train_on_device  # noqa: E402

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]

CASES = {
    "contrastive": ("contrastive", [1.0, 1.0, 0.0], ["relu", "relu", "linear"]),
    "feed-forward energy": ("contrastive", [0.0, 0.0, 0.0], ["hard_sigmoid", "relu", "linear"]),
    "limited output": ("contrastive", [0.5, 1.0, 0.25], ["relu", "linear", "relu"]),
    "lifted": ("lifted", [1.0, 0.0, 0.0], ["relu", "relu", "linear"]),
    "unsupervised": ("unsupervised", [1.0, 1.0, 1.0], ["relu", "relu", "linear"]),
    "all linear": ("contrastive", [1.0, 1.0, 0.0], ["linear", "linear", "linear"]),
}


def data(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.random((n, 12))
    return X, np.eye(4)[(X @ rng.standard_normal((12, 4))).argmax(axis=1)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [60, 25])
def test_it_is_the_training_of_the_cpu(name: str, batch: int, device: str) -> None:
    kind, beta, units = CASES[name]
    net = initial_network((12, 10, 8, 4), beta=beta, gamma=0.25, units=units, random_state=1)
    X, y = data()
    how = Training(
        Objective(kind), learning_rate=0.02, batch_size=batch, max_epochs=4, weight_decay=1e-3, schedule="linear",
        warmup_epochs=1, tol=1e-10, max_passes=20_000,
    )  # fmt: skip
    targets = None if kind == "unsupervised" else y
    wanted = train(net, X, targets, how, random_state=3)
    found = train_on_device(net, X, targets, how, device=device, random_state=3)
    np.testing.assert_allclose(found.loss_curve, wanted.loss_curve, rtol=1e-6, atol=1e-9)
    for part in ("weights", "biases", "reconstruction_biases"):
        for a, b in zip(getattr(found.network, part), getattr(wanted.network, part), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-7)
    assert found.missed == 0
    assert not np.array_equal(found.network.weights[0], net.weights[0])


def test_single_precision_inputs_and_scores_and_biases_that_stay() -> None:
    net = initial_network((12, 10, 4), beta=[1.0, 0.0], gamma=0.25, units=["relu", "linear"], random_state=1)
    X, y = data()
    how = Training(learning_rate=0.05, batch_size=30, max_epochs=3, biases=False, tol=1e-9)
    found = train_on_device(net, X.astype(np.float32), y, how, device="cpu", score=lambda m: float(m.weights[0].sum()))
    wanted = train(net, X.astype(np.float32), y, how, random_state=0)
    np.testing.assert_allclose(found.loss_curve, wanted.loss_curve, rtol=1e-5)
    assert len(found.score_curve) == 3
    assert found.score_curve[-1] == pytest.approx(found.network.weights[0].sum())
    assert not np.any(found.network.biases[0])
    assert found.loss_curve[-1] < found.loss_curve[0]


@pytest.mark.parametrize(
    ("how", "named"),
    [
        (Training(optimizer="adam"), "optimizer 'adam'"),
        (Training(momentum=0.5), "momentum"),
        (Training(passes=20), "a number of passes"),
        (Training(warm_activations=True), "warm_activations"),
        (Training(Objective("semi_supervised")), "semi_supervised"),
        (Training(Objective(loss=CrossEntropy())), "the loss"),
    ],
)
def test_what_the_device_does_not_know_is_refused(how: Training, named: str) -> None:
    net = initial_network((12, 10, 4), beta=[1.0, 0.0], gamma=0.25, units=["relu", "linear"], random_state=1)
    with pytest.raises(InvalidInputError, match=f"{named}.*not on a device"):
        train_on_device(net, *data(), how, device="cpu")


def test_phases_that_are_not_solved_and_divergence_are_told() -> None:
    net = initial_network((12, 10, 4), beta=[1.0, 0.0], gamma=0.25, units=["relu", "linear"], random_state=1)
    how = Training(learning_rate=1e-3, batch_size=60, max_epochs=1, tol=1e-12, max_passes=1)
    with pytest.warns(NotConvergedWarning, match="phases of samples"):
        found = train_on_device(net, *data(), how, device="cpu")
    assert found.missed > 0
    with pytest.raises(SolverError, match="lower the learning rate"), np.errstate(all="ignore"):
        train_on_device(net, *data(), Training(learning_rate=1e9, batch_size=20, max_epochs=5), device="cpu")
