"""Lifted networks in PyTorch: the implicit layer, the back-propagation twin, regression/reconstruction layers."""

from __future__ import annotations

import copy
import importlib.util
import io
import os
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certnet import certify
from certnet.core.errors import InvalidInputError, MissingDependencyError, NotConvergedWarning, SolverError
from certnet.data import load_dataset
from certnet.lifted import LiftedNetwork, infer
from certnet.lifted.feed_forward import to_feed_forward
from certnet.lifted.limits import limit_gradient
from certnet.lifted.targets import one_hot
from certnet.networks.energy import LiftedEnergy
from certnet.programs.box_qp import BoxQP, posed
from certnet.solvers.box.active_set import finish

torch = pytest.importorskip("torch", reason='PyTorch is not installed: pip install "certnet[torch]"')

from certnet.lifted import rr_, torch_  # noqa: E402
from certnet.lifted.rr_ import rr_linear, rr_network  # noqa: E402
from certnet.lifted.torch_ import lifted_layer  # noqa: E402
from certnet.lifted.twin_ import train_twin  # noqa: E402

needs_data = pytest.mark.skipif("CERTNET_DATA_HOME" not in os.environ, reason="CERTNET_DATA_HOME is not set")


def network(
    widths: tuple[int, ...] = (4, 6, 5, 3), beta: Any = 1.0, units: Any = "relu", gamma: float = 0.5, seed: int = 0
) -> LiftedNetwork:
    rng = np.random.default_rng(seed)
    pairs = list(pairwise(widths))
    return LiftedNetwork(
        [1.3 * rng.normal(size=(m, n)) / np.sqrt(n) for n, m in pairs],
        [0.3 * rng.normal(size=m) for _, m in pairs],
        [0.3 * rng.normal(size=n) for n, _ in pairs],
        beta=beta,
        gamma=gamma,
        units=units,
    )


def samples(net: LiftedEnergy, N: int = 7, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, net.n_inputs)), rng.uniform(size=(N, net.n_outputs))


