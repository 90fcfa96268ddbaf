"""What a certificate says of its making, and the outputs that a set of certificates goes through."""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import scipy

from certnet._version import __version__
from certnet.core.errors import InvalidInputError

__all__ = ["each_output", "made_since", "versions"]

T = TypeVar("T")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what the numbers came from."""
    return {
        "certnet": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }


def made_since(start: float) -> dict[str, Any]:
    """The fields of a certificate that was begun at ``start`` (``time.perf_counter()``) and is ready now."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": time.perf_counter() - start,
        "versions": versions(),
    }


def each_output(n: int, differences: bool, make: Callable[[Any], T]) -> dict[tuple[int, ...], T]:
    """``make`` of every output of n, or of every pair (i, j), i < j, by the outputs.

    Raises
    ------
    InvalidInputError
        Differences of one output.
    """
    if differences and n == 1:
        raise InvalidInputError("the network has one output: there are no differences of outputs")
    chosen = combinations(range(n), 2 if differences else 1)
    return {outputs: make(outputs if differences else outputs[0]) for outputs in chosen}
