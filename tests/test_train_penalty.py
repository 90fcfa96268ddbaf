"""The penalty on an estimate of LipSDP's ρ, what trains with it, and certified radii of classifiers."""

from __future__ import annotations

import importlib.util
import math
import pickle
from itertools import pairwise

import numpy as np
import pytest

import certnet
from certnet import FeedForward, ShallowNetwork
from certnet.errors import (
    CertificateError,
    InvalidInputError,
    MissingDependencyError,
    SolverError,
    UnsupportedModelError,
)
from certnet.robust import certified_accuracy, certified_radius
from certnet.searches.vectors import search_vectors
from certnet.train import LipschitzPenalty, lipschitz_estimate, train_classifier

torch = pytest.importorskip("torch", reason="the penalty is for PyTorch")
nn = torch.nn


def chain(*widths, activation=nn.ReLU, seed=0, dtype=torch.float64):
    """A Sequential of seeded weights, made without PyTorch's own generator."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for n, m in pairwise(widths):
        layer = nn.utils.skip_init(nn.Linear, n, m, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(torch.randn((m, n), generator=generator, dtype=torch.float64) / n**0.5)
            layer.bias.copy_(0.1 * torch.randn(m, generator=generator, dtype=torch.float64))
        parts += [layer, activation()]
    return nn.Sequential(*parts[:-1])


def linears(module):
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def blobs(n=400, seed=0):
    """Three classes in the plane, apart from each other."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    centres = np.array([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])
    return centres[y] + 0.3 * rng.normal(size=(n, 2)), y


# -------------------------------------------------------------------------------------------------------- the estimate


@pytest.mark.parametrize(
    "activation",
    [
        nn.ReLU,
        nn.Tanh,
        nn.GELU,
        nn.Sigmoid,
        lambda: nn.LeakyReLU(0.3),
        lambda: nn.ELU(1.5),
        lambda: nn.Hardtanh(-0.5, 2.0),
    ],
)
@pytest.mark.parametrize("widths", [(6, 9, 4), (12, 20, 15, 3), (4, 8, 8, 8, 1)])
def test_the_estimate_rises_to_the_bound_that_certify_proves_and_not_above(activation, widths):
    module = chain(*widths, activation=activation, seed=len(widths))
    upper = certnet.certify(certnet.from_torch(module)).upper
    penalty = LipschitzPenalty(module, columns=12)
    values = []
    for _ in range(60):
        values.append(penalty().item())
        penalty.step(20)
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(values))
    assert values[-1] <= upper**2 * (1 + 1e-12)
    assert values[-1] >= upper**2 * (1 - 1e-3)


def test_the_numpy_search_finds_the_same():
    module = chain(10, 30, 20, 5)
    found = search_vectors(certnet.from_torch(module), tol=1e-8)
    assert lipschitz_estimate(module, steps=3000).item() == pytest.approx(found.upper, rel=1e-5)
    assert lipschitz_estimate(module, steps=3000).item() <= certnet.certify(certnet.from_torch(module)).upper


def test_one_linear_layer_is_its_spectral_norm():
    module = nn.Sequential(chain(7, 5))
    norm = np.linalg.norm(module[0][0].weight.detach().numpy(), 2)
    assert lipschitz_estimate(module, steps=2000).item() == pytest.approx(norm, rel=1e-9)


