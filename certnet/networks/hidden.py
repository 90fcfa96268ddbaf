"""One hidden layer as proofs and searches see it: three arrays, whatever network they are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from certnet.core.validation import Float

__all__ = ["HiddenLayer", "HiddenWeights"]


class HiddenLayer(Protocol):
    """``x ↦ V φ(W x + b)``; the slopes of φ are said beside it. A :class:`ShallowNetwork` is one."""

    @property
    def W(self) -> Float: ...

    @property
    def b(self) -> Float: ...

    @property
    def V(self) -> Float: ...

    @property
    def n_inputs(self) -> int: ...

    @property
    def n_hidden(self) -> int: ...

    @property
    def n_outputs(self) -> int: ...


@dataclass(frozen=True, eq=False)
class HiddenWeights:
    """W (h, d), b (h,) and V (m, h) of two layers of a network in a row, or of a part of it."""

    W: Float
    b: Float
    V: Float

    @property
    def n_inputs(self) -> int:
        return int(self.W.shape[1])

    @property
    def n_hidden(self) -> int:
        return int(self.W.shape[0])

    @property
    def n_outputs(self) -> int:
        return int(self.V.shape[0])
