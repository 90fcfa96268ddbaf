"""Inference as a PyTorch layer: forward solves for the activations, backward differentiates them implicitly."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from certnet.backends.torch_ import import_torch
from certnet.core.errors import InvalidInputError, NotConvergedWarning
from certnet.core.validation import Float, one_of, positive_number
from certnet.lifted.inference import Inference, infer
from certnet.lifted.network import LiftedNetwork
from certnet.lifted.sensitivity import pull_back
from certnet.networks.energy import LiftedEnergy, require_lifted
from certnet.solvers.box import solver_named

if TYPE_CHECKING:
    import torch

__all__ = ["lifted_layer"]

_OUTPUTS: Final = ("last", "all")


def lifted_layer(
    net: LiftedEnergy, *, output: str = "last", solver: str = "coordinate_descent", tol: float = 1e-9
) -> torch.nn.Module:
    """``x ↦ z_L*(x)`` with ``z*(x) = argmin_z E(z; x)`` as a ``torch.nn.Module`` (class ``LiftedLayer``).

    Forward infers the activations to ``tol`` in float64 on the CPU, as :func:`~certnet.lifted.inference.infer` does;
    backward solves one linear system per sample on the units between their limits, once, for the gradients by the
    input and by all parameters (see :mod:`certnet.lifted.sensitivity`). No iterations are stored or unrolled. Inputs
    and parameters may lie on any device and have any floating-point type: outputs have those of the input.

    Parameters
    ----------
    net : LiftedEnergy
        Copied: its weights W_k and biases b_k and c_k become parameters (float64) that any optimiser of PyTorch may
        train; β, γ and the boxes are fixed.
    output : {"last", "all"}
        z_L, shape (…, n_L), or (z_1, …, z_L) side by side, shape (…, n).
    solver : str
        A name of :data:`certnet.solvers.box.SOLVERS`.
    tol : float
        Natural residual; the error of the gradients is of its order.

    Returns
    -------
    torch.nn.Module
        Beside ``forward(X)``, X of shape (…, d), it has

        ``energy(X, clamp=None)``: ``min_z E(z; x)``, shape (…), with ``z_L = clamp`` where given; its derivative is
        that of E at the minimiser (Danskin), and ``(energy(X, clamp=y) − energy(X)).mean()`` is the contrastive loss.

        ``network()``: the :class:`~certnet.lifted.network.LiftedNetwork` with the present parameters.

        First derivatives only, of both: asking for a second one is a RuntimeError.

        The state dict carries β, γ and the boxes too, and loading it takes them over.

    Warns
    -----
    NotConvergedWarning
        Activations of a sample missed ``tol``.

    Raises
    ------
    InvalidInputError
        No lifted network, an unknown output or solver, a tol that is not positive; in forward, wrong shapes, NaN, and
        tensors of another kind than floating point.
    MissingDependencyError
        PyTorch is not installed.
    """
    one_of(output, "output", _OUTPUTS)
    require_lifted(net)
    solver_named(solver)
    return _layer_class()(net, output=output, solver=solver, tol=positive_number(tol, "tol"))


def __getattr__(name: str) -> Any:
    """``LiftedLayer``, which is made when asked for: pickles and isinstance need its name here."""
    if name == "LiftedLayer":
        return _layer_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _layer_class() -> Any:
    pt = import_torch()
    Module: Any = pt.nn.Module
    implicit, danskin = _implicit_function(pt), _energy_function(pt)

    class LiftedLayer(Module):
        """See :func:`lifted_layer`."""

        def __init__(self, net: LiftedEnergy, *, output: str, solver: str, tol: float) -> None:
            super().__init__()
            self.output, self.solver, self.tol = output, solver, tol
            self._fixed: dict[str, Any] = {"beta": net.beta, "gamma": net.gamma, "units": net.units}
            parameters = (
                pt.nn.ParameterList([pt.nn.Parameter(pt.tensor(a)) for a in group])
                for group in (net.weights, net.biases, net.reconstruction_biases)
            )
            self.weights, self.biases, self.reconstruction_biases = parameters

        def forward(self, X: torch.Tensor) -> torch.Tensor:
            z = implicit.apply(self, _rows(X, "X"), *self.weights, *self.biases, *self.reconstruction_biases)
            return z.reshape(*X.shape[:-1], z.shape[-1])

        def energy(self, X: torch.Tensor, clamp: torch.Tensor | None = None) -> torch.Tensor:
            inputs = _rows(X, "X")
            y = None if clamp is None else _rows(clamp, "clamp")
            energies = danskin.apply(self, inputs, y, *self.weights, *self.biases, *self.reconstruction_biases)
            return energies.reshape(X.shape[:-1])

        def network(self) -> LiftedNetwork:
            groups = (self.weights, self.biases, self.reconstruction_biases)
            return LiftedNetwork(*([_array(p) for p in group] for group in groups), **self._fixed)

        def get_extra_state(self) -> dict[str, Any]:
            boxes = [[pt.tensor(side) for side in box] for box in self._fixed["units"]]
            return {"beta": list(self._fixed["beta"]), "gamma": self._fixed["gamma"], "units": boxes}

        def set_extra_state(self, state: Any) -> None:
            units = [tuple(_array(side) for side in box) for box in state["units"]]
            sizes = [len(low) for low, _ in units]
            if sizes != [len(b) for b in self.biases]:
                raise InvalidInputError(f"the state dict is of layers of {sizes} units, not of those of {self!r}")
            self._fixed = {"beta": tuple(state["beta"]), "gamma": float(state["gamma"]), "units": units}

        def extra_repr(self) -> str:
            sizes = "-".join(str(W.shape[1]) for W in self.weights) + f"-{len(self.biases[-1])}"
            beta = ", ".join(f"{b:g}" for b in self._fixed["beta"])
            return f"{sizes}, beta=[{beta}], gamma={self._fixed['gamma']:g}, output={self.output!r}, tol={self.tol:g}"

    LiftedLayer.__qualname__ = "LiftedLayer"  # where pickle finds it
    return LiftedLayer


def _implicit_function(pt: Any) -> Any:
    class Implicit(pt.autograd.Function):
        @staticmethod
        def forward(ctx: Any, layer: Any, X: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
            net, inputs = layer.network(), _array(X)
            found = _inferred(net, inputs, layer)
            ctx.problem = net, inputs, found
            ctx.save_for_backward(X, *parameters)
            return pt.as_tensor(found.stacked if layer.output == "all" else found.output).to(X)

        @staticmethod
        def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            net, inputs, found = ctx.problem
            pulled = pull_back(net, inputs, found, _array(slope))
            flat = [pulled.inputs, *(a for group in pulled.parameters.groups for a in group)]
            derivatives = [pt.as_tensor(a).to(t) for a, t in zip(flat, ctx.saved_tensors)]
            return None, *_once(pt, derivatives, [slope, *ctx.saved_tensors])

    return Implicit


def _once(pt: Any, found: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """First derivatives, which depend on the sources in a way that autograd does not know: a second one raises."""
    if not pt.is_grad_enabled():
        return list(found)
    return [_once_function(pt).apply(derivative, *sources) for derivative in found]


@cache
def _once_function(pt: Any) -> Any:
    class Once(pt.autograd.Function):
        @staticmethod
        def forward(ctx: Any, derivative: torch.Tensor, *sources: torch.Tensor) -> torch.Tensor:
            return derivative.clone()

        @staticmethod
        def backward(ctx: Any, slope: torch.Tensor) -> None:
            raise RuntimeError("a lifted layer has first derivatives only: no second one can be taken")

    return Once


def _energy_function(pt: Any) -> Any:
    class Energy(pt.autograd.Function):
        """``min_z E(z; x)``, a function of its own so that a second derivative, which Danskin does not give, raises."""

        @staticmethod
        def forward(
            ctx: Any, layer: Any, X: torch.Tensor, clamp: torch.Tensor | None, *parameters: torch.Tensor
        ) -> torch.Tensor:
            found = _inferred(layer.network(), _array(X), layer, None if clamp is None else _array(clamp))
            z = [pt.as_tensor(a).to(X) for a in found.activations]
            if clamp is not None:
                z[-1] = clamp.to(X)  # the energy may be differentiated by the target
            ctx.fixed, ctx.clamped = (layer._fixed["beta"], layer._fixed["gamma"]), clamp is not None
            ctx.save_for_backward(X, *z, *parameters)
            return _energies(pt, ctx.fixed, X, z, parameters)

        @staticmethod
        def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            L = len(ctx.fixed[0])
            with pt.enable_grad():
                X, *rest = (t.detach().requires_grad_() for t in ctx.saved_tensors)
                z, parameters = rest[:L], rest[L:]
                value = _energies(pt, ctx.fixed, X, z, parameters)
            wanted = [X, z[-1], *parameters]
            found = pt.autograd.grad(value, wanted, slope.detach(), materialize_grads=True)
            of_X, of_clamp, *of_rest = _once(pt, found, [slope, *ctx.saved_tensors])
            return None, of_X, of_clamp if ctx.clamped else None, *of_rest

    return Energy


def _energies(
    pt: Any, fixed: tuple[Any, float], X: torch.Tensor, z: Sequence[torch.Tensor], parameters: Sequence[torch.Tensor]
) -> torch.Tensor:
    """``E(z; x)`` of every row, in the type and on the device of X."""
    betas, gamma = fixed
    L, total = len(betas), pt.zeros(len(X), dtype=X.dtype, device=X.device)
    groups = (parameters[:L], parameters[L : 2 * L], parameters[2 * L :])
    for k, (beta, W, b, c, below, above) in enumerate(zip(betas, *groups, [X, *z], z)):
        W, b, c = W.to(X), b.to(X), c.to(X)
        here = (above - below @ W.T - b).square().sum(dim=1)
        if beta:
            here = here + beta * (above @ W - below - c).square().sum(dim=1)
        total = total + 0.5 * gamma**k * here
    return total


def _inferred(net: LiftedNetwork, X: Float, layer: Any, clamp: Float | None = None) -> Inference:
    found = infer(net, X, clamp=clamp, solver=layer.solver, tol=layer.tol)
    if not found.converged.all():
        i = int(np.argmax(~found.converged))
        warnings.warn(
            f"{int((~found.converged).sum())} of {len(X)} samples missed tol={layer.tol:g} (sample {i}: residual "
            f"{found.residual[i]:.1e}): {found.status[i].advice}",
            NotConvergedWarning,
            stacklevel=4,
        )
    return found


def _rows(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """Samples as rows, whatever the leading dimensions."""
    if not isinstance(tensor, import_torch().Tensor):
        raise InvalidInputError(f"{name} is of type {type(tensor).__name__}: a tensor is needed")
    if not tensor.is_floating_point():
        raise InvalidInputError(f"{name} has dtype {tensor.dtype}: floating-point numbers are needed; .double()?")
    if tensor.ndim == 0:
        raise InvalidInputError(f"{name} is a single number: a tensor of shape (…, n) is needed")
    return tensor.reshape(tensor.shape[:-1].numel(), tensor.shape[-1])


def _array(tensor: torch.Tensor) -> Float:
    return np.array(tensor.detach().cpu().numpy(force=True), dtype=np.float64)
