"""What every source of data returns: rows, targets, and which of them are the test part."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float

__all__ = ["N_SPLITS", "Samples"]

N_SPLITS = 10
"""Every data set has ten splits of 90 % training and 10 % test samples."""


class Samples(NamedTuple):
    """Inputs (N, d) and targets (N,) in raw units, and the test part of one split as a mask (N,)."""

    X: Float
    y: Float
    is_test: NDArray[np.bool_]
