"""The walk over an ONNX graph where paths of the data part and meet: values, their shapes, and what they may cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import FileFormatError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.affine import Dense, Scale, Shift, Step
from certnet.io.graphs import Graph, Value
from certnet.io.onnx_chain import Chain
from certnet.io.onnx_chain import Graph as File
from certnet.io.onnx_constants import Node
from certnet.networks import layers
from certnet.networks.activations import Activation

__all__ = ["Data", "Reader", "Walk", "only"]

_MAX_FEATURES: Final = 1 << 25
"""Most numbers of all values of one sample together: a small file may ask for large images."""
_MAX_PRODUCTS: Final = 1 << 33
"""Most products of numbers for one sample: seconds of work for every evaluation."""
_MAX_PARTS: Final = 1 << 10
"""Most values that one is concatenated of."""

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Data:
    """A value of the file that depends on the input.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of one sample, without the batch.
    value : Value or None
        None for a part of a formula that has no meaning alone, such as ``x²``.
    node : Node or None
        What made it; None for the input.
    formulas : mapping
        From values that it is an elementwise function of, to that function.
    left_out : tuple of two str, or ()
        A softmax that is left out at the end, and the value that it is taken of.
    """

    name: str
    shape: tuple[int, ...]
    value: Value | None
    node: Node | None = None
    formulas: Mapping[Data, Any] = field(default_factory=dict, repr=False)
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def places(self) -> Index:
        """The numbers of a sample's entries, in its shape."""
        return np.arange(self.size).reshape(self.shape)