def test_linear_layers_in_a_row_are_one():
    twice, generator = chain(6, 8, 4), torch.Generator().manual_seed(1)
    first, _, last = twice
    middle = nn.utils.skip_init(nn.Linear, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        middle.weight.copy_(torch.randn((8, 8), generator=generator, dtype=torch.float64))
        merged = nn.utils.skip_init(nn.Linear, 6, 8, dtype=torch.float64)
        merged.weight.copy_(middle.weight @ first.weight)
    a = lipschitz_estimate(nn.Sequential(first, middle, nn.ReLU(), last), steps=2000).item()
    assert a == pytest.approx(lipschitz_estimate(nn.Sequential(merged, nn.ReLU(), last), steps=2000).item(), rel=1e-6)


def test_differences_bound_every_margin_and_never_exceed_the_whole():
    module = chain(8, 16, 12, 4)
    whole = lipschitz_estimate(module, steps=2000).item()
    centred = lipschitz_estimate(module, steps=2000, differences=True).item()
    assert centred <= whole * (1 + 1e-9)
    proofs = certnet.certify_outputs(certnet.from_torch(module), differences=True)
    assert max(proof.upper for proof in proofs.values()) <= math.sqrt(2.0) * centred * (1 + 1e-4)
    with torch.no_grad():  # what all outputs share is no difference
        linears(module)[-1].weight.add_(torch.randn(12, generator=torch.Generator().manual_seed(3)).double())
    assert lipschitz_estimate(module, steps=2000, differences=True).item() == pytest.approx(centred, rel=1e-5)


def test_layers_that_change_nothing_are_passed_over():
    module = chain(6, 10, 3)
    first, bend, last = module
    other = nn.Sequential(nn.Flatten(), nn.Sequential(first, nn.Identity(), bend), nn.Dropout(0.5), last)
    assert other.training
    assert LipschitzPenalty(other)().item() == LipschitzPenalty(module)().item()


# -------------------------------------------------------------------------------------------------------- the gradient


@pytest.mark.parametrize(
    ("activation", "differences"), [(nn.ReLU, False), (nn.ReLU, True), (lambda: nn.LeakyReLU(0.2), False)]
)
def test_the_gradient_is_that_of_rho_where_the_vectors_are_the_best(activation, differences):
    module = chain(5, 6, 6, 3, activation=activation, seed=2)
    penalty = LipschitzPenalty(module, differences=differences)
    penalty.step(3000)
    penalty().backward()
    for layer in linears(module):
        for index in [(0, 0), (2, 1)]:
            h, sides = 1e-4, []
            for sign in (1.0, -1.0):
                with torch.no_grad():
                    layer.weight[index] += sign * h
                    penalty.step(300)  # the best vectors of these weights
                    sides.append(penalty().item())
                    layer.weight[index] -= sign * h
            expected = (sides[0] - sides[1]) / (2 * h)
            assert layer.weight.grad[index].item() == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_the_gradient_for_fixed_vectors_is_exact_anywhere():
    """Homogeneous of degree two in each layer's weights: ``<dρ̂/dB_k, B_k> = 2 ρ̂`` for every k."""
    module = chain(7, 11, 9, 4, activation=nn.Softsign, seed=5)
    penalty = LipschitzPenalty(module, columns=3)
    rho = penalty()
    rho.backward()
    for layer in linears(module):
        assert (layer.weight.grad * layer.weight).sum().item() == pytest.approx(2.0 * rho.item(), rel=1e-12)
        assert layer.bias.grad is None


def test_the_gradient_is_scaled_and_skips_what_is_frozen():
    module = chain(5, 6, 2)
    frozen, free = linears(module)
    frozen.weight.requires_grad_(False)
    LipschitzPenalty(module)().backward()
    once = free.weight.grad.clone()
    free.weight.grad = None
    (3.0 * LipschitzPenalty(module)()).backward()
    assert frozen.weight.grad is None
    torch.testing.assert_close(free.weight.grad, 3.0 * once)


def test_there_is_no_second_derivative():
    module = chain(4, 5, 2)
    weight = linears(module)[0].weight
    (slope,) = torch.autograd.grad(LipschitzPenalty(module)(), weight, create_graph=True)
    with pytest.raises(RuntimeError):
        slope.sum().backward()


def test_descent_on_it_lowers_the_certified_bound():
    module = chain(6, 12, 12, 3)
    before = certnet.certify(certnet.from_torch(module)).upper
    penalty = LipschitzPenalty(module)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.02)
    for _ in range(50):
        optimiser.zero_grad()
        penalty().backward()
        optimiser.step()
    after = certnet.certify(certnet.from_torch(module)).upper
    assert after < 0.5 * before
    # warm vectors keep up with weights that move
    assert 0.9 * after**2 <= penalty().item() <= after**2 * (1 + 1e-12)


