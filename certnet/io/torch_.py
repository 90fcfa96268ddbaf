"""Networks from and to PyTorch: modules, state dicts, and files that hold a state dict."""

from __future__ import annotations

import importlib.util
import io
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from certnet.errors import FileFormatError, InvalidInputError, MissingDependencyError, UnsupportedModelError
from certnet.files import check_writable, write_atomic
from certnet.io.paths import readable_file
from certnet.network import ShallowNetwork
from certnet.validation import Float

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch", "load_torch", "save_torch", "to_torch"]

_SUPPORTED: Final = "certnet reads nn.Sequential(nn.Linear, nn.ReLU, nn.Linear), or the state dict of two linear layers"
_ADVICE: Final = "save the weights alone, with torch.save(model.state_dict(), path)"


def from_torch(source: torch.nn.Module | Mapping[str, torch.Tensor], *, units: str = "as given") -> ShallowNetwork:
    """The network ``f(x) = V relu(W x + b) + c`` of a PyTorch module or state dict.

    Parameters
    ----------
    source : nn.Sequential or mapping of str to Tensor
        ``nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, m))``, where sequences may be nested; or a state dict
        of two linear layers in the order of their use, ``prefix.weight`` (h, d) and ``prefix.bias`` (h,), then
        (m, h) and (m,), with any prefixes. A missing bias is zero. *A state dict does not tell the activation:
        ReLU between the two layers is assumed*, and nothing before, after or beside them.
    units : {"as given", "standardised", "raw"}
        What the inputs and outputs of the model are measured in; nothing is rescaled.

    Returns
    -------
    ShallowNetwork
        Weights in float64; those in float64, float32, float16 or bfloat16 are represented exactly. Tensors on an
        accelerator are copied; the source is not changed.

    Raises
    ------
    UnsupportedModelError
        Other layers, hooks or parametrisations (weight norm, spectral norm, pruning), tensors that are sparse,
        quantised, complex, integer or on the meta device, or shapes that do not chain.
    InvalidInputError
        Weights that are NaN or infinite, unknown ``units``.
    MissingDependencyError
        PyTorch is not installed.
    """
    torch = _import_torch()
    if isinstance(source, torch.nn.Module):
        layers = _layers_of_module(source)
    elif isinstance(source, Mapping):
        layers = _layers_of_state(source)
    else:
        raise UnsupportedModelError(f"found {type(source).__name__}: {_SUPPORTED}; for a file, use load_torch(path)")
    (W, b), (V, c) = layers
    if V.shape[1] != W.shape[0]:
        raise UnsupportedModelError(
            f"the layers have weights of shapes {tuple(W.shape)} and {tuple(V.shape)}, which do not chain: "
            f"the second must have {W.shape[0]} columns; {_SUPPORTED}, in the order of their use"
        )
    return ShallowNetwork(
        _array(W, "W"), _bias(b, W.shape[0], "b"), _array(V, "V"), _bias(c, V.shape[0], "c"), units=units
    )


def load_torch(path: str | os.PathLike[str], *, units: str = "as given") -> ShallowNetwork:
    """The network of a state dict in a file written by ``torch.save(model.state_dict(), path)``.

    Read with ``weights_only=True``: nothing in the file is executed. See :func:`from_torch` for what is assumed.

    Raises
    ------
    FileFormatError
        The file is missing, a folder, empty, truncated, TorchScript, a whole module or another pickle, or holds
        something other than a mapping.
    UnsupportedModelError, InvalidInputError, MissingDependencyError
        See :func:`from_torch`; the message names the file.
    """
    source = readable_file(path)
    state = _load_weights(source)
    if not isinstance(state, Mapping):
        raise FileFormatError(f"{source} holds {type(state).__name__}, not a state dict: {_ADVICE}")
    for name, value in state.items():
        _check_stored(value, name, source)
    try:
        return from_torch(state, units=units)
    except (UnsupportedModelError, InvalidInputError) as error:
        raise type(error)(f"{source}: {error}") from error


def to_torch(net: ShallowNetwork) -> torch.nn.Sequential:
    """``nn.Sequential(Linear(d, h), ReLU(), Linear(h, m))`` in float64 with the weights of ``net``, bit for bit.

    Call it on float64 tensors, or convert it by ``.float()``, which rounds. PyTorch's random state is not touched.

    Raises
    ------
    MissingDependencyError
        PyTorch is not installed.
    """
    torch = _import_torch()
    return torch.nn.Sequential(_linear(torch, net.W, net.b), torch.nn.ReLU(), _linear(torch, net.V, net.c))


