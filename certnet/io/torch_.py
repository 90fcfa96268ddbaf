"""Networks from and to PyTorch: modules, state dicts, and files that hold a state dict."""

from __future__ import annotations

import importlib.util
import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from certnet.core.errors import FileFormatError, InvalidInputError, MissingDependencyError, UnsupportedModelError
from certnet.core.files import check_writable, write_atomic
from certnet.core.validation import Float
from certnet.io.networks import build
from certnet.io.paths import readable_file
from certnet.networks.activations import Activation, activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch", "load_torch", "save_torch", "to_torch"]

_SUPPORTED: Final = (
    "certnet reads nn.Sequential of nn.Linear with nn.ReLU, LeakyReLU, Tanh, Sigmoid, Softplus, ELU, Hardsigmoid or "
    "Identity between them, nn.Flatten, nn.Dropout in eval mode, or the state dict of linear layers"
)
_HARD_SIGMOID: Final = (1.0 / 6.0, 0.5)
_SOFTPLUS_THRESHOLD: Final = 40.0
"""Above it log(1 + e^z) and z are the same double; PyTorch's default of 20 is made for float32."""
_ADVICE: Final = "save the weights alone, with torch.save(model.state_dict(), path)"


def from_torch(
    source: torch.nn.Module | Mapping[str, torch.Tensor],
    *,
    activations: str | Activation | Sequence[str | Activation | tuple[float, float]] | None = None,
    units: str = "as given",
) -> ShallowNetwork | FeedForward:
    """The network ``f(x) = W_ℓ φ_ℓ(… φ_1(W_0 x + b_0) …) + b_ℓ`` of a PyTorch module or state dict.

    Parameters
    ----------
    source : nn.Sequential or mapping of str to Tensor
        An ``nn.Sequential``, where sequences may be nested, of ``nn.Linear`` with one of ``nn.ReLU``, ``LeakyReLU``,
        ``Tanh``, ``Sigmoid``, ``Softplus`` (beta 1), ``ELU``, ``Hardsigmoid``, ``Identity`` between each two (nothing
        between them is the identity); ``nn.Flatten`` of the samples, and ``nn.Dropout`` in eval mode, where it does
        nothing, are passed over. Or a state dict of linear layers in the order of their use, ``prefix.weight``
        (n_{k+1}, n_k) and ``prefix.bias`` (n_{k+1},), with any prefixes. A missing bias is zero.
    activations : activations of the hidden layers, optional
        Of a state dict, which does not tell them: see :class:`~certnet.networks.feedforward.FeedForward`. Without it,
        *two linear layers are assumed to have ReLU between them*, and nothing before, after or beside them; more layers
        are refused.
    units : {"as given", "standardised", "raw"}
        What the inputs and outputs of the model are measured in; nothing is rescaled.

    Returns
    -------
    ShallowNetwork or FeedForward
        A ``ShallowNetwork`` for one hidden layer with ReLU. Weights in float64; those in float64, float32, float16 or
        bfloat16 are represented exactly. Tensors on an accelerator are copied; the source is not changed.

    Raises
    ------
    UnsupportedModelError
        Other layers, hooks or parametrisations (weight norm, spectral norm, pruning), tensors that are sparse,
        quantised, complex, integer or on the meta device, or shapes that do not chain.
    InvalidInputError
        Weights that are NaN or infinite, unknown ``units``, ``activations`` that do not fit.
    MissingDependencyError
        PyTorch is not installed.

    Notes
    -----
    PyTorch computes softplus as z where z > ``threshold``, a jump of at most 2.1e-9 for the default of 20. The network
    is the exact softplus, and the jump counts as rounding; a lower threshold is refused. The slope of Hardsigmoid is
    1/6 rounded to float64.
    """
    torch = _import_torch()
    if isinstance(source, torch.nn.Module):
        if activations is not None:
            raise InvalidInputError("activations are for state dicts: a module tells its own")
        layers, phis = _layers_of_module(source)
    elif isinstance(source, Mapping):
        layers = _layers_of_state(source, activations is None)
        phis = _phis(activations, len(layers) - 1)
    else:
        raise UnsupportedModelError(f"found {type(source).__name__}: {_SUPPORTED}; for a file, use load_torch(path)")
    for (before, _), (after, _) in pairwise(layers):
        if after.shape[1] != before.shape[0]:
            raise UnsupportedModelError(
                f"the layers have weights of shapes {tuple(before.shape)} and {tuple(after.shape)}, which do not "
                f"chain: the second must have {before.shape[0]} columns; {_SUPPORTED}, in the order of their use"
            )
    names = (
        (("W", "b"), ("V", "c"))
        if len(layers) == 2
        else [(f"weights[{k}]", f"biases[{k}]") for k in range(len(layers))]
    )
    weights = [_array(W, name) for (W, _), (name, _) in zip(layers, names)]
    biases = [_bias(b, W.shape[0], name) for (W, b), (_, name) in zip(layers, names)]
    return build(weights, biases, phis, units)