# ------------------------------------------------------------------------------------------------------------- manners


def test_neither_the_module_nor_the_random_state_is_touched():
    module = chain(5, 7, 3)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    penalty = LipschitzPenalty(module)
    penalty()
    lipschitz_estimate(module, steps=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert module.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert module.training


def test_seeds_repeat():
    module = chain(5, 7, 3)
    values = [[LipschitzPenalty(module, seed=seed)().item() for _ in range(2)] for seed in (0, 1)]
    assert values[0][0] == values[0][1] != values[1][0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_types_of_weights(dtype):
    module = chain(6, 9, 3, dtype=dtype)
    value = LipschitzPenalty(module)()
    value.backward()
    assert value.dtype == torch.float32
    exact = LipschitzPenalty(chain(6, 9, 3))().item()
    assert value.item() == pytest.approx(exact, rel=0.05)
    assert linears(module)[0].weight.grad.dtype == dtype


def test_the_vectors_follow_the_type_of_the_weights_and_autocast_is_left_out():
    module = chain(6, 9, 3)
    penalty = LipschitzPenalty(module)
    exact = penalty().item()
    module.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = penalty()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact, rel=1e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_vectors_follow_the_module_to_a_gpu():
    module = chain(6, 9, 3)
    penalty = LipschitzPenalty(module)
    exact = penalty().item()
    value = LipschitzPenalty(module.cuda())()
    value.backward()
    assert value.item() == pytest.approx(exact, rel=1e-9)
    assert penalty().is_cuda


@pytest.mark.parametrize("which", [0, 1, 2])
def test_layers_of_zeros_do_not_catch_the_vectors(which):
    module = chain(5, 6, 6, 2)
    kept = linears(module)[which].weight.detach().clone()
    penalty = LipschitzPenalty(module)
    with torch.no_grad():
        linears(module)[which].weight.zero_()
    value = penalty()
    value.backward()
    assert value.item() == 0.0
    assert all(torch.isfinite(layer.weight.grad).all() for layer in linears(module))
    with torch.no_grad():
        linears(module)[which].weight.copy_(kept)
    penalty.step(1000)
    assert penalty().item() == pytest.approx(certnet.certify(certnet.from_torch(module)).rho, rel=1e-3)


def test_parametrised_layers_train_through_their_parameters():
    module = chain(5, 7, 3)
    plain = LipschitzPenalty(module)().item()
    nn.utils.parametrizations.weight_norm(module[0])
    value = LipschitzPenalty(module)()
    value.backward()
    assert value.item() == pytest.approx(plain, rel=1e-9)
    assert all(p.grad is not None for name, p in module[0].named_parameters() if "weight" in name)


def hooked():
    module = chain(4, 5, 2)
    module[0].register_forward_hook(lambda *_: None)
    return module


class Own(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Linear(4, 2)), "Conv2d"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)), "BatchNorm1d"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.PReLU(), nn.Linear(3, 2)), "PReLU"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Tanh(), nn.Linear(3, 2)), "behind another activation"),
        (lambda: nn.Sequential(nn.ReLU(), nn.Linear(3, 2)), "before the first linear layer"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "ends with an activation"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1)), "Softmax"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(4, 2)), "do not chain"),
        (lambda: nn.Sequential(nn.Flatten()), "no linear layer"),
        (Own, "shares their weights"),
        (hooked, "hooks"),
        (lambda: "a model", "got str"),
    ],
)
def test_what_is_not_read_is_refused_by_name(make, words):
    with pytest.raises(UnsupportedModelError, match=words):
        LipschitzPenalty(make())


@pytest.mark.parametrize("options", [{"columns": 0}, {"columns": 1.5}, {"seed": -1}, {"seed": "x"}])
def test_bad_options(options):
    with pytest.raises(InvalidInputError):
        LipschitzPenalty(chain(3, 4, 2), **options)


def test_without_torch_the_extra_is_named(monkeypatch):
    module = chain(3, 4, 2)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else find(name, *a))
    for call in (LipschitzPenalty, lipschitz_estimate):
        with pytest.raises(MissingDependencyError, match=r"certnet\[torch\]"):
            call(module)
    with pytest.raises(MissingDependencyError, match=r"certnet\[torch\]"):
        train_classifier([[0.0], [1.0]], [0, 1])


