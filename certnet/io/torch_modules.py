"""Networks of PyTorch modules: nn.Sequential as it stands, any other by its trace, all checked against the module."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from certnet.backends.torch_ import import_torch
from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.affine import MAX_ENTRIES, Dense, Scale, Shift, Step, fold
from certnet.io.networks import build, simplest, structure
from certnet.io.torch_activations import activation_of_module
from certnet.io.torch_chains import Chain, Last, Part, Settled, Take, reason_for
from certnet.io.torch_graph import chain_of_program
from certnet.io.torch_state import batch_norm_steps, described
from certnet.io.torch_tensors import array_of
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["network_of_module", "network_of_program"]

_ROWS: Final = 64
_SCALES: Final = (0.01, 0.1, 1.0, 10.0)
_TOLERANCE: Final = {"own": 1e-6, "float64": 1e-9}
_ROUNDINGS: Final = 8.0
"""Roundings charged to each product of a weight and a value, in units of the last place."""
_SOFTPLUS_JUMP: Final = 2.1e-9
"""PyTorch's softplus jumps by log(1 + e^−20) at its threshold."""
_MAX_SIZES: Final = 8
_CLOSED: Final = "wrap what is meant in a module of linear layers and activations, or give the arrays to FeedForward"


def network_of_module(module: Any, *, units: str, example: Any = None) -> ShallowNetwork | FeedForward:
    """The network of a module, checked against the module's own outputs; the module is not changed.

    Raises
    ------
    UnsupportedModelError
        The module is not a chain of parts that certnet reads, or its outputs differ from those of what was read.
    InvalidInputError
        Its weights are NaN or infinite; ``example`` is no tensor of shape (samples, ...).
    """
    torch = import_torch()
    module = _unwrapped(module)
    name = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedModelError(
            f"{name} is TorchScript, which is not read: pass the nn.Module that it was made of, or export it to ONNX"
        )
    _check_example(example)
    chain = _chain_of_sequential(module) if type(module) is torch.nn.Sequential else None
    settled = None
    own = _copied(module)
    shape = None if example is None else tuple(example.shape[1:])
    if chain is not None and (shape is None or math.prod(shape) == chain.n_inputs):
        source, shape = name, shape or (chain.n_inputs,)
    else:
        shape = shape or _input_shape(own, name)
        dtype = _dtype(own) if example is None or not example.dtype.is_floating_point else example.dtype
        chain, settled = chain_of_program(_exported(own, torch.zeros((2, *shape), dtype=dtype), name), name)
        source = f"{name} (torch.export)"
    network = _network(chain, settled, source, units)
    _check_agreement(network, own, shape, chain.last, name)
    return network


def network_of_program(program: Any, *, units: str) -> ShallowNetwork | FeedForward:
    """The network of a ``torch.export.ExportedProgram``, checked against its own outputs."""
    torch = import_torch()
    chain, settled = chain_of_program(program, "the exported program")
    network = _network(chain, settled, "an exported program", units)
    user = set(program.graph_signature.user_inputs)
    node = next(node for node in program.graph.nodes if node.op == "placeholder" and node.name in user)
    first, *rest = node.meta["val"].shape
    batch = first if isinstance(first, int) else None
    with _quiet():
        module = program.module()
    shape = tuple(map(int, rest))
    _check_agreement(network, _Fixed(module, batch, torch), shape, chain.last, "the exported program")
    return network


class _Fixed:
    """A program that takes batches of one size only, called on any number of rows that is a multiple of it."""

    def __init__(self, module: Any, batch: int | None, torch: Any) -> None:
        self.module, self.batch, self.torch = module, batch, torch

    def __call__(self, x: Any) -> Any:
        if self.batch is None or len(x) == self.batch:
            return self.module(x)
        n = len(x)
        short = -n % self.batch
        padded = self.torch.cat([x, x[:1].expand(short, *x.shape[1:])]) if short else x
        return self.torch.cat([self.module(part) for part in padded.split(self.batch)])[:n]

    def parameters(self) -> Iterator[Any]:
        return iter([*self.module.parameters(), *self.module.buffers()])


# ------------------------------------------------------------------------------------------------------ nn.Sequential