def save_torch(net: ShallowNetwork, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the state dict of :func:`to_torch` to ``path``, complete or not at all; :func:`load_torch` reads it.

    A state dict knows no units: pass them when it is read.

    Raises
    ------
    OutputError
        The file exists (and ``force`` is false) or cannot be written.
    MissingDependencyError
        PyTorch is not installed.
    """
    check_writable(path, force=force)
    torch = _import_torch()
    buffer = io.BytesIO()
    torch.save(to_torch(net).state_dict(), buffer)
    return write_atomic(path, buffer.getvalue(), force=force)


def _import_torch() -> Any:
    if importlib.util.find_spec("torch") is None:
        raise MissingDependencyError('PyTorch is not installed (certnet[torch]): pip install "torch>=2.10"')
    import torch

    return torch


def _layers_of_module(module: torch.nn.Module) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """Weight and bias of the two linear layers; exact types, for a subclass may compute otherwise."""
    torch = _import_torch()
    if type(module) is not torch.nn.Sequential:
        raise UnsupportedModelError(
            f"found a module {type(module).__name__}, whose forward is unknown: {_SUPPORTED}; "
            "if it computes Linear, ReLU, Linear and nothing else, pass module.state_dict()"
        )
    layers = list(_flattened(module))
    if [type(layer) for layer in layers] != [torch.nn.Linear, torch.nn.ReLU, torch.nn.Linear]:
        found = ", ".join(type(layer).__name__ for layer in layers)
        raise UnsupportedModelError(
            f"found nn.Sequential({found}): {_SUPPORTED}; of a layer with parametrisations, remove them first "
            '(torch.nn.utils.parametrize.remove_parametrizations(layer, "weight"))'
        )
    return [(layers[0].weight, layers[0].bias), (layers[2].weight, layers[2].bias)]


def _flattened(module: Any) -> Iterator[Any]:
    """The layers of nested sequences in order; a hook may change weights or values, so none is allowed."""
    torch = _import_torch()
    if module._forward_pre_hooks or module._forward_hooks:
        raise UnsupportedModelError(
            f"the layer {type(module).__name__} has hooks (weight norm, spectral norm, pruning or your own): "
            "remove them first (torch.nn.utils.remove_weight_norm, torch.nn.utils.prune.remove, handle.remove()); "
            f"{_SUPPORTED}"
        )
    if type(module) is torch.nn.Sequential:
        for child in module:
            yield from _flattened(child)
    else:
        yield module


def _layers_of_state(state: Mapping[str, Any]) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """Weight and bias of the two linear layers, in the order of the mapping."""
    torch = _import_torch()
    layers: dict[str, dict[str, Any]] = {}
    for name, value in state.items():
        prefix, _, kind = str(name).rpartition(".")
        if not isinstance(value, torch.Tensor):
            raise UnsupportedModelError(
                f"the entry {name!r} is {type(value).__name__}, not a tensor: {_SUPPORTED}; "
                "of a checkpoint, pass the state dict that it holds"
            )
        if {"weight": 2, "bias": 1}.get(kind) != value.ndim:
            raise UnsupportedModelError(
                f"the entry {name!r} of shape {tuple(value.shape)} is no weight matrix or bias of a linear layer: "
                f"{_SUPPORTED}"
            )
        layers.setdefault(prefix, {})[kind] = value
    if len(layers) != 2 or not all("weight" in layer for layer in layers.values()):
        found = ", ".join(map(str, state)) or "nothing"
        raise UnsupportedModelError(f"the state dict holds {found}: {_SUPPORTED}")
    return [(layer["weight"], layer.get("bias")) for layer in layers.values()]


def _array(tensor: torch.Tensor, name: str) -> Float:
    """A float64 copy of a real, dense, materialised tensor."""
    torch = _import_torch()
    if tensor.device.type == "meta":
        raise UnsupportedModelError(f"{name} is on the meta device and has no values: load the weights first")
    if not tensor.dtype.is_floating_point or tensor.layout is not torch.strided:
        raise UnsupportedModelError(
            f"{name} has dtype {tensor.dtype} and layout {tensor.layout}: real, dense, floating-point weights are "
            "needed; dequantise them or use .to_dense()"
        )
    return np.array(tensor.detach().cpu().to(torch.float64).numpy(force=True))


def _bias(tensor: torch.Tensor | None, size: int, name: str) -> Float:
    return np.zeros(size) if tensor is None else _array(tensor, name)


def _linear(torch: Any, weight: Float, bias: Float) -> Any:
    rows, columns = weight.shape
    # skip_init: the usual constructor draws weights from the global random state
    layer = torch.nn.utils.skip_init(torch.nn.Linear, columns, rows, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return layer


def _load_weights(source: Path) -> Any:
    """What ``torch.load`` finds in an untrusted file without running code."""
    torch = _import_torch()
    try:
        # an open file, not a path: torch chooses another reader by some suffixes; it also warns before it fails
        with source.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, weights_only=True, map_location="cpu")
    except PermissionError as error:
        raise FileFormatError(f"{source} cannot be read: {error.strerror}") from error
    except Exception as error:
        # a parser of untrusted bytes may fail in any way; its own message advises to switch the protection off
        raise FileFormatError(
            f"{source} is no PyTorch state dict ({type(error).__name__}): it is truncated, of another format, or holds "
            f"more than tensors (a whole module, TorchScript, another pickle), which would run code; {_ADVICE}"
        ) from error


def _check_stored(value: Any, name: str, source: Path) -> None:
    """Refuse a tensor that claims more entries than the file holds (a view with stride 0 may claim terabytes)."""
    torch = _import_torch()
    if isinstance(value, torch.Tensor) and value.layout is torch.strided and value.device.type == "cpu":
        held = value.untyped_storage().nbytes() // value.element_size()
        if value.numel() > held:
            raise FileFormatError(
                f"{source}: {name} has shape {tuple(value.shape)} but only {held} stored entries: {_ADVICE}"
            )
