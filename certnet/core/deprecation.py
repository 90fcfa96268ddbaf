"""Functions that will go: they work, and say until when and what takes their place."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from certnet.core.errors import CertnetWarning

__all__ = ["CertnetDeprecationWarning", "deprecated"]

P = ParamSpec("P")
R = TypeVar("R")


class CertnetDeprecationWarning(CertnetWarning, FutureWarning):
    """What was called will be removed; shown by default, as whoever reads it is who has to act."""


def deprecated(*, since: str, until: str, instead: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator of a public function that will be removed.

    Each call warns with :class:`CertnetDeprecationWarning` at the caller's line, and then does what it did. The
    docstring says the same at its end.

    Parameters
    ----------
    since : str
        The version that first warned.
    until : str
        The first version without the function: two minor versions later at the earliest.
    instead : str
        What to call in its place, as a user writes it.

    Raises
    ------
    ValueError
        ``until`` comes sooner than that.
    """
    if _minor(until) < _minor(since) + 2:
        raise ValueError(
            f"removed in {until}, deprecated in {since}: two minor versions are promised (docs/stability.md)"
        )

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        said = f"deprecated since certnet {since}, to be removed in {until}: use {instead}"

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            warnings.warn(f"{function.__qualname__} is {said}", CertnetDeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        call.__doc__ = f"{function.__doc__ or ''}\n\nNotes\n-----\n{said[0].upper()}{said[1:]}.\n"
        return call

    return decorate


def _minor(version: str) -> int:
    major, minor, *_ = version.split(".")
    return 1000 * int(major) + int(minor)