def _unwrapped(module: Any) -> Any:
    """The module inside torch.compile's, DataParallel's and DistributedDataParallel's wrappers."""
    torch = import_torch()
    while True:
        kind = type(module)
        if kind.__name__ == "OptimizedModule" and kind.__module__.startswith("torch._dynamo"):
            inner = module._orig_mod
        elif kind in (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel):
            inner = module.module
        else:
            return module
        if module._forward_hooks or module._forward_pre_hooks:
            raise UnsupportedModelError(
                f"the wrapper {kind.__name__} has hooks: remove them, or pass the module inside"
            )
        module = inner


def _flattened(module: Any) -> Iterator[Any]:
    """The layers of nested sequences in order."""
    torch = import_torch()
    if type(module) is torch.nn.Sequential and not _hooked(module):
        for child in module:
            yield from _flattened(child)
    else:
        yield module


def _hooked(module: Any) -> bool:
    return bool(module._forward_pre_hooks or module._forward_hooks)


def _chain_of_sequential(module: Any) -> Chain | None:
    """The chain of layers of exactly PyTorch's types, or None where a trace must tell what a layer computes."""
    nn = import_torch().nn
    parts: list[Part] = []
    size = first = 0
    for layer in _flattened(module):
        kind = type(layer)
        if _hooked(layer):
            return None
        if kind is nn.Linear and not any(isinstance(part, Last) for part in parts):
            if size and layer.in_features != size:
                shapes = [(layer.out_features, layer.in_features), size]
                raise UnsupportedModelError(
                    f"a layer has weights of shape {shapes[0]} behind one that gives {size} numbers: the layers do not "
                    "chain"
                )
            parts.append(Dense(array_of(layer.weight, "a weight")))
            if layer.bias is not None:
                parts.append(Shift(array_of(layer.bias, "a bias")))
            first, size = first or layer.in_features, layer.out_features
        elif kind is nn.BatchNorm1d and layer.running_mean is not None and not layer.training:
            mean, variance = (array_of(t, "BatchNorm") for t in (layer.running_mean, layer.running_var))
            gamma, beta = (None if t is None else array_of(t, "BatchNorm") for t in (layer.weight, layer.bias))
            if size not in (0, len(mean)):
                return None
            first, size = first or len(mean), len(mean)
            parts += batch_norm_steps(mean, variance, layer.eps, gamma, beta)
        elif parts and isinstance(parts[-1], Last):
            return None
        elif kind in (nn.Softmax, nn.LogSoftmax) and layer.dim in (1, -1):
            parts.append(Last("softmax" if kind is nn.Softmax else "log_softmax"))
        elif not _changes_nothing(nn, layer):
            phi = activation_of_module(nn, layer)
            if phi is None and (reason := reason_for(kind.__name__)):
                kinds = ", ".join(type(one).__name__ for one in _flattened(module))
                raise UnsupportedModelError(f"Sequential({kinds}) is not read, at {kind.__name__}: {reason}")
            if phi is None:
                return None
            parts.append(phi)
    return Chain(tuple(parts), (size,), first) if first else None


def _changes_nothing(nn: Any, layer: Any) -> bool:
    """Whether a layer passes samples on as they are; dropout that is training is random, so it is refused."""
    if type(layer) is nn.Dropout and layer.training and layer.p:
        raise UnsupportedModelError("Dropout in training mode is random, no function: call module.eval() first")
    if type(layer) is nn.Flatten:
        return bool(layer.start_dim == 1 and layer.end_dim == -1)
    return type(layer) in (nn.Dropout, nn.Identity)


# ----------------------------------------------------------------------------------------------------------- the trace


def _check_example(example: Any) -> None:
    torch = import_torch()
    if example is not None and (not isinstance(example, torch.Tensor) or example.ndim < 2 or not example.numel()):
        raise InvalidInputError("example must be a tensor of shape (samples, ...), as the module takes it")


