"""Networks from bare lists of matrices: what a file does not say, the user does."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from certnet.core.errors import FileFormatError, InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float, finite_array
from certnet.io.networks import simplest, summary
from certnet.networks.about import About
from certnet.networks.activations import Activation
from certnet.networks.arrays import read_arrays
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["Activations", "load_npz", "network_of_lists"]

Activations = str | Activation | Sequence[Any]

_NAME: Final = re.compile(r"(?P<stem>[A-Za-z_.\-/ ]*?)[_.\-/ ]?(?P<number>\d{1,4})(?P<rest>[A-Za-z_.\-/ ]*)\Z")
_WEIGHTS: Final = ("w", "weight", "weights", "kernel", "fc", "layer", "coef", "coefs", "lin", "linear", "dense")
_BIASES: Final = ("b", "bias", "biases", "intercept", "intercepts")


def load_npz(
    path: str | os.PathLike[str],
    *,
    activation: Activations | None = None,
    layers: Sequence[str] | None = None,
    units: str | None = None,
) -> ShallowNetwork | FeedForward:
    """The network in an ``.npz`` file: of ``save``, or a list of matrices ``W1, b1, W2, …``, ``arr_0, arr_1, …``.

    Parameters
    ----------
    activation : str, or one for each hidden layer
        Asked for where the file is a list of matrices, which does not say it.
    layers : sequence of str, optional
        Names of the matrices in the order of their use.
    units : str, optional
        Of a list of matrices; a saved network says its own.

    Raises
    ------
    FileFormatError, UnsupportedModelError, InvalidInputError
    """

    def parse(file: Mapping[str, Any], source: Path) -> ShallowNetwork | FeedForward | tuple[dict[str, Any], Path]:
        own = "format" in file or {"W", "b", "V", "c"} <= set(file) or "estimator" in file
        if not own and any(_numbered(name) for name in file) and len(file) <= 4096:
            return {name: file[name] for name in file}, source
        return simplest(FeedForward.from_arrays(file, source))

    found = read_arrays(path, parse)
    if not isinstance(found, tuple):
        if activation is not None or layers is not None:
            raise InvalidInputError(
                f"{path} is a network that certnet saved, and says its activations and layers: leave out activation "
                "and layers"
            )
        return found if units is None else found.labelled(units)
    arrays, source = found
    try:
        weights, biases = _sorted_lists(arrays, layers)
        return network_of_lists(weights, biases, activation, units or "as given")
    except (FileFormatError, UnsupportedModelError, InvalidInputError) as error:
        raise type(error)(f"{source}: {error}") from error


def network_of_lists(
    weights: Mapping[str, Any],
    biases: Mapping[str, Any],
    activation: Activations | None,
    units: str,
    *,
    transposed: bool | None = None,
) -> ShallowNetwork | FeedForward:
    """The network of matrices in their order, shapes (outputs, inputs) or all (inputs, outputs), and biases or none.

    Parameters
    ----------
    weights, biases : mapping of str to array
        By name, in the order of their use; no biases are zero ones.
    transposed : bool, optional
        Are the matrices (inputs, outputs)? By default the shapes tell it.

    Raises
    ------
    UnsupportedModelError
        No activation is given, or the shapes fit both ways round.
    InvalidInputError
        They fit no way round.
    """
    matrices = {name: finite_array(W, name, ndim=(2,)) for name, W in weights.items()}
    vectors = [_vector(b, name) for name, b in biases.items()]
    if len(matrices) < 2:
        raise UnsupportedModelError(f"it holds {len(matrices)} matrices: a hidden layer and an output layer are needed")
    if vectors and len(vectors) != len(matrices):
        raise UnsupportedModelError(f"it holds {len(matrices)} matrices and {len(vectors)} biases: one each, or none")
    if activation is None:
        sizes = ", ".join(f"{name} {W.shape}" for name, W in list(matrices.items())[:8])
        raise UnsupportedModelError(
            f"it holds matrices ({sizes}) and does not say the activations between them: say which, as in "
            'load_model(path, activation="relu") or, in a shell, --activation relu'
        )
    Ws = list(matrices.values())
    fits = [_chains(Ws, vectors), _chains([W.T for W in Ws], vectors)]
    if transposed is None:
        if all(fits):
            raise UnsupportedModelError(
                "its matrices fit as (outputs, inputs) and as (inputs, outputs): write them by FeedForward(...).save, "
                "which says which"
            )
        transposed = fits[1]
    if not fits[transposed]:
        raise InvalidInputError(
            f"its matrices {', '.join(str(W.shape) for W in Ws[:8])} "
            f"{'and biases ' if vectors else ''}do not fit one behind the other"
        )
    Ws = [np.ascontiguousarray(W.T) for W in Ws] if transposed else Ws
    bs = vectors or [np.zeros(len(W)) for W in Ws]
    network = FeedForward(Ws, bs, activation, units=units)
    remarks = [] if vectors else ["the file has no biases: they are taken as zero"]
    if transposed:
        remarks.append("its matrices are stored as (inputs, outputs)")
    names = list(matrices) if len(matrices) <= 6 else [*list(matrices)[:3], "…", list(matrices)[-1]]
    return simplest(network.described(About(f"{summary(network)}, from {', '.join(names)}", (), (), tuple(remarks))))


def _vector(b: Any, name: str) -> Float:
    array = finite_array(b, name, ndim=(0, 1, 2))
    if array.ndim == 2 and 1 not in array.shape:
        raise InvalidInputError(f"{name} has shape {array.shape}: a bias is a vector")
    return array.reshape(-1)


def _chains(Ws: Sequence[Float], bs: Sequence[Float]) -> bool:
    return all(V.shape[1] == W.shape[0] for W, V in pairwise(Ws)) and all(len(b) == len(W) for W, b in zip(Ws, bs))


def _numbered(name: str) -> tuple[str, int] | None:
    """The kind of an array, "w", "b" or "arr", and its number, as the name tells them."""
    match = _NAME.match(name)
    if match is None:
        return None
    words = {match["stem"].lower().strip("_.-/ "), match["rest"].lower().strip("_.-/ ")} - {""}
    if words & set(_BIASES):
        return "b", int(match["number"])
    if words == {"arr"}:
        return "arr", int(match["number"])
    return ("w", int(match["number"])) if words & set(_WEIGHTS) else None


def _sorted_lists(arrays: Mapping[str, Any], layers: Sequence[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Matrices and biases by name, in the order of the numbers in their names, or of ``layers``."""
    kinds = {name: _numbered(name) for name in arrays}
    if layers is not None:
        if missing := [name for name in layers if name not in arrays]:
            raise InvalidInputError(f"it has no array {missing[0]!r}: it has {', '.join(list(arrays)[:12])}")
        numbers = [kinds[name] for name in layers]
        biases = {kind[1]: name for name, kind in kinds.items() if kind is not None and kind[0] == "b"}
        chosen = [biases[n[1]] for n in numbers if n is not None and n[1] in biases]
        return {name: arrays[name] for name in layers}, {name: arrays[name] for name in chosen}
    if strange := [name for name, kind in kinds.items() if kind is None]:
        raise UnsupportedModelError(
            f"its array {strange[0][:60]!r} is neither a matrix W1, W2, … nor a bias b1, b2, …: say the order by layers"
        )
    ordered = sorted(arrays, key=lambda name: (kinds[name] or ("", 0))[1])
    kind_of = {name: (kinds[name] or ("", 0))[0] for name in ordered}
    if "arr" in kind_of.values():  # numpy.savez(path, W1, b1, W2, b2), or without the biases
        kind_of = {name: "w" if np.ndim(arrays[name]) == 2 else "b" for name in ordered}
    ws, bs = ([name for name in ordered if kind_of[name] == kind] for kind in "wb")
    for names in (ws, bs):
        if len({kinds[name] for name in names}) != len(names):
            raise UnsupportedModelError(f"two of its arrays have the same number ({', '.join(names[:8])}): say layers")
    return {name: arrays[name] for name in ws}, {name: arrays[name] for name in bs}
