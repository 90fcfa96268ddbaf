"""Inference and training of lifted networks in large batches on a PyTorch device, beside the compiled code of the CPU.

    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/lifted_device.py              # the GPU where there is one
    python benchmarks/lifted_device.py --device cuda:1 --samples 60000 --batch 2000

MNIST, 784-64-64-10 and 784-256-256-10, ReLU, β = [1, 1, 0], γ = 1/8. Seconds of wall time, the least of three for
inference (to a residual of 1e-6) and of one epoch for training (contrastive, rate 0.05 of back-propagation), after a
small run that starts the device; differences are the largest of outputs and the relative one of the epoch's loss.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _common import machine, print_table

from certnet.backends.torch_ import torch_device
from certnet.data import load_images
from certnet.lifted import LiftedNetwork, initial_network
from certnet.lifted.device_ import infer_on_device
from certnet.lifted.device_training_ import train_on_device
from certnet.lifted.learn import Training, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU's code")
    chosen = parser.parse_args()
    place = str(torch_device(chosen.device, double=True))
    print(f"{machine()}, device {place}, batches of {chosen.batch}, {chosen.threads} thread(s) on the CPU\n")
    data = load_images("mnist")
    X, y = data.X_train[: chosen.samples], np.eye(10)[data.y_train[: chosen.samples]]
    rows = [row for width in (64, 256) for row in measured(width, X, y, place, chosen)]
    print_table(["network", "what", "CPU, s", f"{place}, s", "ratio", "difference"], rows)


def measured(width: int, X: Any, y: Any, place: str, chosen: argparse.Namespace) -> list[list[str]]:
    """Two rows: inference and one epoch of training."""
    units = ["relu", "relu", "linear"]
    net = initial_network((784, width, width, 10), beta=[1.0, 1.0, 0.0], gamma=0.125, units=units, random_state=0)
    how = Training(learning_rate=0.05, rate_scale="backpropagation", batch_size=chosen.batch, max_epochs=1)
    warm_up(net, X, y, how, place)
    name = f"784-{width}-{width}-10"
    cpu, own = least(lambda: net.infer(X, threads=chosen.threads))
    gpu, other = least(lambda: infer_on_device(net, X, device=place))
    inference = row(name, "inference", cpu, gpu, float(np.abs(own.output - other.output).max()))
    cpu, trained = least(lambda: train(net, X, y, how, random_state=0, threads=chosen.threads), 1)
    gpu, moved = least(lambda: train_on_device(net, X, y, how, device=place), 1)
    return [inference, row(name, "an epoch", cpu, gpu, abs(trained.loss_curve[0] / moved.loss_curve[0] - 1.0))]


def row(name: str, what: str, cpu: float, device: float, difference: float) -> list[str]:
    """A line of the table."""
    return [name, what, f"{cpu:.2f}", f"{device:.2f}", f"{cpu / device:.2f}", f"{difference:.1e}"]


def warm_up(net: LiftedNetwork, X: Any, y: Any, how: Training, place: str) -> None:
    """Load or compile kernels, and start the device."""
    few = min(len(X), how.batch_size)
    net.infer(X[:few])
    infer_on_device(net, X[:few], device=place)
    train(net, X[:few], y[:few], how, random_state=0)
    train_on_device(net, X[:few], y[:few], how, device=place)


def least(run: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    """Seconds, and what the last run gave."""
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        found = run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds), found


if __name__ == "__main__":
    main()