def _copied(module: Any) -> Any:
    """A deep copy on the CPU, in the mode (training or not) of the original."""
    name = type(module).__name__
    tensors = [*module.parameters(), *module.buffers()]
    torch = import_torch()
    if any(isinstance(t, torch.nn.parameter.UninitializedTensorMixin) for t in tensors):
        raise UnsupportedModelError(f"{name} is not read: {reason_for('lazy')}")
    if any(t.device.type == "meta" for t in tensors):
        raise UnsupportedModelError(f"{name} is on the meta device and has no values: load the weights first")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # what hooks compute anew at each call (weight norm, pruning) has a history, which refuses to be copied
            held = (value for layer in module.modules() for value in vars(layer).values())
            computed = {id(t): t.detach().clone() for t in held if isinstance(t, torch.Tensor) and not t.is_leaf}
            return copy.deepcopy(module, computed).cpu()
    except Exception as error:  # the module's own classes say how they are copied
        raise UnsupportedModelError(
            f"{name} cannot be copied ({_first_line(error)}), and it is never changed: remove what cannot be copied, "
            "or pass module.state_dict() and the activations"
        ) from error


def _dtype(module: Any) -> Any:
    torch = import_torch()
    return next((t.dtype for t in module.parameters() if t.dtype.is_floating_point), torch.float32)


def _input_shape(module: Any, name: str) -> tuple[int, ...]:
    """The number of inputs: the first of the sizes that weights take with which the module runs."""
    torch = import_torch()
    kernel = next((t for t in module.parameters() if t.ndim in (3, 4) and t.is_floating_point()), None)
    sizes = [t.shape[1] for t in module.parameters() if t.ndim == 2 and t.is_floating_point()]
    sizes += [t.shape[0] for t in (*module.parameters(), *module.buffers()) if t.ndim == 1]
    problem: BaseException | None = None
    for size in list(dict.fromkeys(sizes))[:_MAX_SIZES]:
        try:
            _call(module, torch.zeros((2, size), dtype=_dtype(module)))
            if kernel is not None:  # a batch of two vectors may pass for one signal of two channels
                _call(module, torch.zeros((3, size), dtype=_dtype(module)))
        except Exception as error:  # noqa: BLE001  a user's forward may raise anything
            problem = problem or error
        else:
            return (size,)
    reason = _reason_within(module)
    if not reason and kernel is not None:
        example = f"torch.zeros(1, {_channels(module)}, {', '.join(['64'] if kernel.ndim == 3 else ['32', '32'])})"
        reason = (
            "its convolutions do not tell the size of the images or signals that it takes: pass one batch, such as "
            f"example={example}"
        )
    if not reason and problem is None:
        reason = "it has no weights"
    if not reason:
        reason = (
            f"it does not take a batch of shape (2, n), n = {', '.join(map(str, dict.fromkeys(sizes)))} "
            f"({_first_line(problem)}): if it takes samples of another shape, pass one batch, example=x"
        )
    raise UnsupportedModelError(f"the module {name} is not read: {reason}")


def _channels(module: Any) -> int:
    """The channels that the first convolution of a module takes."""
    torch = import_torch()
    kinds = (torch.nn.Conv1d, torch.nn.Conv2d)
    return next((layer.in_channels for layer in module.modules() if isinstance(layer, kinds)), 1)


def _reason_within(module: Any) -> str:
    """Why a layer of PyTorch's own that the module has is not read, or an empty text."""
    for layer in module.modules():
        home = type(layer).__module__
        if home.startswith("torch.") and (
            found := reason_for("quantize" if "quantized" in home else type(layer).__name__)
        ):
            return found
    return ""


def _call(module: Any, x: Any) -> Any:
    """What the module gives, without gradients, warnings, or a trace in PyTorch's random state."""
    torch = import_torch()
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return module(x)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and no log of PyTorch's tracing: what goes wrong is told by an error."""
    names = ("torch", "torch.fx.experimental.symbolic_shapes", "torch.export", "torch._export", "torch._dynamo")
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        # PyTorch prints the graph of a failed trace
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before):
            logger.disabled = disabled


