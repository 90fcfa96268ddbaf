"""Is the network that was read the model? Both are asked at random inputs."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from certnet.core.errors import UnsupportedModelError
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["require_agreement", "sample_rows", "table_of"]

ROWS: Final = 64
TOLERANCE: Final = 1e-9
"""Largest difference of the outputs, relative to the largest of them, beside what rounding explains."""


def require_agreement(
    network: ShallowNetwork | FeedForward, X: Float, predict: Callable[[], Any], what: str = "the model"
) -> None:
    """Refuse a network that differs from the model's own outputs at X (N, d).

    The weights of folded scalers are rounded, which costs up to ``ε (|V| (|W| |x| + |b|) + …)`` of the outputs: that is
    granted, for inputs that are far from 0 in units of their spread.

    Raises
    ------
    UnsupportedModelError
        The outputs differ, or the model cannot be asked.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            theirs = np.asarray(predict(), dtype=np.float64)
        except Exception as error:  # whatever a model of others raises
            raise UnsupportedModelError(
                f"{what} cannot be asked for its outputs at random inputs, so that the reading stays unchecked: {error}"
            ) from error
        ours = network.forward(X)
        theirs = theirs.reshape(len(theirs), -1)
        if theirs.shape != ours.shape:
            raise UnsupportedModelError(f"{what} gives outputs of shape {theirs.shape}, the reading {ours.shape}")
        slack = TOLERANCE * np.max(np.abs(theirs), initial=0.0) + _rounding(network, X)
        worst = float(np.max(np.abs(ours - theirs) - slack, initial=0.0))
    if not worst <= 0.0:
        raise UnsupportedModelError(
            f"the reading does not agree with {what}: at random inputs the outputs differ by up to "
            f"{float(np.max(np.abs(ours - theirs))):.3g} (outputs up to {float(np.max(np.abs(theirs))):.3g}); "
            "nothing is returned, because a certificate of it would be of another network"
        )


def _rounding(network: ShallowNetwork | FeedForward, X: Float) -> Float:
    """What the roundings of weights and sums may change in every output, shape (N, m)."""
    size, terms = np.abs(X), 0
    for W, b in zip(network.weights, network.biases):
        size = size @ np.abs(W).T + np.abs(b)
        terms = max(terms, W.shape[1])
    return np.asarray(np.finfo(np.float64).eps * np.sqrt(terms + 4.0) * 4.0 * size)


def sample_rows(hints: Mapping[int, tuple[float, float]], d: int) -> Float:
    """Inputs (64, d): half within the ranges that the scalers saw, half beyond."""
    rng = np.random.default_rng(0)
    centre, spread = np.zeros(d), np.ones(d)
    for j, (middle, width) in hints.items():
        centre[j], spread[j] = middle, width
    near = rng.uniform(-1.5, 1.5, size=(ROWS // 2, d))
    far = 10.0 * rng.normal(size=(ROWS - ROWS // 2, d))
    return np.asarray(centre + spread * np.vstack([near, far]))


def table_of(X: Float, names: tuple[str, ...], fixed: Mapping[int, Any], *, named: bool) -> Any:
    """The rows X (N, d) as the model takes them: with its column names where it has them, and the fixed values."""
    if named and importlib.util.find_spec("pandas") is not None:
        pandas = importlib.import_module("pandas")
        columns: dict[str, Any] = {name: X[:, j] for j, name in enumerate(names)}
        columns |= {names[j]: [value] * len(X) for j, value in fixed.items()}
        return pandas.DataFrame(columns)
    if not fixed:
        return X
    table = X.astype(object)
    for j, value in fixed.items():
        table[:, j] = value
    return table
