"""What the reader of a traced module knows of a value: a chain of steps from the input, or from a value of a graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.io.affine import Dense, Scale, Shift, Step
from certnet.io.graphs import Graph, Value
from certnet.networks import layers
from certnet.networks.activations import Activation

__all__ = ["REASONS", "Chain", "Half", "Last", "Part", "Settled", "Take", "reason_for"]

REASONS: Final = {
    "conv_transpose": "transposed convolutions are not read: upsample the image, and convolve it",
    "convtranspose": "transposed convolutions are not read: upsample the image, and convolve it",
    "conv3d": "convolutions in one and two dimensions are read, in three they are not",
    "pool3d": "pooling in one and two dimensions is read, in three it is not",
    "lp_pool": "LpPool takes powers of data, so its slope has no bound",
    "lppool": "LpPool takes powers of data, so its slope has no bound",
    "fractional": "fractional pooling takes random windows",
    "unpool": "unpooling moves data to where other data say, so it jumps",
    "layer_norm": "LayerNorm divides by the deviation of the very sample, so its slope has no bound",
    "layernorm": "LayerNorm divides by the deviation of the very sample, so its slope has no bound",
    "group_norm": "GroupNorm divides by the deviation of the very sample, so its slope has no bound",
    "groupnorm": "GroupNorm divides by the deviation of the very sample, so its slope has no bound",
    "instance": "InstanceNorm divides by the deviation of the very sample, so its slope has no bound",
    "rms_norm": "RMSNorm divides by the size of the very sample, so its slope has no bound",
    "rmsnorm": "RMSNorm divides by the size of the very sample, so its slope has no bound",
    "local_response": "LocalResponseNorm divides data by data, so its slope has no bound",
    "attention": "attention multiplies data by data, so its slope has no bound",
    "transformer": "attention multiplies data by data, so its slope has no bound",
    "embedding": "an embedding looks integers up: it is no function of real numbers",
    "lstm": "recurrent layers are not read",
    "gru": "recurrent layers are not read",
    "rnn": "recurrent layers are not read",
    "bilinear": "a bilinear layer or upsampling is not read",
    "argmax": "argmax gives a class, no number with a slope: leave it out of the module, the network gives the logits",
    "topk": "topk gives ranks, no numbers with a slope",
    "quantize": "quantised layers round: there is no slope",
    "lazy": "a lazy layer has no weights yet: run the module once",
}
"""Why modules and operators whose names have these parts are refused."""


def reason_for(name: str) -> str:
    """The reason in :data:`REASONS` for a module or operator of this name, or an empty text."""
    low = name.lower()
    return next((reason for part, reason in REASONS.items() if part in low), "")


@dataclass(frozen=True)
class Last:
    """What follows the network and is left out: "softmax" or "log_softmax" over the outputs."""

    name: str


@dataclass(frozen=True)
class Half:
    """``abs`` or another part of a written-out activation, with no meaning alone."""

    name: str


@dataclass(frozen=True, eq=False)
class Take:
    """``x ↦ x[index]``, of vectors of n numbers."""

    index: NDArray[np.int64]
    n: int

    @property
    def dense(self) -> Dense:
        """The same as a matrix of zeros and ones."""
        return Dense(np.eye(self.n)[self.index])


Part = Step | Activation | Take | Last | Half


@dataclass(frozen=True, eq=False)
class Chain:
    """``parts`` one after another on ``start``, or on the input of ``n_inputs`` numbers.

    ``shape`` is that of one sample's output. ``start`` is None until something is met that is no chain: two paths of
    the data, a convolution, a permutation.
    """

    parts: tuple[Part, ...]
    shape: tuple[int, ...]
    n_inputs: int
    start: Value | None = None

    def then(self, *parts: Part) -> Chain:
        return replace(self, parts=(*self.parts, *parts))

    @property
    def last(self) -> str:
        """The softmax that is left out at the end, or an empty text."""
        last = self.parts[-1] if self.parts else None
        return last.name if isinstance(last, Last) else ""


class Settled:
    """The values of chains in a graph: those of equal beginnings are the same values."""

    def __init__(self, n_inputs: int) -> None:
        self.graph: Graph = Graph(n_inputs)
        self._made: dict[tuple[int, int], tuple[Part, Value]] = {}

    def value(self, chain: Chain) -> Value:
        """The graph's value of a chain; a softmax at its end is left out."""
        x = chain.start or self.graph.input
        for part in chain.parts:
            if isinstance(part, Last):
                continue
            key = (x.number, id(part))
            if key not in self._made:
                # the part is held: its id is not given to another
                self._made[key] = part, self._applied(part, x)
            x = self._made[key][1]
        return x

    def _applied(self, part: Any, x: Value) -> Value:
        match part:
            case Dense(W):
                return self.graph.affine([(x, layers.Dense(layers.read_only(np.array(W, dtype=np.float64))))])
            case Scale(s):
                return self.graph.scale(x, s)
            case Shift(t):
                return self.graph.shift(x, t)
            case Take(index, _):
                return self.graph.gather(x, index)
        return self.graph.activation(x, part)