def servo() -> tuple[np.ndarray, np.ndarray]:
    data = load_dataset("servo")
    X, y = data.X_train, data.y_train[:, None]
    return (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()


def mnist(n: int) -> tuple[np.ndarray, np.ndarray]:
    with np.load(Path(os.environ["CERTNET_DATA_HOME"]) / "images" / "mnist.npz") as file:
        return file["x_train"][:n].reshape(n, -1) / 255.0, file["y_train"][:n].astype(int)


BANK = {
    "relu": network(),
    "no reconstruction": network(beta=0.0, gamma=0.1),
    "mixed": network(beta=[1.0, 0.0, 0.5], units=["hard_sigmoid", "relu", "linear"], gamma=3.0),
    "boxes": network(beta=[0.5, 1.0, 1.0], units=[(-0.5, 0.7), "linear", "hard_sigmoid"]),
    "one layer": network((4, 3), beta=0.7, units=["relu"]),
}


# --- the implicit layer -------------------------------------------------------------------------------------------


# 1e-13 is near rounding, and a residual of 1.0e-13 serves the differences as well
@pytest.mark.filterwarnings("ignore::certnet.core.errors.NotConvergedWarning")
@pytest.mark.parametrize("output", ["last", "all"])
@pytest.mark.parametrize("name", BANK)
def test_gradients_by_inputs_and_parameters_against_finite_differences(name: str, output: str) -> None:
    net = BANK[name]
    layer = lifted_layer(net, output=output, tol=1e-13)
    X = torch.tensor(samples(net, 3)[0], requires_grad=True)
    names, values = zip(*layer.named_parameters())

    def evaluate(x: Any, *parameters: Any) -> Any:
        return torch.func.functional_call(layer, dict(zip(names, parameters)), (x,))

    assert torch.autograd.gradcheck(evaluate, (X, *values), eps=1e-6, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", BANK)
def test_forward_is_inference(name: str) -> None:
    net = BANK[name]
    X, _ = samples(net)
    found = infer(net, X, tol=1e-10)
    np.testing.assert_allclose(lifted_layer(net)(torch.tensor(X)).detach(), found.output, atol=1e-8)
    np.testing.assert_allclose(lifted_layer(net, output="all")(torch.tensor(X)).detach(), found.stacked, atol=1e-8)


@pytest.mark.parametrize("solver", ["reference", "coordinate_descent"])
def test_any_solver_serves(solver: str) -> None:
    net = BANK["relu"]
    X = torch.tensor(samples(net)[0], requires_grad=True)
    lifted_layer(net, solver=solver, tol=1e-11)(X).square().sum().backward()
    z = infer(net, X.detach().numpy(), tol=1e-12)
    step = 1e-6 * np.eye(net.n_inputs)[0]
    ahead, behind = (
        (infer(net, X.detach().numpy() + s * step, tol=1e-12).output ** 2).sum(axis=1) for s in (1.0, -1.0)
    )
    np.testing.assert_allclose(X.grad[:, 0], (ahead - behind) / 2e-6, atol=1e-6)
    assert z.converged.all()


def test_leading_dimensions_types_and_input_gradients_of_that_type() -> None:
    net = BANK["relu"]
    X = torch.tensor(samples(net, 6)[0].reshape(2, 3, -1), dtype=torch.float32, requires_grad=True)
    out = lifted_layer(net)(X)
    assert out.shape == (2, 3, net.n_outputs)
    assert out.dtype == torch.float32
    out.sum().backward()
    assert X.grad.shape == X.shape
    assert X.grad.dtype == torch.float32
    assert lifted_layer(net)(X[:0]).shape == (0, 3, net.n_outputs)
    one = lifted_layer(net)(X[0, 0])
    torch.testing.assert_close(one, out[0, 0])
    half = lifted_layer(net).to(torch.float32)
    half(X).sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in half.parameters())


def test_the_layer_and_the_network_are_the_same_value() -> None:
    net = BANK["boxes"]
    layer = lifted_layer(net)
    assert isinstance(layer, torch_.LiftedLayer)
    assert layer.network() == net
    assert copy.deepcopy(layer).network() == net
    assert pickle.loads(pickle.dumps(layer)).network() == net
    assert "4-6-5-3" in repr(layer)
    with pytest.raises(AttributeError, match="Missing"):
        torch_.Missing  # noqa: B018


def test_a_state_dict_carries_the_whole_network() -> None:
    net, other = BANK["boxes"], network(beta=0.0, gamma=2.0, seed=5)
    file = io.BytesIO()
    torch.save(lifted_layer(net).state_dict(), file)
    file.seek(0)
    layer = lifted_layer(other)
    layer.load_state_dict(torch.load(file, weights_only=True))
    assert layer.network() == net
    small = lifted_layer(BANK["one layer"])
    with pytest.raises(InvalidInputError, match=r"layers of \[6, 5, 3\] units"):
        small.set_extra_state(layer.get_extra_state())


def test_energy_and_the_contrastive_loss() -> None:
    net = BANK["relu"]
    X, y = samples(net)
    layer = lifted_layer(net, tol=1e-11)
    tX, ty = torch.tensor(X, requires_grad=True), torch.tensor(y, requires_grad=True)
    free, clamped = infer(net, X, tol=1e-12), infer(net, X, clamp=y, tol=1e-12)
    np.testing.assert_allclose(layer.energy(tX).detach(), free.energy, rtol=1e-10)
    np.testing.assert_allclose(layer.energy(tX, clamp=ty).detach(), clamped.energy, rtol=1e-10)
    loss = (layer.energy(tX, clamp=ty) - layer.energy(tX)).mean()
    loss.backward()
    wanted = net.gradients(X, clamped.stacked) - net.gradients(X, free.stacked)
    groups = (layer.weights, layer.biases, layer.reconstruction_biases)
    for parameters, gradients in zip(groups, wanted.groups):
        for p, g in zip(parameters, gradients):
            np.testing.assert_allclose(p.grad, g, atol=1e-9)
    step = 1e-5 * np.eye(net.n_outputs)[0]
    ahead, behind = (infer(net, X, clamp=y + s * step, tol=1e-12).energy for s in (1.0, -1.0))
    np.testing.assert_allclose(ty.grad[:, 0] * len(X), (ahead - behind) / 2e-5, atol=1e-6)


def test_the_loss_augmented_energy_differs_by_the_implicit_gradient() -> None:
    """Z (17), (18): ∇(min E + w ½‖z_L − y‖² − min E) / w → ∇ ½‖z_L* − y‖², linearly in w, at a fixed γ."""
    net = BANK["relu"]
    X, y = samples(net)
    layer = lifted_layer(net, tol=1e-13)
    (0.5 * (layer(torch.tensor(X)) - torch.tensor(y)).square().sum() / len(X)).backward()
    problem, q = posed(net, X)
    free = finish(problem, q, net.feed_forward(X), 1e-14)
    last = net.layers[-1]
    errors = []
    for weight in (1e-2, 1e-3, 1e-4):
        H, target = problem.H.copy(), q.copy()
        H[last, last] += weight * np.eye(net.n_outputs)
        target[:, last] += weight * y
        pulled = finish(BoxQP(H, problem.lower, problem.upper, problem.layers), target, free, 1e-14)
        found = net.gradients(X, pulled) - net.gradients(X, free)
        errors.append(
            max(np.abs(g / weight - p.grad.numpy()).max() for g, p in zip(found.weights, layer.weights))
            / max(float(p.grad.abs().max()) for p in layer.weights)
        )
    assert errors[0] < 0.1
    np.testing.assert_allclose(np.log10(np.array(errors[:-1]) / errors[1:]), 1.0, atol=0.1)


@needs_data
def test_an_optimiser_of_torch_trains_the_layer_on_real_data() -> None:
    X, y = map(torch.tensor, servo())
    layer = lifted_layer(network((4, 16, 1), beta=[1.0, 0.0], gamma=0.25), tol=1e-8)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.03)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = (layer(X) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.35 * losses[0]
    np.testing.assert_allclose(layer.network().predict(X.numpy(), tol=1e-9), layer(X).detach()[:, 0], atol=1e-6)


def test_samples_that_miss_the_tolerance_are_told() -> None:
    layer = lifted_layer(BANK["relu"], tol=1e-40)
    with pytest.warns(NotConvergedWarning, match=r"samples missed tol=1e-40 \(sample 0: residual"):
        layer(torch.tensor(samples(BANK["relu"])[0]))


def test_bad_input_of_the_layer() -> None:
    net = BANK["relu"]
    with pytest.raises(InvalidInputError, match="output must be one of 'last', 'all', got 'first'"):
        lifted_layer(net, output="first")
    layer = lifted_layer(net)
    with pytest.raises(InvalidInputError, match="X has 3 columns, the network has 4 inputs"):
        layer(torch.zeros(2, 3))
    with pytest.raises(InvalidInputError, match="X is a single number"):
        layer(torch.tensor(1.0))
    with pytest.raises(InvalidInputError, match="NaN"):
        layer(torch.full((2, 4), torch.nan))
    with pytest.raises(InvalidInputError, match="clamp has shape"):
        layer.energy(torch.zeros(2, 4), clamp=torch.zeros(2, 2))
    with pytest.raises(InvalidInputError, match="there is no solver 'magic'"):
        lifted_layer(net, solver="magic")
    with pytest.raises(InvalidInputError, match="tol must be a finite positive number"):
        lifted_layer(net, tol=0.0)
    with pytest.raises(InvalidInputError, match="net is of type NoneType"):
        lifted_layer(None)  # type: ignore[arg-type]
    for dtype in (torch.int64, torch.bool):
        with pytest.raises(InvalidInputError, match=f"X has dtype {dtype}: floating-point numbers are needed"):
            layer(torch.ones(2, 4, dtype=dtype))
    with pytest.raises(InvalidInputError, match="X is of type ndarray: a tensor is needed"):
        layer(np.zeros((2, 4)))


@pytest.mark.parametrize("make", [lambda: lifted_layer(BANK["relu"]), lambda: rr_linear(2, 3), torch_.import_torch])
def test_without_torch_the_extra_is_named(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_._layer_class.cache_clear()
    rr_._classes.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"certnet\[torch\]"):
        make()


# --- the back-propagation twin ------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", ["relu", ["hard_sigmoid", "linear", "linear"], [(-0.3, 0.4), "relu", "linear"]])
def test_a_full_batch_step_is_the_gradient_step(units: Any) -> None:
    net = network(beta=0.0, units=units)
    X, y = samples(net, 30)
    twin = train_twin(net, X, y, epochs=1, batch_size=30, learning_rate=0.1, dtype="float64", device="cpu")
    slope = limit_gradient(net, X, y)
    for after, before, g in zip(twin.network.weights, net.weights, slope.weights):
        np.testing.assert_allclose(after, before - 0.1 * g, atol=1e-13)
    for after, before, g in zip(twin.network.biases, net.biases, slope.biases):
        np.testing.assert_allclose(after, before - 0.1 * g, atol=1e-13)
    start = 0.5 * ((net.feed_forward(X)[:, net.layers[-1]] - y) ** 2).sum() / 30
    end = 0.5 * ((twin.network.feed_forward(X)[:, net.layers[-1]] - y) ** 2).sum() / 30
    np.testing.assert_allclose(twin.loss_curve, [start, end], rtol=1e-12)
    assert twin.network.beta == net.beta
    assert twin.train_accuracy is None


def test_cross_entropy_of_labels_one_hot_rows_and_probabilities() -> None:
    net = network(beta=0.0)
    X, p = samples(net, 40)
    labels = p.argmax(axis=1)
    runs = [train_twin(net, X, y, loss="cross_entropy", epochs=2) for y in (labels, one_hot(labels, 3))]
    assert runs[0].network == runs[1].network
    z = net.feed_forward(X)[:, net.layers[-1]]
    log_softmax = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(runs[0].loss_curve[0], -log_softmax[np.arange(40), labels].mean(), rtol=1e-6)
    assert runs[0].loss_curve[-1] < runs[0].loss_curve[0]
    soft = train_twin(net, X, p / p.sum(axis=1, keepdims=True), loss="cross_entropy", epochs=1)
    assert soft.train_accuracy is None


def test_seeds_and_settings() -> None:
    net = network(beta=0.0)
    X, y = samples(net, 60)
    seen: list[int] = []
    one = train_twin(net, X, y, epochs=3, batch_size=8, callback=lambda epoch, loss: seen.append(epoch))
    again, other = (train_twin(net, X, y, epochs=3, batch_size=8, random_state=s) for s in (0, 1))
    assert seen == [1, 2, 3]
    assert one.network == again.network
    assert one.loss_curve == again.loss_curve
    assert one.network != other.network
    assert len(one.loss_curve) == 4
    assert one.settings["learning_rate"] == 0.05
    assert one.settings["dtype"] == "float32"
    assert {"torch", "certnet"} <= set(one.versions)
    np.testing.assert_allclose(one.feed_forward().forward(X), one.network.feed_forward(X)[:, net.layers[-1]])


@needs_data
def test_the_twin_learns_digits() -> None:
    X, y = mnist(4000)
    net = network((784, 32, 32, 10), beta=0.0)
    twin = train_twin(net, X[:3000], y[:3000], epochs=8, X_test=X[3000:], y_test=y[3000:])
    assert twin.train_accuracy is not None
    assert twin.test_accuracy is not None
    assert twin.train_accuracy > twin.test_accuracy > 0.8
    outputs = to_feed_forward(twin.network).forward(X[3000:])
    assert twin.test_accuracy == (outputs.argmax(axis=1) == y[3000:]).mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of 'squared', 'cross_entropy'"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate must be a finite positive number"),
        ({"X_test": np.zeros((1, 4))}, "test data need both"),
        ({"y": np.full(7, 3)}, r"y\[0\] is 3: labels are whole numbers from 0 to 2"),
        ({"y": np.full(7, 0.5)}, r"y\[0\] is 0.5: labels are whole numbers"),
        ({"y": np.zeros((7, 2))}, "y has 2 columns, the network has 3"),
        ({"y": np.zeros((6, 3))}, "X has 7 samples and y has 6"),
        ({"y": np.full((7, 3), 0.5), "loss": "cross_entropy"}, "rows of probabilities"),
        ({"X": np.zeros((0, 4)), "y": np.zeros((0, 3))}, "at least one is needed"),
    ],
)
def test_bad_input_of_the_twin(change: dict[str, Any], message: str) -> None:
    net = network(beta=0.0)
    X, y = samples(net)
    with pytest.raises(InvalidInputError, match=message):
        train_twin(net, **({"X": X, "y": y, "epochs": 1} | change))


