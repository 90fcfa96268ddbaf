"""One-hidden-layer ReLU networks as frozen values."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import FileFormatError, InvalidInputError, OutputError
from certnet.core.files import path_of, write_atomic
from certnet.core.validation import Float, as_inputs, finite_array

__all__ = ["UNITS", "ShallowNetwork", "read_arrays", "require_shallow"]

UNITS: Final = ("as given", "standardised", "raw")
"""Units in which a network takes inputs and gives outputs, and in which its certificate speaks."""

_FORMAT = "certnet-shallow-network-1"
_MAX_FILE_BYTES = 4 << 30
T = TypeVar("T")


@dataclass(frozen=True, eq=False, init=False, repr=False)
class ShallowNetwork:
    r"""``f(x) = V relu(W x + b) + c``, validated once and never changed.

    Parameters
    ----------
    W : array_like, shape (h, d)
        Weights of the hidden layer.
    b : array_like, shape (h,)
        Biases of the hidden layer.
    V : array_like, shape (m, h) or (h,)
        Output weights; one output may be given as a vector.
    c : array_like, shape (m,), or float
        Output biases.
    units : {"as given", "standardised", "raw"}
        What the inputs and outputs are measured in; part of the digest, repeated by every certificate.

    Attributes
    ----------
    W, b, V, c : ndarray of float64, shapes (h, d), (h,), (m, h), (m,)
        Read-only copies. Weights given in float32 are represented exactly.

    Raises
    ------
    InvalidInputError
        Wrong shapes, entries that are NaN, infinite or not real numbers, unknown units.

    Examples
    --------
    >>> import numpy as np
    >>> net = ShallowNetwork(W=[[1.0, 0.0], [0.0, 2.0]], b=[0.0, 0.0], V=[1.0, -1.0], c=0.5)
    >>> net.predict(np.array([[1.0, 1.0]]))
    array([-0.5])
    """

    W: Float
    b: Float
    V: Float
    c: Float
    units: str

    def __init__(self, W: ArrayLike, b: ArrayLike, V: ArrayLike, c: ArrayLike, *, units: str = "as given") -> None:
        W = finite_array(W, "W", ndim=(2,))
        b = finite_array(b, "b", ndim=(1,))
        V = finite_array(V, "V", ndim=(1, 2))
        c = finite_array(c, "c", ndim=(0, 1))
        V = V[None, :] if V.ndim == 1 else V
        c = c[None] if c.ndim == 0 else c
        h, d = W.shape
        if h == 0 or d == 0:
            raise InvalidInputError(f"W has shape {W.shape}: at least one hidden unit and one input are needed")
        if b.shape != (h,):
            raise InvalidInputError(f"b has shape {b.shape}, W has {h} rows: b must have shape ({h},)")
        if V.shape[1] != h or V.shape[0] == 0:
            raise InvalidInputError(f"V has shape {V.shape}, W has {h} rows: V must have shape (m, {h}) or ({h},)")
        if c.shape != (V.shape[0],):
            raise InvalidInputError(f"c has shape {c.shape}, V has {V.shape[0]} rows: one bias per output is needed")
        if units not in UNITS:
            raise InvalidInputError(f"units must be one of {', '.join(map(repr, UNITS))}, got {units!r}")
        for name, array in (("W", W), ("b", b), ("V", V), ("c", c)):
            array += 0.0  # -0.0 becomes 0.0: equal networks have equal digests
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        object.__setattr__(self, "units", units)

    def __repr__(self) -> str:
        return f"ShallowNetwork({self.n_inputs}-{self.n_hidden}-{self.n_outputs}, units={self.units!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ShallowNetwork):
            return NotImplemented
        return self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.W, self.b, self.V, self.c, self.units)

    @property
    def n_inputs(self) -> int:
        return int(self.W.shape[1])

    @property
    def n_hidden(self) -> int:
        return int(self.W.shape[0])

    @property
    def n_outputs(self) -> int:
        return int(self.V.shape[0])

    @property
    def digest(self) -> str:
        """SHA-256 over the shapes, the float64 weights (little-endian) and the units, in hexadecimal."""
        sha = hashlib.sha256(f"{_FORMAT}|{self.W.shape}|{self.V.shape}|{self.units}|".encode())
        for array in (self.W, self.b, self.V, self.c):
            sha.update(array.astype("<f8").tobytes())
        return sha.hexdigest()

    def forward(self, X: ArrayLike) -> Float:
        """``f`` at every row of X (N, d), as an (N, m) array."""
        X = as_inputs(X, self.n_inputs)
        return np.maximum(X @ self.W.T + self.b, 0.0) @ self.V.T + self.c

    def predict(self, X: ArrayLike) -> Float:
        """``f`` at every row of X (N, d): shape (N,) for one output, else (N, m)."""
        values = self.forward(X)
        return values[:, 0] if self.n_outputs == 1 else values

    def preactivations(self, X: ArrayLike) -> Float:
        """``X Wᵀ + b``, shape (N, h)."""
        return as_inputs(X, self.n_inputs) @ self.W.T + self.b

    def patterns(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Activation patterns ``1[w_jᵀ x + b_j ≥ 0]``, shape (N, h)."""
        return self.preactivations(X) >= 0.0

    def gradients(self, X: ArrayLike) -> Float:
        """Jacobians ``V diag(pattern) W`` at every row of X, shape (N, m, d).

        On the boundary of a pattern this is the Jacobian of the piece with ``≥``.
        """
        return np.einsum("mh,nh,hd->nmd", self.V, self.patterns(X).astype(np.float64), self.W, optimize=True)

    def product_weights(self) -> tuple[Float, Float]:
        """Product weights ``u_j = |v_j| (w_j, b_j)``, shape (h, d+1), and signs s (h,), for one output.

        ``f(x) = Σ_j s_j relu(u_jᵀ (x, 1)) + c``; ``s_j = 1`` where ``v_j ≥ 0``, else −1 (Y, section 3.1).

        Raises
        ------
        InvalidInputError
            The network has several outputs.
        """
        if self.n_outputs != 1:
            raise InvalidInputError(f"product weights are defined for one output, the network has {self.n_outputs}")
        v = self.V[0]
        U = np.abs(v)[:, None] * np.column_stack([self.W, self.b])
        return U, np.where(v >= 0.0, 1.0, -1.0)

    def rescaled(
        self, *, x_shift: ArrayLike, x_scale: ArrayLike, y_shift: ArrayLike, y_scale: ArrayLike, units: str = "raw"
    ) -> ShallowNetwork:
        """The network ``x ↦ y_scale · f((x − x_shift) / x_scale) + y_shift`` with the scaling folded into its weights.

        Shifts and scales of the inputs have shape (d,) or (), of the outputs (m,) or (). The folded weights are
        rounded to float64; a certificate of the result speaks of these stored weights.

        Raises
        ------
        InvalidInputError
            A scale is zero, or the folded weights overflow.
        """
        d, m = self.n_inputs, self.n_outputs
        x_shift, x_scale = (_one_per(a, d, "x scaling", "input") for a in (x_shift, x_scale))
        y_shift, y_scale = (_one_per(a, m, "y scaling", "output") for a in (y_shift, y_scale))
        if not np.all(x_scale) or not np.all(y_scale):
            raise InvalidInputError("a scale is zero: a constant column must have scale 1")
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by the new network
            W = self.W / x_scale
            b = self.b - W @ x_shift
            V, c = y_scale[:, None] * self.V, y_scale * self.c + y_shift
        return ShallowNetwork(W, b, V, c, units=units)

    def labelled(self, units: str) -> ShallowNetwork:
        """The same weights with another statement of what they are measured in; nothing is converted."""
        return ShallowNetwork(self.W, self.b, self.V, self.c, units=units)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the network to an ``.npz`` file (bit-exact, no pickles), complete or not at all.

        Raises
        ------
        OutputError
            The file exists (and ``force`` is false) or cannot be written.
        """
        if path_of(path).suffix.lower() != ".npz":
            raise OutputError(f"{path}: a network is written to a file with the suffix .npz")
        buffer = io.BytesIO()
        np.savez(buffer, format=np.array(_FORMAT), units=np.array(self.units), W=self.W, b=self.b, V=self.V, c=self.c)
        return write_atomic(path, buffer.getvalue(), force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ShallowNetwork:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileFormatError
            The file is missing, truncated, too large, or not a certnet network.
        """
        return read_arrays(path, cls.from_arrays)

    @classmethod
    def from_arrays(cls, file: Mapping[str, Any], source: Path) -> ShallowNetwork:
        """The network in the arrays of an ``.npz`` file; ``source`` is for messages."""
        written = str(file["format"]) if "format" in file else _FORMAT
        if written.startswith("certnet-lifted"):
            raise FileFormatError(
                f"{source} holds a lifted network: LiftedNetwork.load reads it, `certnet lifted certify` bounds it"
            )
        if written != _FORMAT:
            raise FileFormatError(
                f"{source} has the format {written[:60]!r}: this version of certnet reads {_FORMAT!r}"
            )
        missing = [name for name in ("W", "b", "V", "c") if name not in file]
        if missing:
            raise FileFormatError(f"{source} lacks {', '.join(missing)}: a certnet network has W, b, V and c")
        units = str(file["units"]) if "units" in file else "as given"
        return cls(file["W"], file["b"], file["V"], file["c"], units=units)