def _exported(module: Any, example: Any, name: str) -> Any:
    """The exported program of a module: the batch dynamic, or else fixed, or that of the symbolic trace of torch.fx."""
    torch = import_torch()

    def export(traced: Any, dynamic: bool) -> Any:
        shapes = ({0: torch.export.Dim.DYNAMIC},) if dynamic else None
        # a new tensor each time: an attempt leaves marks on it
        return torch.export.export(traced, (example.clone(),), dynamic_shapes=shapes, strict=False)

    attempts = (
        lambda: export(module, True),
        lambda: export(module, False),
        lambda: export(torch.fx.symbolic_trace(module), True),
    )
    problem: BaseException | None = None
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _quiet():
        for attempt in attempts:
            try:
                program = attempt()
            except Exception as error:  # noqa: BLE001  the tracer runs the user's code
                problem = problem or error
            else:
                _check_range(program, name)
                return program
    reason = _reason_within(module)
    text = f"{type(problem).__name__} {problem}"
    if "DataDependent" in text or "data-dependent" in text:
        reason = (
            f"its control flow depends on the data (torch.export: {_first_line(problem)}), so it is one function for "
            "some inputs and another for others"
        )
    reason = reason or f"torch.export cannot trace it ({_first_line(problem)})"
    raise UnsupportedModelError(f"the module {name} is not read: {reason}; {_CLOSED}") from problem


def _check_range(program: Any, name: str) -> None:
    """Refuse a trace that holds for some sizes of the batch only: a branch on it was taken."""
    user = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op != "placeholder" or node.name not in user or not node.meta["val"].shape:
            continue
        size = str(node.meta["val"].shape[0])
        for symbol, limits in program.range_constraints.items():
            bounded = str(limits.upper).isdigit() and int(limits.upper) < 2**31
            if str(symbol) == size and (bounded or int(limits.lower) > 2):
                raise UnsupportedModelError(
                    f"the module {name} is not read: what it computes depends on how many samples a batch has"
                )


# --------------------------------------------------------------------------------------------------------- the network


def _network(chain: Chain, settled: Settled | None, source: str, units: str) -> ShallowNetwork | FeedForward:
    remarks = []
    if last := chain.last:
        what = "logits" if last == "softmax" else "logits, not their logarithmic probabilities"
        remarks.append(f"{last} is left out: the network gives the {what}")
    if chain.start is None or settled is None:
        return _of_chain(chain, source, remarks, units)
    try:
        network = settled.graph.network(settled.value(chain), units=units)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{source} is not read: {error}") from error
    about = described(network.widths, network.activations, source, [*structure(network), *remarks])
    return simplest(network).described(about)


def _of_chain(chain: Chain, source: str, remarks: Sequence[str], units: str) -> ShallowNetwork | FeedForward:
    """Layers of a chain: steps up to an activation, or to the next matrix, are folded into one.

    Where no matrix stands before or behind an activation, that layer has the identity matrix.
    """
    segments: list[list[Step]] = [[]]
    phis: list[Activation] = []
    for part in (part.dense if isinstance(part, Take) else part for part in chain.parts):
        if isinstance(part, Activation):
            if part.name != "identity":
                segments.append([])
                phis.append(part)
        elif isinstance(part, Dense) and any(isinstance(step, Dense) for step in segments[-1]):
            segments.append([part])
            phis.append(Activation("identity"))
        elif isinstance(part, Dense | Scale | Shift):
            segments[-1].append(part)
    if not phis:
        raise UnsupportedModelError(
            f"{source} has no hidden layer: at least two linear layers or an activation are needed (the Lipschitz "
            "constant of a linear map is the norm of its matrix)"
        )
    widths = [chain.n_inputs]
    for segment in segments:
        dense = next((step for step in segment if isinstance(step, Dense)), None)
        if dense is None:
            if widths[-1] ** 2 > MAX_ENTRIES:
                raise UnsupportedModelError(f"an activation of {widths[-1]} units has no matrix beside it: too many")
            segment.insert(0, Dense(np.eye(widths[-1])))
        widths.append(widths[-1] if dense is None else len(dense.W))
    folded = [fold(segment) for segment in segments]
    about = described(widths, phis, source, remarks)
    return build([W for W, _ in folded], [b for _, b in folded], phis, units, about)


# ------------------------------------------------------------------------------------------------------------ the check