# ---------------------------------------------------------------------------------------------------------- the recipe

FAST = {"hidden": (16, 16), "epochs": 30, "batch_size": 32, "learning_rate": 0.01}


def test_the_penalty_trades_fit_for_a_certified_slope():
    X, y = blobs()
    bounds, accuracy = [], []
    for penalty in (0.0, 0.003, 0.1):
        done = train_classifier(X, y, penalty=penalty, **FAST)
        assert isinstance(done.network, FeedForward)
        bounds.append(certnet.certify(done.network).upper)
        accuracy.append(done.history["accuracy"][-1])
    assert bounds[0] > 1.5 * bounds[1] > 1.5**2 * bounds[2]
    assert min(accuracy) > 0.97


def test_the_radius_is_what_margins_are_trained_for():
    X, y = blobs()
    certified = []
    for radius in (0.0, 1.0):
        done = train_classifier(X, y, penalty=0.0, radius=radius, **FAST)
        certified.append(certified_accuracy(done.network, X, y, [1.0])[0])
    assert certified[1] > certified[0] + 0.2


def test_what_the_result_says():
    X, y = blobs(100)
    done = train_classifier(X, y, (8,), epochs=3, X_val=X[:20], y_val=y[:20])
    assert isinstance(done.network, ShallowNetwork)
    assert len(done.loss_curve) == len(done.validation_curve) == 4
    assert set(done.history) == {"accuracy", "validation_accuracy", "slope_estimate"}
    assert done.history["accuracy"][-1] == np.mean(np.argmax(done.network.forward(X), axis=1) == y)
    assert done.settings["penalty"] == 3e-3
    assert pickle.loads(pickle.dumps(done)).network == done.network
    upper = max(c.upper for c in certnet.certify_outputs(done.network, differences=True).values())
    assert upper <= math.sqrt(2.0) * 1.1 * done.history["slope_estimate"][-1]
    plain = train_classifier(X, y, (8,), epochs=1, penalty=0.0, weight_decay=0.01)
    assert set(plain.history) == {"accuracy"}


def test_a_seed_decides_and_pytorchs_own_state_is_left_alone():
    X, y = blobs(100)
    state = torch.get_rng_state()
    runs = [train_classifier(X, y, (8,), epochs=2, random_state=seed).network for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"penalty": -1.0}, "penalty"),
        ({"radius": np.nan}, "radius"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"hidden": ()}, "hidden"),
        ({"epochs": 0}, "epochs"),
        ({"columns": 0}, "columns"),
        ({"device": "nowhere"}, "device"),
        ({"y": [0, 1, 2]}, "samples"),
        ({"y": [0.5, 1.0]}, "classes"),
        ({"y": [0, -1]}, "classes"),
        ({"y": [0, 0]}, "one class"),
        ({"X": np.zeros((2, 0))}, "at least one"),
        ({"X_val": [[0.0, 0.0]]}, "both"),
        ({"X_val": [[0.0, 0.0]], "y_val": [5]}, "class 5"),
        ({"X_val": [[0.0]], "y_val": [0]}, "columns"),
    ],
)
def test_bad_arguments_of_the_recipe(change, words):
    given = {"X": [[0.0, 1.0], [1.0, 0.0]], "y": [0, 1], "hidden": (4,), "epochs": 1} | change
    with pytest.raises(InvalidInputError, match=words):
        train_classifier(**given)


def test_divergence_is_told():
    X, y = blobs(50)
    with pytest.raises(SolverError, match="learning rate"):
        train_classifier(1e30 * X, y, (8,), epochs=3, learning_rate=1e10)


# ----------------------------------------------------------------------------------------------------- certified radii


