"""The arguments of estimators, read: the sizes of layers, their units and weights, and the seed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from certnet.core.errors import InvalidInputError
from certnet.core.files import path_of
from certnet.core.validation import positive_number, whole_number
from certnet.lifted.learn.checkpoint import stored_seed
from certnet.lifted.learn.plan import pretraining_path
from certnet.networks.energy import is_interval

__all__ = ["betas", "hidden_sizes", "layer_units", "seed_of"]


def hidden_sizes(sizes: Any) -> tuple[int, ...]:
    """``hidden_layer_sizes`` as a tuple; one number is one layer, and none is a network of the output alone."""
    try:
        given = (sizes,) if np.isscalar(sizes) else tuple(sizes)
    except TypeError as error:
        raise InvalidInputError(f"hidden_layer_sizes is {sizes!r}: a number, or several, is needed") from error
    return tuple(whole_number(n, f"hidden_layer_sizes[{k}]", least=1) for k, n in enumerate(given))


def betas(beta: float | Sequence[float], depth: int, *, output: bool) -> float | Sequence[float]:
    """One number serves the hidden layers, and the output's is 0 then where ``output`` asks for a regression."""
    if not (np.isscalar(beta) and output):
        return beta
    return [positive_number(beta, "beta", zero=True)] * (depth - 1) + [0.0]  # type: ignore[arg-type]


def layer_units(units: Any, n: int) -> list[Any]:
    """One name or pair of numbers serves all n layers; a sequence is taken as it is."""
    if isinstance(units, str) or is_interval(units):
        return [units] * n
    if not isinstance(units, Sequence):
        raise InvalidInputError(f"units is {units!r}: a name, a pair of numbers, or one of them per layer is needed")
    return list(units)


def seed_of(random_state: Any, checkpoint: str | os.PathLike[str] | None) -> int:
    """The seed of a fit; without a random state that of the checkpoint that is there."""
    if random_state is None and isinstance(checkpoint, str | os.PathLike):
        for path in (path_of(checkpoint), pretraining_path(checkpoint)):
            seed = stored_seed(path)
            if seed is not None:
                return seed
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as error:
        raise InvalidInputError(f"random_state is {random_state!r}: a whole number, a generator or None") from error
