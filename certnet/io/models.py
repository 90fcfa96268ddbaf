"""Model files for the command line, read and written by their suffix."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from certnet.core.errors import FileFormatError, OutputError
from certnet.core.files import path_of
from certnet.io.networks import simplest
from certnet.io.onnx_ import load_onnx, save_onnx
from certnet.io.paths import readable_file
from certnet.io.torch_ import load_torch, save_torch
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["SUFFIXES", "WITHOUT_UNITS", "load_model", "save_model"]

_PICKLES: Final = (".pkl", ".pickle", ".joblib", ".dill")
_READERS: Final[dict[str, Callable[[Path], ShallowNetwork | FeedForward]]] = {
    ".npz": lambda path: simplest(FeedForward.load(path)),
    ".onnx": lambda path: simplest(load_onnx(path)),
    ".pt": load_torch,
    ".pth": load_torch,
}
SUFFIXES: Final = tuple(_READERS)
"""Suffixes of the model files that certnet reads and writes."""
WITHOUT_UNITS: Final = tuple(suffix for suffix in SUFFIXES if suffix != ".npz")
"""Suffixes of files that do not say in what units a network is: read back, it is "as given"."""


def load_model(path: str | os.PathLike[str]) -> ShallowNetwork | FeedForward:
    """The network in a file: ``.npz`` of ``save``, ``.onnx``, ``.pt`` or ``.pth`` with a PyTorch state dict.

    The suffix decides (in either case of letters); nothing in the file is executed. A network with one hidden layer
    and ReLU is a :class:`~certnet.networks.shallow.ShallowNetwork`, any other a
    :class:`~certnet.networks.feedforward.FeedForward`.

    Raises
    ------
    FileFormatError
        The file is missing, a folder, empty, of another suffix, not what its suffix says, or a pickle.
    InvalidInputError
        The weights in the file are NaN or infinite, or do not fit together.
    UnsupportedModelError
        The state dict is not that of two linear layers, or the ONNX model no feed-forward network that certnet reads.
    MissingDependencyError
        The file is a PyTorch or ONNX file and PyTorch or onnx is not installed.
    """
    source = readable_file(path)
    suffix = source.suffix.lower()
    if suffix in _PICKLES:
        raise FileFormatError(
            f"{source} is a pickle, and unpickling runs whatever code the file holds: convert it where it was made, "
            'with certnet.from_sklearn(model).save("model.npz"), and name that file'
        )
    if suffix not in _READERS:
        raise FileFormatError(
            f"{source} has the suffix {suffix!r}: certnet reads .npz (written by a network's save), .onnx, "
            "and .pt or .pth (a PyTorch state dict)"
        )
    return _READERS[suffix](source)


def save_model(network: ShallowNetwork | FeedForward, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write ``network`` as ``.npz``, as ``.onnx``, or as a PyTorch state dict (``.pt``, ``.pth``).

    Only ``.npz`` keeps the units. A state dict keeps no activations and is written of one hidden ReLU layer only.

    Raises
    ------
    OutputError
        Another suffix; the file exists (and ``force`` is false) or cannot be written.
    UnsupportedModelError
        The format cannot express the network.
    MissingDependencyError
        A PyTorch or ONNX file is asked for and PyTorch or onnx is not installed.
    """
    suffix = path_of(path).suffix.lower()
    if suffix == ".npz":
        return network.save(path, force=force)
    if suffix == ".onnx":
        return save_onnx(network, path, force=force)
    if suffix in SUFFIXES:
        return save_torch(network, path, force=force)
    raise OutputError(f"{path} has the suffix {suffix!r}: name a file with {', '.join(SUFFIXES)}")
