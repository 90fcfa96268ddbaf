"""Generated regression tasks."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, finite_array, positive_number
from certnet.data.samples import N_SPLITS, Samples

__all__ = ["make_rastrigin", "rastrigin", "rastrigin_split"]

_N_SAMPLES: Final = 1000
_N_INPUTS: Final = 2
_HALF_WIDTH: Final = 1.0
_SEED: Final = 1974  # with the split, the seed of its sample


def rastrigin(X: ArrayLike) -> Float:
    """``f(x) = 10 d + Σ_i (x_i² − 10 cos(2π x_i))`` at every row of X (N, d), as an (N,) array.

    Zero at the origin, its only global minimum; one local minimum near every integer point.

    References
    ----------
    Rastrigin, *Systems of extremal control*, Nauka (1974).
    """
    X = finite_array(X, "X", ndim=(2,))
    return 10.0 * X.shape[1] + np.sum(X**2 - 10.0 * np.cos(2.0 * np.pi * X), axis=1)


def make_rastrigin(
    n_samples: int = _N_SAMPLES,
    n_inputs: int = _N_INPUTS,
    *,
    half_width: float = _HALF_WIDTH,
    random_state: int | np.random.Generator = 0,
) -> tuple[Float, Float]:
    """Inputs uniform on ``[−half_width, half_width]^d``, shape (N, d), and :func:`rastrigin` of them, without noise.

    The default box has two periods per input, which 100 hidden units can follow; on the usual box of half width 5.12
    the function has 121 local minima for d = 2, and such a network fits little more than the bowl.

    Raises
    ------
    InvalidInputError
        A size below one, or a half width that is not positive.
    """
    if n_samples < 1 or n_inputs < 1:
        raise InvalidInputError(f"n_samples={n_samples} and n_inputs={n_inputs}: both must be at least 1")
    width = positive_number(half_width, "half_width")
    X = np.random.default_rng(random_state).uniform(-width, width, size=(n_samples, n_inputs))
    return X, rastrigin(X)


def rastrigin_split(split: int) -> Samples:
    """A sample of its own for every split: 1000 points in the default box, the last tenth for testing."""
    X, y = make_rastrigin(random_state=np.random.default_rng([_SEED, split]))
    return Samples(X, y, np.arange(_N_SAMPLES) >= _N_SAMPLES - _N_SAMPLES // N_SPLITS)
