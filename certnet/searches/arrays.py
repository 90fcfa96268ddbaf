"""Where the search over vectors keeps its arrays: in NumPy, or on a device of another package."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from certnet.core.validation import Float
from certnet.searches.increments import Increments, Map, row_norms
from certnet.searches.riccati import bound_of

__all__ = ["NUMPY", "Array", "Arrays", "Placed"]

Array = Any
"""An array of the package in use: operators, indexing, ``@`` and ``.T`` are those of NumPy."""


class Placed(Protocol):
    """What :class:`~certnet.searches.increments.Increments` has, its arrays on the device."""

    @property
    def maps(self) -> tuple[Map, ...]: ...
    @property
    def output(self) -> Map: ...
    @property
    def centre(self) -> tuple[Array, ...]: ...
    @property
    def width(self) -> tuple[Array, ...]: ...
    @property
    def bends(self) -> tuple[Any, ...]: ...
    @property
    def widths(self) -> tuple[int, ...]: ...
    @property
    def n_bending(self) -> tuple[int, ...]: ...


class Arrays(ABC):
    """What the search asks of a package of arrays, where the packages differ.

    Attributes
    ----------
    xp : module
        The package: its ``concatenate``, ``empty_like``, ``multiply`` and ``linalg.norm`` are NumPy's.
    """

    xp: Any

    @abstractmethod
    def placed(self, net: Increments) -> Placed:
        """The network with its arrays on the device."""

    @abstractmethod
    def array(self, values: Float) -> Array:
        """From NumPy to the device."""

    @abstractmethod
    def numpy(self, values: Array) -> Float:
        """From the device to NumPy."""

    @abstractmethod
    def copy(self, values: Array) -> Array: ...

    @abstractmethod
    def row_dots(self, a: Array, b: Array) -> Array: ...

    @abstractmethod
    def row_norms(self, rows: Array) -> Array:
        """Never zero."""

    @abstractmethod
    def at_least(self, values: Array, floor: float) -> Array: ...

    @abstractmethod
    def bound_of(self, net: Placed, multipliers: Sequence[Array], weights: Array | None) -> float:
        """:func:`certnet.searches.riccati.bound_of`."""


class _NumPy(Arrays):
    xp = np

    def placed(self, net: Increments) -> Placed:
        return net

    def array(self, values: Float) -> Array:
        return values

    def numpy(self, values: Array) -> Float:
        return np.asarray(values)

    def copy(self, values: Array) -> Array:
        return values.copy()

    def row_dots(self, a: Array, b: Array) -> Array:
        return np.einsum("ij,ij->i", a, b)

    def row_norms(self, rows: Array) -> Array:
        return row_norms(rows)

    def at_least(self, values: Array, floor: float) -> Array:
        return np.maximum(values, floor)

    def bound_of(self, net: Any, multipliers: Sequence[Array], weights: Array | None) -> float:
        return bound_of(net, multipliers, weights)


NUMPY = _NumPy()
