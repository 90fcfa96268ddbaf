"""Affine steps between two activations, folded into one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from certnet.core.errors import UnsupportedModelError
from certnet.core.validation import Float

__all__ = ["MAX_ENTRIES", "Dense", "Scale", "Shift", "Step", "fold"]

MAX_ENTRIES: Final = 1 << 28
"""Most entries of the weights of one network: a small file may describe products that fit no memory."""


@dataclass(frozen=True, eq=False)
class Dense:
    """``x ↦ W x``, W of shape (h, d)."""

    W: Float


@dataclass(frozen=True, eq=False)
class Scale:
    """``x ↦ s ∘ x``, s of shape (n,), or (1,) for one number that serves all entries."""

    s: Float


@dataclass(frozen=True, eq=False)
class Shift:
    """``x ↦ x + t``, t of shape (n,) or (1,)."""

    t: Float


Step = Dense | Scale | Shift


def fold(steps: Sequence[Step]) -> tuple[Float, Float]:
    """``(W, b)`` with ``W x + b`` equal to the steps applied one after another.

    One :class:`Dense` followed by at most one :class:`Shift` keeps its numbers bit for bit; whatever is folded beyond
    that is rounded to float64 (entries that overflow become infinite, which the network refuses).

    Raises
    ------
    UnsupportedModelError
        No step is :class:`Dense`, or the product of two matrices is larger than :data:`MAX_ENTRIES`.
    """
    found = next(((k, step) for k, step in enumerate(steps) if isinstance(step, Dense)), None)
    if found is None:
        raise UnsupportedModelError("a linear layer is missing before, between or after the activations")
    first, dense = found
    with np.errstate(over="ignore", invalid="ignore"):
        W, b = _behind_scaling(dense.W, steps[:first])
        for step in steps[first + 1 :]:
            match step:
                case Dense(M):
                    if M.shape[0] * W.shape[1] > MAX_ENTRIES:
                        raise UnsupportedModelError(
                            f"folding linear layers of shapes {M.shape} and {W.shape} would make a matrix of more than "
                            f"{MAX_ENTRIES} entries"
                        )
                    W, b = M @ W, M @ b
                case Scale(s):
                    W, b = s[:, None] * W, s * b
                case Shift(t):
                    b = b + t
    return W, b


def _behind_scaling(W: Float, before: Sequence[Step]) -> tuple[Float, Float]:
    """``W (s ∘ x + t)`` as a matrix and a bias."""
    s, t = np.ones(1), np.zeros(1)
    for step in before:
        match step:
            case Scale(factor):
                s, t = s * factor, t * factor
            case Shift(offset):
                t = t + offset
    b = W @ np.broadcast_to(t, W.shape[1:]) if np.any(t) else np.zeros(len(W))
    return (W if np.all(s == 1.0) else W * s), b