def test_a_diverging_twin_stops_with_advice() -> None:
    net = network(beta=0.0, units=["linear"] * 3)
    X, y = samples(net, 40)
    with pytest.raises(SolverError, match=r"not finite after epoch \d+ of 100: use a learning rate below 50"):
        train_twin(net, X, y, learning_rate=50.0, batch_size=5)


# --- regression/reconstruction layers -----------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(5, 3), (3, 5), (4, 4)])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0, 4.0])
def test_singular_values_of_a_layer(n: int, m: int, beta: float) -> None:
    layer = rr_linear(n, m, beta=beta, random_state=3)
    with torch.no_grad():
        layer.weight *= torch.tensor(np.logspace(-2, 2, m)[:, None])
        layer.bias += 1.0
    W, A = layer.weight.detach().numpy(), layer.matrix().detach().numpy()
    s = np.linalg.svd(W, compute_uv=False)
    wanted = np.sort((1 + beta) * s / (1 + beta * s**2))
    np.testing.assert_allclose(np.sort(np.linalg.svd(A, compute_uv=False)), wanted, rtol=1e-9, atol=1e-13)
    assert layer.lipschitz_bound() == pytest.approx(wanted.max(), rel=1e-12)
    if beta == 1.0:
        assert layer.lipschitz_bound() <= 1.0
    X = np.random.default_rng(0).normal(size=(2, 6, n))
    np.testing.assert_allclose(layer(torch.tensor(X)).detach(), X @ A.T + 1.0, rtol=1e-9, atol=1e-9)
    # the minimiser of the layer's energy, by inference
    z = infer(LiftedEnergy([W], beta=beta, units=["linear"]), X[0], solver="reference", tol=1e-12)
    if np.linalg.cond(np.eye(m) + beta * W @ W.T) < 1e4:
        np.testing.assert_allclose(z.output, X[0] @ A.T, atol=1e-6)


