"""Training by mini-batch steps: objectives against NumPy, seeds, the ball of the attack, devices, refusals."""

import importlib.util
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from certnet import FeedForward, ShallowNetwork, load_dataset
from certnet.core.errors import InvalidInputError, MissingDependencyError, SolverError
from certnet.programs.objectives import mean_squared_error, objective
from certnet.robust import PGDAttack
from certnet.train import train_pgd, train_sgd
from certnet.train.task import Attack
from certnet.train.torch_ import ascend

torch = pytest.importorskip("torch")


def samples(seed=0, n=60, d=3, m=1):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = np.sin(X @ rng.standard_normal((d, m))) + 0.1 * rng.standard_normal((n, m))
    return X, y[:, 0] if m == 1 else y


def quick(X, y, hidden=(12,), **options):
    return train_sgd(X, y, hidden, **({"epochs": 15, "batch_size": 16, "device": "cpu"} | options))


# ---------------------------------------------------------------------------------------------- objective and curves


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("m", [1, 2])
def test_the_curve_ends_at_the_objective_of_the_network(optimizer, m):
    X, y = samples(m=m)
    done = quick(X, y, optimizer=optimizer, weight_decay=0.03)
    assert isinstance(done.network, ShallowNetwork)
    assert done.loss_curve[-1] == pytest.approx(objective(done.network, X, y, weight=0.03, penalty="l2"), rel=1e-12)
    assert len(done.loss_curve) == 16
    assert done.loss_curve[-1] < 0.7 * done.loss_curve[0]
    assert done.validation_curve == ()


def test_several_hidden_layers_give_a_feed_forward_network():
    X, y = samples()
    done = quick(X, y, (7, 5), weight_decay=0.0, X_val=X[:10], y_val=y[:10])
    assert isinstance(done.network, FeedForward)
    assert done.network.widths == (3, 7, 5, 1)
    assert done.loss_curve[-1] == pytest.approx(np.mean((done.network.predict(X) - y) ** 2), rel=1e-12)
    assert done.validation_curve[-1] == pytest.approx(np.mean((done.network.predict(X[:10]) - y[:10]) ** 2), rel=1e-12)
    assert len(done.validation_curve) == 16


def test_one_full_batch_step_is_minus_the_gradient():
    """By finite differences of the objective of certnet.refinement, in every weight."""
    X, y = samples(n=20)
    one = {"batch_size": 20, "momentum": 0.0, "weight_decay": 0.05}
    first = quick(X, y, (4,), epochs=1, learning_rate=1e-12, **one).network
    after = quick(X, y, (4,), epochs=1, learning_rate=1e-3, **one).network
    parts = [first.W.copy(), first.b.copy(), first.V.copy(), first.c.copy()]
    for part, moved in zip(parts, (after.W, after.b, after.V, after.c)):
        steps = (moved - part) / -1e-3
        for at in np.ndindex(part.shape):
            ends = []
            for change in (1e-6, -2e-6):
                part[at] += change
                ends.append(objective(ShallowNetwork(*parts), X, y, weight=0.05, penalty="l2"))
            part[at] += 1e-6
            assert steps[at] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-6)


def test_validation_data_are_only_measured():
    X, y = samples()
    alone = train_pgd(X, y, (6,), epochs=4, device="cpu")
    beside = train_pgd(X, y, (6,), epochs=4, device="cpu", X_val=X[:7], y_val=y[:7])
    assert alone.network == beside.network


def test_what_was_chosen_is_recorded():
    X, y = samples()
    done = quick(X, y, learning_rate=0.02, random_state=5)
    assert done.settings == {
        "method": "sgd",
        "hidden": (12,),
        "weight_decay": 1e-3,
        "epochs": 15,
        "batch_size": 16,
        "learning_rate": 0.02,
        "optimizer": "sgd",
        "momentum": 0.9,
        "device": "cpu",
    }
    assert done.seed == 5
    assert done.seconds > 0.0
    assert set(done.versions) == {"certnet", "numpy", "python", "torch"}


# ---------------------------------------------------------------------------------------------------------- seeds


@pytest.mark.parametrize("train", [train_sgd, train_pgd])
def test_a_seed_decides_everything_and_nothing_global_changes(train):
    X, y = samples()
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    threads = torch.get_num_threads()
    nets = [train(X, y, (6,), epochs=3, device="cpu", random_state=seed).network for seed in (0, 0, 1)]
    assert nets[0] == nets[1]
    assert nets[0] != nets[2]
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002
    assert random.getstate() == python_state
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")
def test_a_gpu_gives_the_same_up_to_rounding():
    X, y = samples()
    on_cpu, on_gpu = (train_pgd(X, y, (6,), epochs=3, device=device) for device in ("cpu", "auto"))
    assert on_gpu.settings["device"].startswith("cuda")
    np.testing.assert_allclose(on_gpu.loss_curve, on_cpu.loss_curve, rtol=1e-6)


# ------------------------------------------------------------------------------------------------------------- PGD


def tensors(net):
    return [(torch.tensor(net.W), torch.tensor(net.b)), (torch.tensor(net.V), torch.tensor(net.c))]