def load_torch(
    path: str | os.PathLike[str],
    *,
    activations: str | Activation | Sequence[str | Activation | tuple[float, float]] | None = None,
    units: str = "as given",
) -> ShallowNetwork | FeedForward:
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
        return from_torch(state, activations=activations, units=units)
    except (UnsupportedModelError, InvalidInputError) as error:
        raise type(error)(f"{source}: {error}") from error


def to_torch(net: ShallowNetwork | FeedForward) -> torch.nn.Sequential:
    """``nn.Sequential(Linear, activation, …, Linear)`` in float64 with the weights of ``net``, bit for bit.

    Call it on float64 tensors, or convert it by ``.float()``, which rounds. PyTorch's random state is not touched.

    Raises
    ------
    UnsupportedModelError
        An activation given by its slopes alone, or a hard sigmoid other than PyTorch's, clip(z/6 + 1/2).
    MissingDependencyError
        PyTorch is not installed.
    """
    torch = _import_torch()
    net = FeedForward.of(net)
    layers = []
    for W, b, phi in zip(net.weights, net.biases, net.activations):
        layers += [_linear(torch, W, b), _module(torch.nn, phi)]
    return torch.nn.Sequential(*layers, _linear(torch, net.weights[-1], net.biases[-1]))


def save_torch(net: ShallowNetwork | FeedForward, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the state dict of :func:`to_torch` to ``path``, complete or not at all; :func:`load_torch` reads it.

    A state dict knows no units: pass them when it is read. Nor does it know activations: a network with other hidden
    layers than one with ReLU would be read as something else, and is refused.

    Raises
    ------
    UnsupportedModelError
        ``net`` has not one hidden layer with ReLU.
    OutputError
        The file exists (and ``force`` is false) or cannot be written.
    MissingDependencyError
        PyTorch is not installed.
    """
    check_writable(path, force=force)
    torch = _import_torch()
    if isinstance(net, FeedForward) and (net.depth, net.activations[0].name) != (1, "relu"):
        raise UnsupportedModelError(
            f"a state dict does not tell the activations of {net!r}: save it as .npz or .onnx; for PyTorch alone, "
            "torch.save(certnet.to_torch(net).state_dict(), path), to be read with load_torch(path, activations=...)"
        )
    buffer = io.BytesIO()
    torch.save(to_torch(net).state_dict(), buffer)
    return write_atomic(path, buffer.getvalue(), force=force)


def _import_torch() -> Any:
    if importlib.util.find_spec("torch") is None:
        raise MissingDependencyError('PyTorch is not installed (certnet[torch]): pip install "torch>=2.10"')
    import torch

    return torch


_Layer = tuple["torch.Tensor", "torch.Tensor | None"]
"""Weight and bias of a linear layer."""


def _layers_of_module(module: torch.nn.Module) -> tuple[list[_Layer], list[Activation]]:
    """Linear layers and the activations between them; exact types, for a subclass may compute otherwise."""
    torch = _import_torch()
    if type(module) is not torch.nn.Sequential:
        raise UnsupportedModelError(
            f"found a module {type(module).__name__}, whose forward is unknown: {_SUPPORTED}; "
            "if it computes linear layers and activations in turn and nothing else, pass module.state_dict() "
            "(and, unless it is Linear, ReLU, Linear, the activations)"
        )
    found = list(_flattened(module))
    said = f"found nn.Sequential({', '.join(type(layer).__name__ for layer in found)}): {_SUPPORTED}"
    linear: list[_Layer] = []
    phis: list[Activation | None] = []  # what follows each linear layer
    for layer in found:
        if type(layer) is torch.nn.Linear:
            linear.append((layer.weight, layer.bias))
            phis.append(None)
        elif not _changes_nothing(torch.nn, layer):
            phi = _activation_of(torch.nn, layer)
            if phi is None:
                raise UnsupportedModelError(
                    f"{said}; of a layer with parametrisations, remove them first "
                    '(torch.nn.utils.parametrize.remove_parametrizations(layer, "weight"))'
                )
            if not phis or phis[-1] is not None:
                raise UnsupportedModelError(f"{said}; each activation must follow a linear layer")
            phis[-1] = phi
    if len(linear) < 2 or phis[-1] is not None:
        raise UnsupportedModelError(f"{said}; at least one hidden layer is needed, and a linear layer at the end")
    return linear, [phi or Activation("identity") for phi in phis[:-1]]


def _changes_nothing(nn: Any, layer: Any) -> bool:
    """Whether a layer passes samples on as they are; dropout that is training is random, so it is refused."""
    if type(layer) is nn.Dropout and layer.training:
        raise UnsupportedModelError(f"Dropout in training mode is no function: call module.eval() first; {_SUPPORTED}")
    if type(layer) is nn.Flatten:
        return bool(layer.start_dim == 1 and layer.end_dim == -1)
    return type(layer) in (nn.Dropout, nn.Identity)


def _activation_of(nn: Any, layer: Any) -> Activation | None:
    """The activation that a layer computes, or None; parameters are PyTorch's doubles."""
    kind = type(layer)
    plain = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}
    if kind in plain:
        return Activation(plain[kind])
    if kind is nn.LeakyReLU:
        return Activation("leaky_relu", (layer.negative_slope,))
    if kind is nn.ELU:
        return Activation("elu", (layer.alpha,))
    if kind is nn.Hardsigmoid:
        return Activation("hard_sigmoid", _HARD_SIGMOID)
    if kind is nn.Softplus:
        if layer.beta != 1 or layer.threshold < 20:
            raise UnsupportedModelError(
                f"found {layer}: beta 1 and a threshold of at least 20 are needed (below, PyTorch's function jumps)"
            )
        return Activation("softplus")
    return None