@pytest.mark.parametrize(("n", "m"), [(4, 3), (3, 4)])
def test_gradients_of_a_layer(n: int, m: int) -> None:
    layer = rr_linear(n, m, beta=0.7)
    names, values = zip(*layer.named_parameters())
    X = torch.tensor(np.random.default_rng(0).normal(size=(5, n)), requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, *p: torch.func.functional_call(layer, dict(zip(names, p)), (x,)), (X, *values)
    )
    assert torch.autograd.gradcheck(lambda *p: torch.func.functional_call(Matrix(layer), wrapped(names, p), ()), values)


class Matrix(torch.nn.Module):
    """The map of a layer as the value of a module."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Any:
        return self.layer.matrix()


def wrapped(names: tuple[str, ...], values: tuple[Any, ...]) -> dict[str, Any]:
    return {f"layer.{name}": value for name, value in zip(names, values)}


@pytest.mark.parametrize("beta", [1.0, 0.25])
def test_a_network_exported_and_certified(beta: float) -> None:
    module = rr_network([4, 12, 8, 2], beta=beta, random_state=1)
    net = module.to_feed_forward()
    X = np.random.default_rng(0).normal(size=(200, 4))
    np.testing.assert_allclose(module(torch.tensor(X)).detach(), net.forward(X), atol=1e-12)
    claimed = module.lipschitz_bound()
    last = np.linalg.norm(module.last.weight.detach().numpy(), 2)
    assert claimed <= last * (0.5 * (beta**0.5 + beta**-0.5)) ** 2 * (1.0 + 1e-12)
    certificate = certify(net)
    assert certificate.check(net)
    assert certificate.upper <= claimed * (1.0 + 1e-6)
    steps = np.random.default_rng(1).normal(size=(200, 4))
    slopes = np.linalg.norm(net.forward(X + steps) - net.forward(X), axis=1) / np.linalg.norm(steps, axis=1)
    assert slopes.max() <= claimed


def test_float32_weights_are_exported_in_float64() -> None:
    module = rr_network([4, 6, 1], dtype="float32")
    X = np.random.default_rng(0).normal(size=(50, 4))
    out = module(torch.tensor(X, dtype=torch.float32))
    assert out.dtype == torch.float32
    net = module.to_feed_forward()
    np.testing.assert_allclose(net.forward(X), out.detach(), atol=1e-5)
    W = module.layers[0].weight.detach().double().numpy()
    np.testing.assert_allclose(net.weights[0], 2.0 * np.linalg.solve(np.eye(6) + W @ W.T, W), rtol=1e-12)


def test_networks_are_seeded_and_can_be_copied() -> None:
    one, again, other = (rr_network([3, 5, 4, 2], random_state=s) for s in (0, 0, 1))
    assert one.to_feed_forward() == again.to_feed_forward() != other.to_feed_forward()
    assert not torch.equal(one.layers[0].weight[:4, :3], one.layers[1].weight[:4, :3])
    assert pickle.loads(pickle.dumps(one)).to_feed_forward() == one.to_feed_forward()
    assert isinstance(one, rr_.RRNetwork)
    assert isinstance(one.layers[0], rr_.RRLinear)
    other.load_state_dict(one.state_dict())
    assert other.to_feed_forward() == one.to_feed_forward()
    assert "in_features=3, out_features=5, beta=1" in repr(one)
    with pytest.raises(AttributeError, match="Missing"):
        rr_.Missing  # noqa: B018


@needs_data
def test_a_network_of_rr_layers_learns_real_data_and_stays_within_its_bound() -> None:
    X, y = map(torch.tensor, servo())
    module = rr_network([4, 24, 24, 1])
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = (module(X) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    net = module.to_feed_forward()
    J = net.gradients(X.numpy())
    assert np.linalg.norm(J, ord=2, axis=(1, 2)).max() <= module.lipschitz_bound()
    assert module.lipschitz_bound() <= np.linalg.norm(net.weights[-1], 2) * (1 + 1e-12)


def test_bad_input_of_rr_layers() -> None:
    with pytest.raises(InvalidInputError, match="beta must be a finite non-negative number"):
        rr_linear(2, 3, beta=-1.0)
    with pytest.raises(InvalidInputError, match="in_features must be at least 1"):
        rr_linear(0, 3)
    with pytest.raises(InvalidInputError, match="dtype must be 'float64' or 'float32'"):
        rr_linear(2, 3, dtype="int64")
    with pytest.raises(InvalidInputError, match="one hidden layer or more"):
        rr_network([2, 3])
    with pytest.raises(InvalidInputError, match=r"sizes\[1\] must be at least 1"):
        rr_network([2, 0, 1])
    with pytest.raises(InvalidInputError, match=r"dtype torch.float32: \(…, 2\) and torch.float64 are needed"):
        rr_network([2, 3, 1])(torch.zeros(5, 2))
    with pytest.raises(InvalidInputError, match=r"X has shape \(5, 3\)"):
        rr_network([2, 3, 1])(torch.zeros(5, 3, dtype=torch.float64))


@pytest.mark.parametrize("of", ["energy", "output", "squared energy"])
def test_a_second_derivative_is_an_error(of: str) -> None:
    layer = lifted_layer(BANK["relu"])
    X = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    value = {"energy": layer.energy(X).sum(), "output": (layer(X) ** 2).sum(), "squared energy": (layer.energy(X) ** 2)}
    (slope,) = torch.autograd.grad(value[of].sum(), X, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        (slope**2).sum().backward()