def _check_agreement(
    network: ShallowNetwork | FeedForward, own: Any, shape: Sequence[int], last: str, name: str
) -> None:
    """Compare the network with the module's outputs on random inputs, in its own dtype and in float64.

    They agree if |f(x) − module(x)| ≤ τ max |f| + E(x) for τ = 1e-6 in the module's dtype and 1e-9 in float64; E bounds
    the rounding of the module, which counts where sums cancel: E_{k+1} = s_k (|W_k| E_k + 8 u (|W_k| |x_k| + |b_k|)).
    A module is not compared in a dtype in which it does not run, but is in at least one.
    """
    torch = import_torch()
    rng = np.random.default_rng(0)
    X = rng.normal(size=(_ROWS, network.n_inputs)) * np.resize(_SCALES, _ROWS)[:, None]
    problem: BaseException | None = None
    compared = 0
    for which in ("own", "float64"):
        dtype = _dtype(own) if which == "own" else torch.float64
        try:
            module = own if which == "own" else _doubled(own)
            x = torch.from_numpy(X).to(dtype).reshape(-1, *shape)
            values = [_call(module, x), _call(module, x[:1])]
        except Exception as error:  # noqa: BLE001  a user's forward may raise anything
            problem = problem or error
            continue
        compared += 1
        given = x.double().reshape(_ROWS, -1).numpy()
        outputs = [_single(got, rows, network.n_outputs, name) for got, rows in zip(values, (_ROWS, 1))]
        eps = float(torch.finfo(dtype).eps)
        _compare(network, given, np.concatenate(outputs), eps, _TOLERANCE[which], last, name)
    if not compared:
        raise UnsupportedModelError(
            f"the module {name} is not read: it cannot be run to compare it with what was read ({_first_line(problem)})"
        ) from problem


def _doubled(own: Any) -> Any:
    if isinstance(own, _Fixed):
        raise TypeError("an exported program has one dtype")
    return copy.deepcopy(own).double()


def _single(got: Any, rows: int, outputs: int, name: str) -> Float:
    torch = import_torch()
    if isinstance(got, tuple | list) and len(got) == 1:
        got = got[0]
    if isinstance(got, dict) and len(got) == 1:
        got = next(iter(got.values()))
    if not isinstance(got, torch.Tensor) or got.numel() != rows * outputs:
        raise UnsupportedModelError(
            f"the module {name} is not read: for {rows} samples it does not give {rows} outputs"
        )
    return np.asarray(got.detach().to(torch.float64).numpy()).reshape(rows, outputs)


def _compare(
    network: ShallowNetwork | FeedForward, X: Float, outputs: Float, eps: float, tolerance: float, last: str, name: str
) -> None:
    """``outputs`` are those at the rows of X, and once more at the first row, alone."""
    with np.errstate(over="ignore", invalid="ignore"):
        values, errors = (np.concatenate([a, a[:1]]) for a in _with_rounding(network, X, eps))
        if last:
            shifted = values - values.max(axis=1, keepdims=True)
            logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            # both are Lipschitz in the logits, with 2 in the largest norm
            errors = 2.0 * errors.max(axis=1, keepdims=True) + _ROUNDINGS * eps * (1.0 + np.abs(values).max())
            values = logs if last == "log_softmax" else np.exp(logs)
        limit = tolerance * max(np.abs(values).max(), 1e-30) + errors
        difference = np.abs(values - outputs)
        known = np.isfinite(outputs)  # a small dtype overflows where float64 does not
        agree = (difference <= limit) | ~known
    if not agree.all() or not known.any():
        worst = float(np.max(np.where(known, difference, 0.0)))
        raise UnsupportedModelError(
            f"what was read does not agree with the outputs of the module {name}: they differ by {worst:.3g} on random "
            "inputs; the module computes something that its layers do not tell"
        )


def _with_rounding(network: ShallowNetwork | FeedForward, X: Float, eps: float) -> tuple[Float, Float]:
    """f at the rows of X, and the bound E of :func:`_check_agreement` on the module's rounding."""
    x, error = X, eps * np.abs(X)
    for layer in network.layers:
        A = layer.operator.absolute
        error = A(error) + _ROUNDINGS * eps * (A(np.abs(x)) + np.abs(layer.bias))
        jump = _SOFTPLUS_JUMP if layer.activation.name.startswith("softplus") else 0.0
        x = layer(x)
        error = max(layer.steepest, 1.0) * error + _ROUNDINGS * eps * np.abs(x) + jump
    return x, error


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
