"""CPU seconds of training lifted networks on MNIST: this checkout beside another one, in turns.

    git worktree add ../before REVISION
    CERTNET_DATA_HOME=... python benchmarks/lifted_speed.py --against ../before [--rounds 3] [--samples 3000]

784-64-64-10, ReLU, beta = [1, 1, 0], gamma = 1/8, one epoch over the first samples from the same start, kernels warm.
Every round runs all cases in a process of each checkout, in turns, so that both see the same machine; what is
shown are medians of CPU seconds, which other processes stretch less than the clock. ``--threads`` gives the package so
many threads; the seconds of the clock are shown beside.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

CASES = ("contrastive", "cross-entropy", "batches of 50", "batches of 500", "lifted", "unsupervised", "adam")
HERE = Path(__file__).resolve().parent.parent


def settings(case: str) -> Any:
    from dataclasses import replace

    from certnet.lifted import Objective, Training
    from certnet.lifted.loss_functions import CrossEntropy

    reference = Training(learning_rate=4.0, max_epochs=1)
    return {
        "contrastive": reference,
        "cross-entropy": replace(reference, objective=Objective("contrastive", CrossEntropy())),
        "batches of 50": replace(reference, batch_size=50),
        "batches of 500": replace(reference, batch_size=500),
        "lifted": replace(reference, objective=Objective("lifted"), learning_rate=0.05),
        "unsupervised": replace(reference, objective=Objective("unsupervised"), learning_rate=0.005),
        "adam": replace(reference, optimizer="adam", learning_rate=1e-3),
    }[case]


def measure(case: str, samples: int, threads: int) -> dict[str, float]:
    """One epoch in this process, with whatever certnet it imports."""
    import numpy as np

    from certnet.data import load_images
    from certnet.lifted import initial_network, train

    images = load_images("mnist")
    X, y = images.X_train[:samples], np.eye(10)[images.y_train[:samples]]
    how = settings(case)
    targets = None if case == "unsupervised" else y
    start = initial_network((784, 64, 64, 10), beta=[1.0, 1.0, 0.0], gamma=1 / 8, random_state=0)
    warm = slice(0, max(200, 2 * how.batch_size))
    train(start, X[warm], None if targets is None else targets[warm], how, random_state=0)
    begin = time.process_time(), time.perf_counter()
    done = train(start, X, targets, how, random_state=0, threads=threads)
    spent = time.process_time() - begin[0], time.perf_counter() - begin[1]
    return {"cpu": spent[0], "wall": spent[1], "loss": done.loss_curve[-1], "passes": done.passes_per_sample}


def measured_in(root: Path, cases: list[str], samples: int, threads: int) -> dict[str, dict[str, float]]:
    """The cases in a process of its own with the certnet of ``root``."""
    env = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    options = ["--inner", "--samples", str(samples), "--threads", str(threads), "--cases", *cases]
    command = [sys.executable, __file__, *options]
    shown = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    found: dict[str, dict[str, float]] = json.loads(shown)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="root of the other checkout")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=CASES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inner:
        sizes = arguments.samples, arguments.threads
        print(json.dumps({case: measure(case, *sizes) for case in arguments.cases}))
        return
    from _common import machine, print_table

    print(machine(), flush=True)
    roots = {"before": arguments.against.resolve()} if arguments.against else {}
    roots["now"] = HERE
    runs: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in roots}
    for _ in range(arguments.rounds):
        for name, root in roots.items():
            runs[name].append(measured_in(root, list(arguments.cases), arguments.samples, arguments.threads))
    rows = []
    for case in arguments.cases:
        cpu = {name: median(run[case]["cpu"] for run in found) for name, found in runs.items()}
        wall = {name: median(run[case]["wall"] for run in found) for name, found in runs.items()}
        row = [case]
        for name, found in runs.items():
            each = 1e6 / arguments.samples
            row += [f"{each * cpu[name]:.0f}", f"{each * wall[name]:.0f}", f"{found[0][case]['loss']:.4g}"]
        row.append(f"{cpu['before'] / cpu['now']:.2f}" if "before" in cpu else "")
        rows.append(tuple(row))
    head = ["case"]
    for name in roots:
        head += [f"{name}: CPU us/sample", "clock us/sample", "objective"]
    print_table((*head, "before / now, CPU"), rows)


if __name__ == "__main__":
    main()