def read_arrays(path: str | os.PathLike[str], parse: Callable[[Mapping[str, Any], Path], T]) -> T:
    """``parse(arrays, path)`` of an ``.npz`` file, read without pickles; whatever is wrong is a FileFormatError."""
    source = path_of(path)
    try:
        if source.stat().st_size > _MAX_FILE_BYTES:
            raise FileFormatError(f"{source} is larger than {_MAX_FILE_BYTES >> 30} GiB: not a network of certnet")
        with source.open("rb") as handle:
            file = np.load(handle, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise FileFormatError(f"{source} holds one array, not a certnet network (.npz with W, b, V, c)")
            return parse(file, source)
    except FileFormatError:
        raise
    except InvalidInputError as error:
        raise FileFormatError(f"{source} holds no valid network: {error}") from error
    except FileNotFoundError as error:
        raise FileFormatError(f"{source} does not exist: check the path") from error
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        RuntimeError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        detail = "" if "pickle" in str(error) else f": {error}"  # NumPy recommends to load pickles unsafely
        raise FileFormatError(
            f"{source} is not a readable .npz file (truncated or of another format){detail}"
        ) from error


def require_shallow(network: object) -> ShallowNetwork:
    """``network``, if it is one; otherwise an InvalidInputError that says how to get one."""
    if isinstance(network, ShallowNetwork):
        return network
    raise InvalidInputError(
        f"a ShallowNetwork is needed, got {type(network).__name__}: convert models with certnet.from_sklearn or "
        "certnet.from_torch first (a FeedForward with one hidden ReLU layer with .shallow())"
    )


def _one_per(values: ArrayLike, n: int, name: str, what: str) -> Float:
    array = finite_array(values, name, ndim=(0, 1))
    if array.ndim == 1 and array.shape != (n,):
        raise InvalidInputError(f"{name} has shape {array.shape}: one number, or one per {what} ({n}), is needed")
    return np.broadcast_to(array, (n,))


def _rebuild(W: Float, b: Float, V: Float, c: Float, units: str) -> ShallowNetwork:
    return ShallowNetwork(W, b, V, c, units=units)