def _module(nn: Any, phi: Activation) -> Any:
    """The PyTorch module that computes φ."""
    plain = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "identity": nn.Identity}
    if phi.name in plain:
        return plain[phi.name]()
    if phi.name == "leaky_relu":
        return nn.LeakyReLU(phi.parameters[0])
    if phi.name == "elu":
        return nn.ELU(phi.parameters[0])
    if phi.name == "softplus":
        return nn.Softplus(threshold=_SOFTPLUS_THRESHOLD)
    if phi.name == "hard_sigmoid" and phi.parameters == _HARD_SIGMOID:
        return nn.Hardsigmoid()
    raise UnsupportedModelError(
        f"PyTorch has no module for the activation {phi} (its Hardsigmoid is clip(z/6 + 1/2)): save as .npz or .onnx"
    )


def _phis(
    activations: str | Activation | Sequence[str | Activation | tuple[float, float]] | None, hidden: int
) -> list[Activation]:
    """The activations of a state dict's hidden layers; the network refuses a wrong number of them."""
    if activations is None or isinstance(activations, str | Activation):
        return [activation(activations or "relu")] * hidden
    return [activation(phi) for phi in activations]


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


def _layers_of_state(state: Mapping[str, Any], relu_assumed: bool) -> list[_Layer]:
    """Weight and bias of the linear layers, in the order of the mapping; two, where nothing is said of activations."""
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
    found = ", ".join(map(str, state)) or "nothing"
    if len(layers) < 2 or not all("weight" in layer for layer in layers.values()):
        raise UnsupportedModelError(f"the state dict holds {found}: {_SUPPORTED}")
    if relu_assumed and len(layers) > 2:
        raise UnsupportedModelError(
            f"the state dict holds {found}: it does not tell the activations between {len(layers)} layers; pass the "
            'nn.Sequential, or activations=..., as in from_torch(state, activations="relu")'
        )
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
