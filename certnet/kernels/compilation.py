"""Compilation that is kept between runs where there is a folder to keep it in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["compiled"]


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` with its cache; without it where neither the package's folder nor the user's can be written.

    The cache of a function looks at the file that defines it only: after a change to a kernel that other files' kernels
    call, remove ``kernels/__pycache__``.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # numba: no locator available for the cache
            return njit(**options)(function)

    return decorate