class Walk:
    """Values by name, made in the order of the file's nodes; every one is counted before it is made."""

    def __init__(self, file: File) -> None:
        self.chain: Chain = Chain(file, in_pieces=True)
        shape = tuple(n for n in self.chain.shape if n is not None)
        if self.chain.single or not shape:
            raise UnsupportedModelError("the input has no batch dimension: export the model for inputs [N, ...]")
        if len(shape) != len(self.chain.shape):
            sizes = ["N", *("?" if n is None else n for n in self.chain.shape)]
            raise UnsupportedModelError(
                f"the input has the shape [{', '.join(map(str, sizes))}]: with convolutions, skips or moves of entries "
                "only the first dimension, the batch, may be open; export the model with a fixed size of its samples"
            )
        self._features = self._products = 0
        self.effort: float = 0.0
        self.room(shape, "the input")
        self.graph: Graph = Graph(math.prod(shape))
        self.known: dict[str, Data] = {file.input: Data(file.input, shape, self.graph.input)}

    # ---------------------------------------------------------------------------------------------------- what it costs

    def room(self, shape: Sequence[int], where: object, times: int = 1) -> None:
        """Count a value of this shape, so many times, before it is made."""
        if min(shape, default=1) < 1:
            raise FileFormatError(f"{where} gives a value of shape {list(shape)}, without an entry")
        self._features += math.prod(shape) * times
        self.effort += math.prod(shape) * 1e-8
        if self._features > _MAX_FEATURES:
            raise UnsupportedModelError(
                f"{where} gives samples of shape {list(shape)[:8]}: with those before it the model has values of more "
                f"than {_MAX_FEATURES} numbers"
            )

    def multiply(self, products: int, where: object) -> None:
        """Count the products of a convolution or matrix."""
        self._products += products
        self.effort += products * 2e-9
        if self._products > _MAX_PRODUCTS:
            raise UnsupportedModelError(f"{where}: the model makes more than {_MAX_PRODUCTS} products for a sample")

    # ------------------------------------------------------------------------------------------------------- new values

    def made(self, node: Node, shape: Sequence[int], value: Value) -> Data:
        """What a node gives; room for it has been counted."""
        if math.prod(shape) != value.size:
            raise FileFormatError(f"{node} gives {value.size} numbers for samples of shape {list(shape)[:8]}")
        if len(value.parts) > _MAX_PARTS:
            raise UnsupportedModelError(f"{node} is concatenated of more than {_MAX_PARTS} values")
        if value.parts:  # each part is kept, with its place among the others
            self.room((value.size,), node, len(value.parts))
        return Data(node.output, tuple(shape), value, node)

    def moved(self, node: Node, x: Data, index: Index) -> Data:
        """Entries of x at other places, in the shape of the index; 0 where it is −1."""
        return self.made(node, index.shape, self.graph.gather(self.value(x, node), index))

    def value(self, x: Data, node: Node) -> Value:
        """The graph's value of x.

        Raises
        ------
        UnsupportedModelError
            x is a part of a formula that has no meaning alone.
        """
        if x.value is None:
            raise UnsupportedModelError(
                f"{node} takes what {x.node} gives, which is no activation that certnet knows, nor a part of one: data "
                "are multiplied by data, or a function of them is taken that has no proved slopes"
            )
        return x.value

    def through_chain(self, node: Node, x: Data, read: Callable[[Chain, Node], None]) -> Data:
        """What an operator gives that works on one value, as one of a chain would."""
        chain = self.chain
        value = self.value(x, node)
        chain.begin(x.name, x.shape)
        read(chain, node)
        shape = tuple(n or 0 for n in chain.shape)
        self.room(shape, node)
        for piece in chain.taken():
            value = self._applied(piece, value)
        return self.made(node, shape, value)

    def _applied(self, piece: Step | Activation, value: Value) -> Value:
        match piece:
            case Dense(W):
                held = layers.Dense(layers.read_only(np.array(W, dtype=np.float64)))
                self.multiply(W.size, "a matrix")
                return self.graph.affine([(value, held)])
            case Scale(s):
                return self.graph.scale(value, s)
            case Shift(t):
                return self.graph.shift(value, t)
        return self.graph.activation(value, piece)

    # -------------------------------------------------------------------------------------------------------- constants

    def constant_of(self, node: Node, position: int, shape: Sequence[int]) -> Float:
        """The constant at a position beside samples of this shape: one number, or one for each entry."""
        self.chain.begin("", tuple(shape))
        return self.chain.per_feature(self.chain.constant(node, position), node)

    def integers(self, node: Node, position: int, attribute: str) -> list[int] | None:
        """A list of whole numbers, in an input or, in older files, an attribute; None where there is none."""
        if attribute in node.attributes:
            said = node.attributes[attribute]
            return [int(n) for n in (said if isinstance(said, tuple) else (said,))]
        if not node.input(position):
            return None
        found = self.chain.sizes(node, position)
        if None in found:
            raise UnsupportedModelError(f"{node} depends on the number of samples")
        return [n for n in found if n is not None]

    def axes(self, node: Node, position: int, x: Data, *, more: int = 0) -> list[int] | None:
        """Axes that a node names, from 0 for the first of a sample; None where it names none."""
        said = self.integers(node, position, "axes")
        return None if said is None else [self.axis(node, axis, x, more=more) for axis in said]

    def axis(self, node: Node, axis: int, x: Data, *, more: int = 0) -> int:
        """An axis of a batch as one of its samples; ``more`` are those that the node adds.

        Raises
        ------
        UnsupportedModelError
            It is the batch.
        FileFormatError
            There is no such axis.
        """
        ndim = len(x.shape) + 1 + more
        if not -ndim <= axis < ndim:
            raise FileFormatError(f"{node} names the axis {axis} of a value with {ndim}")
        if axis % ndim == 0:
            raise UnsupportedModelError(f"{node} works along the batch: samples must be computed each alone")
        return axis % ndim - 1


Reader = Callable[[Walk, Node, Sequence[Data]], list[Data]]
"""What an operator makes of the data among its inputs: one value, or several."""


def only(node: Node, data: Sequence[Data]) -> Data:
    """The data of a node, which must be its first input and no other.

    Raises
    ------
    UnsupportedModelError
        Data are multiplied by data, or sizes depend on them.
    """
    if len(data) != 1 or node.inputs[0] != data[0].name or node.inputs.count(data[0].name) != 1:
        raise UnsupportedModelError(
            f"{node} must take the data first, and constants: data that are multiplied by data, as in attention, have "
            "no bounded slope, and sizes must not depend on data"
        )
    return data[0]