@pytest.mark.parametrize("step_size", [0.3, 5.0])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("m", [1, 3])
def test_the_ascent_stays_in_the_ball_and_climbs(norm, m, step_size):
    X, y = samples(m=m)
    net = quick(X, y, epochs=3).network
    noise = 2.0 * np.random.default_rng(0).random(X.shape) - 1.0
    attack = Attack(0.25, norm, 8, step_size)
    moved = ascend(
        tensors(net), torch.tensor(X), torch.tensor(y.reshape(len(y), -1)), attack, torch.tensor(noise)[None]
    )
    delta = moved.numpy() - X
    lengths = np.linalg.norm(delta, axis=1) if norm == "l2" else np.abs(delta).max(axis=1)
    assert lengths.max() <= 0.25
    assert lengths.max() > 0.24
    assert mean_squared_error(net, moved.numpy(), y) > 1.05 * mean_squared_error(net, X, y)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_ascent_is_nearly_as_strong_as_the_evaluation_attack(norm):
    X, y = samples(n=80)
    net = quick(X, y).network
    noise = torch.tensor(np.random.default_rng(0).uniform(-1.0, 1.0, X.shape))
    starts = torch.stack([noise, -noise, 0.0 * noise])
    attack, targets = Attack(0.2, norm, 20, 0.125), torch.tensor(y[:, None])
    one, three = (ascend(tensors(net), torch.tensor(X), targets, attack, starts[:n]).numpy() for n in (1, 3))
    best = PGDAttack(norm=norm).perturb(net, X, y, 0.2)
    clean, single, ours, theirs = (mean_squared_error(net, Z, y) for Z in (X, one, three, best))
    assert clean < single < ours <= theirs * (1.0 + 1e-6)
    assert ours - clean > 0.95 * (theirs - clean)


def test_adversarial_training_helps_against_attacks():
    X, y = samples(n=80)
    options = {"epochs": 150, "learning_rate": 0.02, "batch_size": 16, "weight_decay": 0.0}
    plain, hard = (
        quick(X, y, **options),
        train_pgd(X, y, (12,), epsilon=0.4, n_steps=5, n_restarts=2, device="cpu", **options),
    )
    attacked = [
        mean_squared_error(done.network, PGDAttack().perturb(done.network, X, y, 0.4), y) for done in (plain, hard)
    ]
    assert attacked[1] < 0.9 * attacked[0]
    assert hard.loss_curve[-1] == pytest.approx(attacked[1], rel=0.05)
    assert hard.loss_curve[-1] < hard.loss_curve[0]


def test_no_radius_is_plain_descent():
    X, y = samples()
    assert (
        train_pgd(X, y, (6,), epsilon=0.0, epochs=3, device="cpu").network
        == quick(X, y, (6,), epochs=3, batch_size=32).network
    )


# ------------------------------------------------------------------------------------------------------- real data


@pytest.mark.skipif("CERTNET_DATA_HOME" not in os.environ, reason="CERTNET_DATA_HOME is not set")
def test_servo_in_a_hundred_epochs():
    data = load_dataset("servo", download=False)
    done = train_sgd(data.X_train, data.y_train, X_val=data.X_test, y_val=data.y_test, epochs=100, device="cpu")
    assert done.loss_curve[-1] < 0.15
    assert done.validation_curve[-1] < 0.4
    assert len(done.loss_curve) == 101  # the start's, then one after every epoch


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_divergence_stops_with_advice(optimizer):
    X, y = samples()
    with pytest.raises(SolverError, match=r"not finite after epoch .* use a learning rate below"):
        quick(1e3 * X, y, learning_rate=1e160, optimizer=optimizer)


BAD = [
    ({"epochs": 0}, "epochs must be at least 1"),
    ({"batch_size": 0}, "batch_size must be at least 1"),
    ({"learning_rate": -0.1}, "learning_rate must be a finite positive number"),
    ({"learning_rate": float("nan")}, "learning_rate"),
    ({"momentum": 1.0}, "momentum must be below 1"),
    ({"weight_decay": -1.0}, "weight_decay must be a finite non-negative number"),
    ({"optimizer": "lion"}, "optimizer must be one of 'sgd', 'adam', got 'lion'"),
    ({"random_state": -1}, "random_state"),
    ({"hidden": ()}, "at least one layer"),
    ({"hidden": (3, 0)}, "at least one layer"),
    ({"hidden": 100}, r"such as \(100,\), got 100"),
    ({"hidden": (2.5,)}, r"such as \(100,\)"),
    ({"device": "warp"}, "device 'warp' cannot be used"),
    ({"X_val": np.zeros((2, 3))}, "need both X_val and y_val"),
    ({"X_val": np.zeros((2, 4)), "y_val": np.zeros(2)}, r"X_val, y_val\): X has 4 columns"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        quick(*samples(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -0.1}, "epsilon must be a finite non-negative number"),
        ({"norm": "l1"}, "norm must be one of 'l2', 'linf', got 'l1'"),
        ({"n_steps": 0}, "n_steps must be at least 1"),
        ({"n_restarts": 0}, "n_restarts must be at least 1"),
        ({"step_size": 0.0}, "step_size must be a finite positive number"),
    ],
)
def test_bad_attacks_are_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        train_pgd(*samples(), (3,), **options)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros(4), np.zeros(4), "samples are rows"),
        (np.zeros((4, 2)), np.zeros(3), "X has 4 samples and y has 3"),
        (np.zeros((0, 2)), np.zeros(0), "no samples"),
        (np.zeros((4, 0)), np.zeros(4), "at least one column"),
        (np.full((4, 2), np.nan), np.zeros(4), "NaN or infinite"),
        (np.zeros((4, 2)), ["a", "b", "c", "d"], "y has dtype"),
    ],
)
def test_bad_samples_are_refused(X, y, message):
    with pytest.raises(InvalidInputError, match=message):
        train_sgd(X, y, (3,), epochs=1)


def test_without_torch_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    with pytest.raises(MissingDependencyError, match=r"certnet\[torch\]"):
        quick(*samples())


def test_importing_the_trainers_imports_no_torch():
    code = "import sys, certnet.train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
