"""Model files for the command line, read and written by their suffix; each format is loaded when a file has it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from certnet.core.errors import FileFormatError, InvalidInputError, OutputError
from certnet.core.files import path_of
from certnet.io.advice import advice_for
from certnet.io.networks import simplest
from certnet.io.paths import readable_file
from certnet.io.weight_lists import Activations, load_npz
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["READ_ONLY", "SUFFIXES", "WITHOUT_UNITS", "load_model", "save_model"]

SUFFIXES: Final = (".npz", ".onnx", ".pt", ".pth")
"""Suffixes of the model files that certnet reads and writes."""
READ_ONLY: Final = (".ckpt", ".safetensors", ".pt2", ".nnet", ".mat", ".keras")
"""Suffixes of the model files that certnet knows and does not write."""
WITHOUT_UNITS: Final = tuple(suffix for suffix in SUFFIXES if suffix != ".npz")
"""Suffixes of files that do not say in what units a network is: read back, it is "as given"."""
_TORCH: Final = (".pt", ".pth", ".ckpt")


def load_model(
    path: str | os.PathLike[str],
    *,
    activation: Activations | None = None,
    layers: Sequence[str] | None = None,
    key: str | None = None,
    batch_norm_eps: float | None = None,
    units: str | None = None,
) -> ShallowNetwork | FeedForward:
    """The network in a file: ``.npz``, ``.onnx``, PyTorch's, ``.safetensors``, ``.keras``, ``.nnet``, ``.mat``.

    The suffix decides (in either case of letters); nothing in the file is executed. A network with one hidden layer
    and ReLU is a :class:`~certnet.networks.shallow.ShallowNetwork`, any other a
    :class:`~certnet.networks.feedforward.FeedForward`. What was read stands in its ``about``.

    Parameters
    ----------
    activation : str, or one for each hidden layer, optional
        Of files that hold matrices alone (state dicts, ``.mat``, lists of matrices in ``.npz``), which do not say it.
    layers : sequence of str, optional
        Of such files: names of the layers in the order of their use.
    key : str, optional
        Of a checkpoint: under which key its state dict is, if it holds several.
    batch_norm_eps : float, optional
        Of a state dict with BatchNorm, which does not say it; PyTorch's default is 1e-5.
    units : {"as given", "standardised", "raw"}, optional
        What inputs and outputs are measured in; "as given" unless the file says it, as ``.npz`` of ``save`` does.

    Raises
    ------
    FileFormatError
        The file is missing, a folder, empty, of another suffix, not what its suffix says, or a pickle.
    InvalidInputError
        The weights in the file are NaN or infinite, or do not fit together; an argument that the file has no use for.
    UnsupportedModelError
        No feed-forward network that certnet reads; activations or an order that must be said.
    MissingDependencyError
        The file is a PyTorch, ONNX or Keras file and PyTorch, onnx or h5py is not installed.
    """
    source = readable_file(path)
    suffix = source.suffix.lower()
    given = {"activation": activation, "layers": layers, "key": key, "batch_norm_eps": batch_norm_eps}
    eps = batch_norm_eps
    unit = "as given" if units is None else units
    if suffix in _TORCH:
        from certnet.io.torch_files import load_torch

        return load_torch(source, activations=activation, layers=layers, key=key, batch_norm_eps=eps, units=unit)
    if suffix == ".safetensors":
        from certnet.io.torch_files import load_safetensors

        _refuse(given, source, "key")
        return load_safetensors(source, activations=activation, layers=layers, batch_norm_eps=eps, units=unit)
    if suffix == ".npz":
        _refuse(given, source, "key", "batch_norm_eps")
        return load_npz(source, activation=activation, layers=layers, units=units)
    if suffix == ".mat":
        from certnet.io.mat_ import load_mat

        _refuse(given, source, "layers", "key", "batch_norm_eps")
        return load_mat(source, activation=activation, units=unit)
    if suffix == ".onnx":
        from certnet.io.onnx_ import load_onnx

        _refuse(given, source, *given)
        return simplest(load_onnx(source, units=unit))
    if suffix == ".nnet":
        from certnet.io.nnet_ import load_nnet

        _refuse(given, source, *given)
        return load_nnet(source, units=unit)
    if suffix == ".keras":
        from certnet.io.keras_ import load_keras

        _refuse(given, source, *given)
        return load_keras(source, units=unit)
    if suffix == ".pt2":
        from certnet.io.torch_files import load_exported

        return load_exported(source)
    raise FileFormatError(f"{source} {advice_for(suffix)}")


def _refuse(given: Mapping[str, object], source: Path, *useless: str) -> None:
    """Refuse arguments that a file of this kind has no use for: they would be taken for heeded."""
    for name in useless:
        if given[name] is not None:
            raise InvalidInputError(f"{source} is read without {name}: the file says it, or has none; leave it out")


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
        from certnet.io.onnx_ import save_onnx

        return save_onnx(network, path, force=force)
    if suffix in SUFFIXES:
        from certnet.io.torch_ import save_torch

        return save_torch(network, path, force=force)
    raise OutputError(f"{path} has the suffix {suffix!r}: name a file with {', '.join(SUFFIXES)}")