def classifier(seed=0, activation="relu"):
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=(9, 3)), rng.normal(size=(8, 9)) / 3, rng.normal(size=(4, 8)) / 3]
    return FeedForward(weights, [rng.normal(size=n) / 2 for n in (9, 8, 4)], activation), rng.normal(size=(60, 3))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_no_random_or_chosen_perturbation_within_the_radius_changes_the_class(activation):
    net, X = classifier(activation=activation)
    found = certified_radius(net, X)
    assert (found.radius > 0).all()
    assert np.array_equal(found.predicted, np.argmax(net.forward(X), axis=1))
    rng = np.random.default_rng(1)
    for x, i, r in zip(X, found.predicted, found.radius):
        directions = rng.normal(size=(300, 3))
        moved = x + r * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        assert (np.argmax(net.forward(moved), axis=1) == i).all()


def test_radii_by_the_formula_and_of_the_whole():
    net, X = classifier(2)
    proofs = certnet.certify_outputs(net, differences=True)
    found = certified_radius(net, X, proofs)
    outputs = net.forward(X)
    for f, i, r in zip(outputs, found.predicted, found.radius):
        expected = min((f[i] - f[j]) / proofs[min(i, j), max(i, j)].upper for j in range(4) if j != i)
        assert r == pytest.approx(expected, rel=1e-9)
    whole = certnet.certify(net)
    coarse = certified_radius(net, X, whole)
    assert (coarse.radius <= found.radius * (1 + 1e-6)).all()
    assert coarse.radius == pytest.approx(coarse.margin / (math.sqrt(2.0) * whole.upper), rel=1e-9)


def test_certified_accuracy_counts_right_samples_of_that_radius():
    net, X = classifier(3)
    proofs = certnet.certify_outputs(net, differences=True)
    found = certified_radius(net, X, proofs)
    y = np.where(np.arange(60) % 3 == 0, (found.predicted + 1) % 4, found.predicted)
    radii = [0.0, float(np.median(found.radius)), float(found.radius.max()), 1e9]
    share = certified_accuracy(net, X, y, radii, proofs)
    for value, radius in zip(share, radii):
        assert value == np.mean((found.predicted == y) & (found.radius >= radius))
    assert share[0] == pytest.approx(2 / 3)
    assert share[-1] == 0.0


def test_a_network_that_does_not_move_is_certain_everywhere():
    net = ShallowNetwork(np.zeros((2, 2)), [1.0, 1.0], [[1.0, 0.0], [0.0, 0.5]], [0.0, 0.0])
    assert certified_accuracy(net, [[0.0, 0.0]], [0], [1e6])[0] == 1.0
    tie = ShallowNetwork(np.zeros((2, 2)), [1.0, 1.0], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    assert certified_radius(tie, [[0.0, 0.0]]).radius[0] == 0.0
    assert certified_accuracy(tie, [[0.0, 0.0]], [0], [0.0])[0] == 0.0


def test_certificates_of_something_else_are_refused():
    net, X = classifier(4)
    proofs = certnet.certify_outputs(net, differences=True)
    other, _ = classifier(5)
    with pytest.raises(CertificateError, match="another network"):
        certified_radius(other, X, proofs)
    wrong = [
        {key: proofs[key] for key in list(proofs)[1:]},
        dict.fromkeys(proofs, proofs[0, 1]),
        certnet.certify(net, output=1),
        "neuron",
    ]
    for given in wrong:
        with pytest.raises(InvalidInputError):
            certified_radius(net, X, given)
    shallow = ShallowNetwork([[1.0], [2.0]], [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    local = certnet.certify(shallow, around=[0.0], radius=0.1)
    with pytest.raises(InvalidInputError, match="all inputs"):
        certified_radius(shallow, [[0.0]], local)
    with pytest.raises(InvalidInputError, match="one output"):
        certified_radius(ShallowNetwork([[1.0]], [0.0], [1.0], 0.0), [[1.0]])
    with pytest.raises(InvalidInputError, match="columns"):
        certified_radius(net, X[:, :2], proofs)
    with pytest.raises(InvalidInputError, match="samples"):
        certified_accuracy(net, X, [0, 1], [0.1], proofs)
    with pytest.raises(InvalidInputError, match="negative"):
        certified_accuracy(net, X, np.zeros(60), [-0.1], proofs)
