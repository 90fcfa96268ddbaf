"""Inputs as a caller names them, by index or by name, and what is asked of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.validation import finite_array, whole_number

__all__ = ["NamedInputs"]


@dataclass(frozen=True)
class NamedInputs:
    """The inputs of a network, with names where there are some.

    Attributes
    ----------
    names : tuple of str
        Empty, or one per input.
    d : int
    """

    names: tuple[str, ...]
    d: int

    def __post_init__(self) -> None:
        if self.names and len(self.names) != self.d:
            raise InvalidInputError(f"there are {len(self.names)} names of inputs, the network has {self.d}")

    def called(self, i: int) -> str:
        return f"input {i} ({self.names[i]!r})" if self.names else f"input {i}"

    def index(self, key: object, argument: str) -> int:
        if isinstance(key, str):
            if key in self.names:
                return self.names.index(key)
            if not self.names:
                raise InvalidInputError(
                    f"{argument} names the input {key[:60]!r}, but the inputs have no names: give its index, or X as a "
                    "frame with column names"
                )
            near = get_close_matches(key, self.names, n=1, cutoff=0.0)[0]
            raise InvalidInputError(f"{argument}: there is no input {key[:60]!r}; did you mean {near!r}?")
        return whole_number(key, f"an input of {argument}", most=self.d - 1)  # type: ignore[arg-type]

    def by_index(self, given: Mapping[Any, Any], argument: str) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for key, value in given.items():
            i = self.index(key, argument)
            if i in found:
                raise InvalidInputError(f"{argument} speaks of {self.called(i)} twice, by name and by index")
            found[i] = value
        return found

    def signs(self, given: object) -> NDArray[np.int64]:
        """1, −1 or 0 of every input."""
        values = np.zeros(self.d)
        if isinstance(given, Mapping):
            for i, sign in self.by_index(given, "monotonic_cst").items():
                values[i] = _number(sign, f"monotonic_cst of {self.called(i)}")
        elif given is not None:
            values = finite_array(given, "monotonic_cst", ndim=(1,))  # type: ignore[arg-type]
            if values.shape != (self.d,):
                raise InvalidInputError(
                    f"monotonic_cst has {len(values)} entries, the network has {self.d} inputs: one of −1, 0, 1 for "
                    "each is needed, or a mapping from names to signs"
                )
        bad = ~np.isin(values, (-1.0, 0.0, 1.0))
        if bad.any():
            i = int(np.argmax(bad))
            raise InvalidInputError(
                f"monotonic_cst of {self.called(i)} is {values[i]:g}: 1 (never falls), −1 (never rises) or 0 is needed"
            )
        return values.astype(np.int64)

    def limits(self, given: object) -> dict[int, tuple[float, float]]:
        """(low, high) of the inputs that have some."""
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            raise InvalidInputError(
                f"slope_limits must map names or indices of inputs to (low, high), got {type(given).__name__}"
            )
        found = {}
        for i, pair in self.by_index(given, "slope_limits").items():
            what = f"slope_limits of {self.called(i)}"
            try:
                low, high = pair
            except (TypeError, ValueError) as error:
                raise InvalidInputError(f"{what} must be a pair (low, high), got {str(pair)[:40]}") from error
            low, high = _number(low, what), _number(high, what)
            if low > high:
                raise InvalidInputError(f"{what} are ({low:g}, {high:g}): the first is the lower one")
            if low == np.inf or high == -np.inf:
                raise InvalidInputError(f"{what} are ({low:g}, {high:g}): no slope is infinite")
            found[i] = (low, high)
        return found


def _number(value: object, what: str) -> float:
    """A number that may be infinite."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"{what}: a number is needed, got {str(value)[:40]}") from error
    if np.isnan(number):
        raise InvalidInputError(f"{what} is NaN: leave it out where nothing is asked")
    return number
