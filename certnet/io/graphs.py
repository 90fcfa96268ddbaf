"""Graphs of a sample's values, where paths of the data part and meet, turned into a chain of layers.

A chain of layers ``x_{k+1} = φ_k(A_k x_k + b_k)`` has no skip connections, but a layer may carry units past its
activation. So the state between two layers is the list of the values that are needed later: a residual block
``y + A φ(B y + b)`` is a layer with the operator (B; I), whose last units are carried, and whatever follows takes
(φ, y) with the operator (A, I). No two matrices are multiplied: where one follows another a layer with the identity
activation stands between them (:mod:`certnet.io.compositions` says what is folded).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.compositions import composed
from certnet.io.schedules import chain_of
from certnet.io.values import Value
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.layers import LinearOperator, read_only
from certnet.networks.operators import Diagonal, Gather, Identity, Sparse

__all__ = ["MAX_WINDOW", "Graph", "Index", "Value", "windows"]

MAX_WINDOW: Final = 64
"""Most entries of a window of max pooling: each is compared with another by a hidden unit."""

Index = NDArray[np.int64]


class Graph:
    """A graph of one sample's values, each flattened in row-major order; values are made in the order of their use.

    Parameters
    ----------
    n_inputs : int
        Numbers of a sample.

    Examples
    --------
    >>> from certnet.networks.layers import Dense
    >>> import numpy as np
    >>> graph = Graph(2)
    >>> x = graph.input
    >>> h = graph.activation(graph.affine([(x, Dense(np.eye(2)))]), Activation("relu"))
    >>> net = graph.network(graph.add(x, h))
    >>> net.predict(np.array([[1.0, -1.0]]))
    array([[ 2., -1.]])
    """

    def __init__(self, n_inputs: int) -> None:
        self._made: list[Value] = []
        self._input = self._new(n_inputs)

    @property
    def input(self) -> Value:
        return self._input

    def _new(
        self,
        size: int,
        terms: Sequence[tuple[Value, LinearOperator]] = (),
        bias: Float | None = None,
        phi: Activation | None = None,
        *,
        parts: Sequence[Value] = (),
        kept: bool = False,
    ) -> Value:
        value = Value(len(self._made), size, tuple(terms), bias, phi, tuple(parts), kept)
        self._made.append(value)
        return value

    def _checked(self, x: Value) -> Value:
        if not isinstance(x, Value) or x.number >= len(self._made) or self._made[x.number] is not x:
            raise InvalidInputError("a value of another graph")
        return x

    # --------------------------------------------------------------------------------------------------- linear maps

    def affine(self, terms: Sequence[tuple[Value, LinearOperator]], bias: Float | None = None) -> Value:
        """``Σ_i A_i x_i + b``; terms are pairs (x_i, A_i)."""
        return self._affine(terms, bias)

    def _affine(
        self, terms: Sequence[tuple[Value, LinearOperator]], bias: Float | None = None, *, kept: bool = False
    ) -> Value:
        sizes = {A.n_outputs for _, A in terms} | ({len(bias)} if bias is not None else set())
        if not terms or len(sizes) != 1 or any(self._checked(x).size != A.n_inputs for x, A in terms):
            raise InvalidInputError("the operators, values and the bias of an affine map do not fit together")
        (size,) = sizes
        b = None if bias is None or not np.any(bias) else read_only(np.array(bias, dtype=np.float64))
        if len(terms) == 1 and b is None and isinstance(terms[0][1], Identity) and not kept:
            return terms[0][0]
        return self._new(size, terms, b, kept=kept)

    def add(self, *values: Value) -> Value:
        """``x + y + …``: skip connections; twice the same value is two times it."""
        return self.affine([(x, Identity(x.size)) for x in values])

    def subtract(self, x: Value, y: Value) -> Value:
        """``x − y``."""
        return self.affine([(x, Identity(x.size)), (y, _minus(y.size))])

    def scale(self, x: Value, factors: Float) -> Value:
        """``factors ∘ x``, with one factor or one for each entry; folded into the numbers of what is before it."""
        factors = _spread(factors, x)
        if (factors == 1.0).all():
            return self._checked(x)
        if x.parts:
            return self.concatenate(*(self.scale(part, f) for part, f in zip(x.parts, _split(factors, x.parts))))
        return self.affine([(x, Diagonal(factors))])

    def shift(self, x: Value, offsets: Float) -> Value:
        """``x + offsets``, with one number or one for each entry."""
        offsets = _spread(offsets, x)
        if x.parts:
            return self.concatenate(*(self.shift(part, t) for part, t in zip(x.parts, _split(offsets, x.parts))))
        return self.affine([(x, Identity(x.size))], offsets)

    def concatenate(self, *values: Value) -> Value:
        """The entries of the values one after another."""
        parts = [part for x in values for part in (self._checked(x).parts or (x,))]
        if len(parts) == 1:
            return parts[0]
        n, at, terms = sum(part.size for part in parts), 0, []
        for part in parts:
            index = np.full(n, -1)
            index[at : at + part.size] = np.arange(part.size)
            terms.append((part, Gather(index, part.size)))
            at += part.size
        return self._new(n, terms, parts=parts)

    def gather(self, x: Value, index: Index) -> Value:
        """``x[index]``, 0 where the index is −1: permutations, slices, padding with zeros, upsampling."""
        index = np.asarray(index, dtype=np.int64).ravel()
        if np.array_equal(index, np.arange(x.size)):
            return self._checked(x)
        return self.affine([(x, Gather(index, x.size))])

    # --------------------------------------------------------------------------------------------------- activations

    def activation(self, x: Value, phi: Activation) -> Value:
        """φ(x), entry by entry."""
        if phi.name == "identity":
            return self._checked(x)
        if x.parts:  # so that each part is computed where its own value is
            return self.concatenate(*(self.activation(part, phi) for part in x.parts))
        return self._new(x.size, [(self._checked(x), Identity(x.size))], phi=phi)

    def maximum(self, x: Value, y: Value) -> Value:
        """``max(x, y) = y + relu(x − y)``, entry by entry."""
        return self.add(y, self.activation(self.subtract(x, y), Activation("relu")))

    def minimum(self, x: Value, y: Value) -> Value:
        """``min(x, y) = y − relu(y − x)``, entry by entry."""
        return self.subtract(y, self.activation(self.subtract(y, x), Activation("relu")))

    def max_pool(self, x: Value, index: Index) -> Value:
        """``y_i = max over k of x[index[i, k]]``, index of shape (outputs, window); −1 takes no part.

        A tree of ``max(a, b) = b + relu(a − b)``: exact, and every slope is in [0, 1]. Pairs that windows share are
        compared once.

        Raises
        ------
        UnsupportedModelError
            A window of more than :data:`MAX_WINDOW` entries, or one without an entry.
        """
        index = np.asarray(index, dtype=np.int64)
        if index.shape[1] > MAX_WINDOW:
            raise UnsupportedModelError(
                f"max pooling over windows of {index.shape[1]} entries: each is compared with another by a hidden "
                f"unit, and {MAX_WINDOW} are read at most"
            )
        if (index < 0).all(axis=1).any():
            raise UnsupportedModelError("max pooling has a window without an entry")
        w: list[tuple[Value, LinearOperator]] = [(self._checked(x), Identity(x.size))]
        n = x.size
        while index.shape[1] > 1:
            w, n, index = self._halved(w, n, index)
        return self.affine(_taken(Gather(index[:, 0], n), w))

    def _halved(
        self, w: list[tuple[Value, LinearOperator]], n: int, index: Index
    ) -> tuple[list[tuple[Value, LinearOperator]], int, Index]:
        """One level of the tree: w, of n entries, is the sum of its terms; so is the result."""
        if index.shape[1] % 2:
            index = np.pad(index, ((0, 0), (0, 1)), constant_values=-1)
        a, b = np.minimum(index[:, 0::2], index[:, 1::2]), np.maximum(index[:, 0::2], index[:, 1::2])
        a = np.where(a < 0, b, a)  # one alone is the larger of itself and itself
        pairs, place = np.unique(np.stack([a.ravel(), b.ravel()], axis=1), axis=0, return_inverse=True)
        if pairs[0, 0] < 0:  # pairs without an entry take no part further on
            pairs, place = pairs[1:], place.reshape(a.shape) - 1
        place = np.asarray(place).reshape(a.shape)
        two = np.flatnonzero(pairs[:, 0] != pairs[:, 1])
        base = self._affine(_taken(Gather(pairs[:, 1], n), w), kept=True)
        terms: list[tuple[Value, LinearOperator]] = [(base, Identity(base.size))]
        if len(two):
            rows = np.arange(len(two))
            signs = np.ones(len(two))
            difference = Sparse(
                np.concatenate([rows, rows]), pairs[two].T.ravel(), np.concatenate([signs, -signs]), len(two), n
            )
            larger = self.activation(self.affine(_taken(difference, w)), Activation("relu"))
            back = np.full(len(pairs), -1)
            back[two] = rows
            terms.append((larger, Gather(back, len(two))))
        return terms, len(pairs), place

    # -------------------------------------------------------------------------------------------------- the network

    def network(self, output: Value, *, units: str = "as given") -> FeedForward:
        """The chain of layers that computes ``output``; values that do not lead to it are left out.

        Raises
        ------
        UnsupportedModelError
            ``output`` does not depend on the input, or is one linear map of it.
        """
        return FeedForward.chain(chain_of(self._checked(output), self._input), units=units)


def windows(
    image: Sequence[int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
) -> tuple[Index, tuple[int, int, int]]:
    """What windows of flattened images (channels, height, width) see: an index (outputs, window), and the new image.

    Places in the padding are −1.
    """
    c, high, wide = image
    at = np.arange(c * high * wide).reshape(c, high, wide)
    at = np.pad(at, ((0, 0), *padding), constant_values=-1)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    if min(n - r for n, r in zip(at.shape[1:], reach)) < 0:
        raise UnsupportedModelError(f"a window of {kernel} does not fit an image of {(high, wide)}")
    seen = np.lib.stride_tricks.sliding_window_view(at, reach, axis=(1, 2))  # type: ignore[call-overload]
    seen = seen[:, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    return seen.reshape(-1, kernel[0] * kernel[1]), (c, seen.shape[1], seen.shape[2])


def _minus(n: int) -> Diagonal:
    return Diagonal(read_only(np.full(n, -1.0)))


def _taken(A: LinearOperator, w: Sequence[tuple[Value, LinearOperator]]) -> list[tuple[Value, LinearOperator]]:
    """A of a sum; all operators have few entries, and their product is made."""
    return [(x, AB) for x, B in w if (AB := composed(A, B)) is not None]


def _spread(numbers: Float, x: Value) -> Float:
    array = np.array(numbers, dtype=np.float64).ravel()
    if array.size not in (1, x.size):
        raise InvalidInputError(f"{array.size} numbers for a value of {x.size} entries")
    return read_only(np.array(np.broadcast_to(array, (x.size,))))


def _split(array: Float, parts: Sequence[Value]) -> list[Float]:
    return np.split(array, np.cumsum([part.size for part in parts])[:-1])
