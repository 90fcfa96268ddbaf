"""Tables and sums for the tests of rows; light, for workers of a cluster import it too."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from certnet.rows import Block, Rows


@dataclass(frozen=True)
class Fit:
    """Squared error of a tanh model, its gradient, and a number."""

    W: np.ndarray

    def __call__(self, block: Block) -> tuple[np.ndarray, float]:
        z = np.tanh(block.X @ self.W)
        residual = block.shares[:, None] * (z - block.y)
        return block.X.T @ residual, float(np.sum(residual * residual))


@dataclass(frozen=True)
class Fatal:
    """Ends the process that comes to a certain row for the first time."""

    inner: Fit
    row: int
    mark: Path

    def __call__(self, block: Block) -> tuple[np.ndarray, float]:
        if block.first == self.row and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner(block)


def table(n: int, d: int = 3, m: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets and weights."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((n, m)), rng.random(n)


def same(a: Rows, b: Rows) -> None:
    """Bit for bit."""
    part = Fit(np.linspace(-1.0, 1.0, a.n_inputs * a.n_outputs).reshape(a.n_inputs, a.n_outputs))
    for x, y in zip(a.total(part), b.total(part)):
        np.testing.assert_array_equal(x, y)
    assert a.describe().digest == b.describe().digest


def same_blocks(a: Rows, b: Rows) -> None:
    """Cut at the same rows, bit for bit."""
    for block, other in zip(a.blocks(), b.blocks(), strict=True):
        assert block.first == other.first
        np.testing.assert_array_equal(block.X, other.X)
        np.testing.assert_array_equal(block.y, other.y)
        np.testing.assert_array_equal(block.shares, other.shares)
        assert block.X.flags.c_contiguous
        assert block.y.flags.c_contiguous
