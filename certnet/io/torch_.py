"""Networks from and to PyTorch: modules, exported programs and state dicts; files are read in ``torch_files``."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certnet.backends.torch_ import import_torch
from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.files import check_writable, write_atomic
from certnet.core.validation import Float
from certnet.io.networks import require_dense
from certnet.io.torch_activations import module_of_activation
from certnet.io.torch_files import load_torch, state_entries, state_in
from certnet.io.torch_modules import network_of_module, network_of_program
from certnet.io.torch_state import Activations, network_of_state
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch", "load_torch", "save_torch", "to_torch"]


def from_torch(
    source: torch.nn.Module | torch.export.ExportedProgram | Mapping[str, torch.Tensor],
    *,
    activations: Activations | None = None,
    layers: Sequence[str] | None = None,
    key: str | None = None,
    batch_norm_eps: float | None = None,
    example: torch.Tensor | None = None,
    units: str = "as given",
) -> ShallowNetwork | FeedForward:
    """The network ``f(x) = A_ℓ φ_ℓ(… φ_1(A_0 x + b_0) …) + b_ℓ`` of a PyTorch module, exported program or state dict.

    Parameters
    ----------
    source : nn.Module, ExportedProgram or mapping of str to Tensor
        A module of linear layers, convolutions in one and two dimensions, average and max pooling, activations of
        :data:`~certnet.networks.activations.ACTIVATIONS`, BatchNorm and Dropout in eval mode, sums (skip
        connections), maxima and concatenations of values, sums and products with constants, and whatever moves the
        entries of a sample: reshapes, slices, permutations, padding, nearest upsampling. ``nn.Sequential`` of dense
        layers is read as it stands; any other module is traced (``torch.export``, or else ``torch.fx``), compiled and
        parallel wrappers are opened, hooks and parametrisations are traced with the rest. An activation at the end
        gets a layer with the identity matrix behind it; a softmax at the end is left out, and a remark says so. Or a
        state dict, *which is not a model*: see ``activations`` and ``layers``. A missing bias is zero.
    activations : activations of the hidden layers
        Of a state dict, where they must be said; see :class:`~certnet.networks.feedforward.FeedForward`. Behind the
        last layer there is none.
    layers : sequence of str, optional
        Of a state dict: the prefixes of the linear layers in the order of their use. Without it the order is told by
        the numbers in the names, ``net.0``, ``net.2``, ``net.10``, and joined by shapes if exactly one order is
        possible (:func:`~certnet.io.torch_state.network_of_state` has the rule); otherwise it is asked for.
    key : str, optional
        Of a checkpoint: under which key its state dict is, if it holds several.
    batch_norm_eps : float, optional
        Of a state dict with BatchNorm: its eps, 1e-5 unless the model was made with another.
    example : Tensor of shape (N, ...), optional
        Of a module: one batch as it takes it, if samples are no vectors, as images are; the network takes them
        flattened, (channels, height, width) in row-major order.
    units : {"as given", "standardised", "raw"}
        What the inputs and outputs of the model are measured in; nothing is rescaled.

    Returns
    -------
    ShallowNetwork or FeedForward
        A ``ShallowNetwork`` for one hidden layer with ReLU. Weights in float64; those in float64, float32, float16 or
        bfloat16 are represented exactly unless BatchNorm or constants are folded into them. Tensors on an accelerator
        are copied; the source is not changed. ``about.read`` says what was read.

    Raises
    ------
    UnsupportedModelError
        Modules of other parts, each with its reason: products of data, attention, LayerNorm, transposed convolutions;
        data-dependent control flow; a network whose outputs on random inputs are not those of the module (1e-6
        relative in the module's dtype, 1e-9 in float64); a state dict without ``activations`` or whose order is
        doubtful; tensors that are quantised, complex, integer or on the meta device.
    InvalidInputError
        Weights that are NaN or infinite, unknown ``units``, ``activations`` or ``layers`` that do not fit.
    MissingDependencyError
        PyTorch is not installed.

    Notes
    -----
    PyTorch computes softplus as z where z > ``threshold``, a jump of at most 2.1e-9 for the default of 20. The network
    is the exact softplus, and the jump counts as rounding; a lower threshold is refused. The slope of Hardsigmoid is
    1/6 rounded to float64, and so are the weights of average pooling.

    Convolutions stay convolutions, and skip connections are units that are carried past an activation; two linear maps
    one after another are two layers, never their product. Max pooling is the tree of ``max(a, b) = b + relu(a − b)``
    over its windows, of at most 64 entries (:mod:`certnet.io.graphs`).
    """
    torch = import_torch()
    if isinstance(source, Mapping):
        if example is not None:
            raise InvalidInputError("example is for modules: a state dict has shapes")
        return network_of_state(
            state_entries(state_in(source, key)),
            activations=activations,
            layers=layers,
            batch_norm_eps=batch_norm_eps,
            units=units,
        )
    if activations is not None or layers is not None or key is not None or batch_norm_eps is not None:
        raise InvalidInputError(
            "activations, layers, key and batch_norm_eps are for state dicts: a module tells its own"
        )
    if isinstance(source, torch.nn.Module):
        return network_of_module(source, units=units, example=example)
    if isinstance(source, torch.export.ExportedProgram):
        return network_of_program(source, units=units)
    raise UnsupportedModelError(
        f"found {type(source).__name__}: certnet reads modules, exported programs and state dicts; for a file, use "
        "load_torch(path)"
    )


def to_torch(net: ShallowNetwork | FeedForward) -> torch.nn.Sequential:
    """``nn.Sequential(Linear, activation, …, Linear)`` in float64 with the weights of ``net``, bit for bit.

    Call it on float64 tensors, or convert it by ``.float()``, which rounds. PyTorch's random state is not touched.

    Raises
    ------
    UnsupportedModelError
        An activation given by its slopes alone, or one of which PyTorch has no module, such as a hard sigmoid other
        than clip(z/6 + 1/2).
    MissingDependencyError
        PyTorch is not installed.
    """
    torch = import_torch()
    require_dense(net, "what to_torch makes")
    net = FeedForward.of(net)
    layers = []
    for W, b, phi in zip(net.weights, net.biases, net.activations):
        layers += [_linear(torch, W, b), module_of_activation(torch.nn, phi)]
    return torch.nn.Sequential(*layers, _linear(torch, net.weights[-1], net.biases[-1]))


def save_torch(net: ShallowNetwork | FeedForward, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the state dict of :func:`to_torch` to ``path``, complete or not at all.

    It is read by ``load_torch(path, activations="relu")``: a state dict knows neither units nor activations. A network
    with other hidden layers than one with ReLU is refused: it would be read as something else.

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
    torch = import_torch()
    require_dense(net, "a state dict of certnet")
    if isinstance(net, FeedForward) and (net.depth, net.activations[0].name) != (1, "relu"):
        raise UnsupportedModelError(
            f"a state dict does not tell the activations of {net!r}: save it as .npz or .onnx; for PyTorch alone, "
            "torch.save(certnet.to_torch(net).state_dict(), path), to be read with load_torch(path, activations=...)"
        )
    buffer = io.BytesIO()
    torch.save(to_torch(net).state_dict(), buffer)
    return write_atomic(path, buffer.getvalue(), force=force)


def _linear(torch: Any, weight: Float, bias: Float) -> Any:
    rows, columns = weight.shape
    # skip_init: the usual constructor draws weights from the global random state
    layer = torch.nn.utils.skip_init(torch.nn.Linear, columns, rows, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return layer
