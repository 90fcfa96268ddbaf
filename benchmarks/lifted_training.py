"""Training lifted networks on MNIST: seconds per epoch, where they go, and test accuracy after some epochs.

OMP_NUM_THREADS=1 CERTNET_DATA_HOME=... python benchmarks/lifted_training.py [--epochs 3] [--wide] [--rates]

The reference setting is that of Høier and Zach (2020): 784-64-64-10, ReLU, beta = [1, 1, 0], gamma = 1/8, batches of
10, weight decay 1e-5 on the last layer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from _common import machine, median_seconds, print_table

from certnet.data import load_images
from certnet.lifted import LiftedNetwork, Objective, Trained, Training, initial_network, train
from certnet.lifted.learn.parameters import Parameters
from certnet.lifted.learn.phases import Phases

REFERENCE = Training(learning_rate=4.0)
CASES: dict[str, tuple[Training, Sequence[int]]] = {
    "contrastive": (REFERENCE, (64, 64)),
    "20 passes, as in the papers": (replace(REFERENCE, passes=20), (64, 64)),
    "activations kept": (replace(REFERENCE, warm_activations=True), (64, 64)),
    "squared loss": (replace(REFERENCE, objective=Objective("contrastive", "squared")), (64, 64)),
    "adam": (replace(REFERENCE, optimizer="adam", learning_rate=1e-3), (64, 64)),
    "lifted": (replace(REFERENCE, objective=Objective("lifted"), learning_rate=0.05), (64, 64)),
    "unsupervised": (replace(REFERENCE, objective=Objective("unsupervised"), learning_rate=0.005), (64, 64)),
}
WIDE = {"contrastive, wide": (REFERENCE, (256, 256))}
# 0.4 on the mean of a batch, on its sum, and on the mean in the scale of back-propagation
RATES = {f"rate {rate:g}": (replace(REFERENCE, learning_rate=rate), (64, 64)) for rate in (0.4, 4.0, 25.6)}
PARTS = ("_pose", "_contrast", "_gradient")


def start(hidden: Sequence[int]) -> LiftedNetwork:
    beta = [1.0] * len(hidden) + [0.0]
    return initial_network((784, *hidden, 10), beta=beta, gamma=1 / 8, random_state=0)


def measured(how: Training, hidden: Sequence[int], data: Any, epochs: int) -> tuple[Trained, float, float]:
    """A training, its test accuracy, and the norm of its last layer: H's bound of L."""
    X, y, X_test, y_test = data
    done = train(start(hidden), X, np.eye(10)[y], replace(how, max_epochs=epochs), random_state=0)
    accuracy = float((done.network.infer(X_test).output.argmax(axis=1) == y_test).mean())
    return done, accuracy, float(np.linalg.norm(done.network.weights[-1], 2))


def parts_of_a_batch(data: Any, batches: int = 800) -> None:
    """Microseconds of the parts of a batch of 10, after an epoch on some samples."""
    X, y = data[0], np.eye(10)[data[1]]
    net = train(start((64, 64)), X[:5000], y[:5000], replace(REFERENCE, max_epochs=1), random_state=0).network
    params = Parameters.of(net)
    gradient = Parameters.over(np.empty_like(params.flat), net.widths)
    phases = Phases(net, params, REFERENCE.objective, tol=REFERENCE.tolerance(net))
    spent = dict.fromkeys(PARTS, 0.0)

    def timed(name: str) -> Any:
        inner = getattr(phases, name)

        def call(*given: Any) -> Any:
            begin = time.perf_counter()
            result = inner(*given)
            spent[name] += time.perf_counter() - begin
            return result

        return call

    for name in PARTS:
        setattr(phases, name, timed(name))
    begin = time.perf_counter()
    span = 10 * phases.batches_of_a_span(10)
    for start_of_span in range(0, 10 * batches, span):
        with phases.spanning(X[start_of_span : start_of_span + span]):
            for first in range(start_of_span, start_of_span + span, 10):
                rows = slice(first, first + 10)
                phases.run(X[rows], y[rows], gradient, *np.zeros((2, 10, net.n_units)), rate=0.0)
    total = time.perf_counter() - begin
    print(
        f"a batch of 10: {1e6 * total / batches:.0f} us, large products of its span included; "
        + ", ".join(f"{name.strip('_')} {1e6 * seconds / batches:.0f}" for name, seconds in spent.items())
    )


def products_of_a_batch() -> None:
    """The least that a batch of 10 costs: four products with the first layer's weights, on arrays of their shapes."""
    shapes = ((64, 784), (11, 784), (20, 64), (31, 64), (31, 784))
    W, X, A, left, wide = map(np.random.default_rng(0).standard_normal, shapes)
    calls = (lambda: W @ W.T, lambda: X @ W.T, lambda: A @ W, lambda: left.T @ wide)
    flops = 64 * 64 * 784 + 2 * 64 * 784 * (len(X) + len(A) + len(left))  # the first product is symmetric
    seconds = sum(median_seconds(call, repeat=200) for call in calls)
    print(f"its products with the first layer's weights alone: {flops / 1e6:.1f} MFlop, {1e6 * seconds:.0f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--wide", action="store_true", help="784-256-256-10 too")
    parser.add_argument("--rates", action="store_true", help="only the reference, at three learning rates")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    images = load_images("mnist")
    count = arguments.samples
    data = (images.X_train[:count], images.y_train[:count], images.X_test, images.y_test)
    parts_of_a_batch(data)
    products_of_a_batch()
    rows = []
    cases = RATES if arguments.rates else CASES | (WIDE if arguments.wide else {})
    for name, (how, hidden) in cases.items():
        done, accuracy, norm = measured(how, hidden, data, arguments.epochs)
        each = done.seconds / arguments.epochs
        size = "-".join(map(str, (784, *hidden, 10)))
        rows.append(
            (
                size,
                name,
                f"{each:.2f}",
                f"{1e6 * each / len(data[0]):.0f}",
                f"{done.passes_per_sample:.1f}",
                f"{done.loss_curve[-1]:.3g}",
                f"{accuracy:.2%}",
                f"{norm:.3f}",
            )
        )
        print(rows[-1], flush=True)
    head = ("network", "case", "s/epoch", "us/sample", "passes/sample", "objective", "test accuracy", "norm of last W")
    print(f"{len(data[0])} samples, after {arguments.epochs} epochs")
    print_table(head, rows)


if __name__ == "__main__":
    main()
