"""Model files for the command line, read and written by their suffix."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from certnet.errors import FileFormatError, OutputError
from certnet.io.paths import readable_file
from certnet.io.torch_ import load_torch, save_torch
from certnet.network import ShallowNetwork

__all__ = ["TORCH_SUFFIXES", "load_model", "save_model"]

_PICKLES: Final = (".pkl", ".pickle", ".joblib", ".dill")
TORCH_SUFFIXES: Final = (".pt", ".pth")
_READERS: Final = {".npz": ShallowNetwork.load, ".pt": load_torch, ".pth": load_torch}


def load_model(path: str | os.PathLike[str]) -> ShallowNetwork:
    """The network in a file: ``.npz`` of :meth:`ShallowNetwork.save`, ``.pt`` or ``.pth`` with a PyTorch state dict.

    The suffix decides (in either case of letters); nothing in the file is executed.

    Raises
    ------
    FileFormatError
        The file is missing, a folder, empty, of another suffix, not what its suffix says, or a pickle.
    InvalidInputError
        The weights in the file are NaN or infinite, or do not fit together.
    UnsupportedModelError
        The state dict is not that of two linear layers.
    MissingDependencyError
        The file is a PyTorch file and PyTorch is not installed.
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
            f"{source} has the suffix {suffix!r}: certnet reads .npz (written by ShallowNetwork.save) "
            "and .pt or .pth (a PyTorch state dict)"
        )
    return _READERS[suffix](source)


def save_model(network: ShallowNetwork, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write ``network`` as ``.npz``, or as a PyTorch state dict (``.pt``, ``.pth``; it knows no units).

    Raises
    ------
    OutputError
        Another suffix; the file exists (and ``force`` is false) or cannot be written.
    MissingDependencyError
        A PyTorch file is asked for and PyTorch is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        return network.save(path, force=force)
    if suffix in TORCH_SUFFIXES:
        return save_torch(network, path, force=force)
    raise OutputError(f"{path} has the suffix {suffix!r}: name a file with .npz, .pt or .pth")
