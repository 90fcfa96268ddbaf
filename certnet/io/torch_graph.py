"""The graph of a traced module, as torch.export makes it, read as a chain of steps, or as a graph where paths meet."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, Final

import numpy as np

from certnet.backends.torch_ import import_torch
from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.affine import MAX_ENTRIES, Dense, Scale, Shift, Step
from certnet.io.torch_activations import items_of_operator
from certnet.io.torch_chains import Chain, Half, Last, Part, Settled, Take, reason_for
from certnet.io.torch_images import IMAGES, MOVES, moved
from certnet.io.torch_state import batch_norm_steps
from certnet.io.torch_tensors import array_of
from certnet.io.values import Value
from certnet.networks.activations import Activation

__all__ = ["chain_of_program"]


class _Unknown:
    """A value that the graph makes of the size of the batch."""


_UNKNOWN: Final = _Unknown()
_SKIP: Final = "two paths of the data meet ({}): sums, concatenations and maxima are read, products of data are not"


def chain_of_program(program: Any, what: str) -> tuple[Chain, Settled]:
    """The chain that an exported program computes on one input of shape (batch, ...), and the graph that it starts in.

    Every node of the graph is a constant (evaluated in float64 from the parameters), something made of the size of the
    batch, or data: the chain from the input so far. Where paths of the data meet, and at operators on images, the
    chains are settled as values of a :class:`~certnet.io.graphs.Graph`, where a new one starts.

    Raises
    ------
    UnsupportedModelError
        The graph is no chain, or a step of it is not known; the message names the operator, its module, and the reason.
    """
    return _Reader(program, what).read()


class _Reader:
    def __init__(self, program: Any, what: str) -> None:
        self.torch = import_torch()
        self.program, self.what = program, what
        self.values: dict[Any, Any] = {}
        self.batch = ""
        self.settled = Settled(1)

    def read(self) -> tuple[Chain, Settled]:
        constants = self._constants()
        found: Chain | None = None
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = constants[node.name] if node.name in constants else self._input(node)
            elif node.op == "get_attr":
                self.values[node] = self._attribute(node)
            elif node.op == "output":
                found = self._output(node)
            else:
                self.values[node] = self._called(node)
        if found is None or not self.batch:
            raise self._refused("it gives no output that depends on its input")
        return found, self.settled

    def _constants(self) -> dict[str, Any]:
        """Parameters, buffers and constants by the name of their placeholder, floating ones in float64."""
        signature = self.program.graph_signature
        held = {**self.program.constants, **self.program.state_dict}
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        return {name: self._double(held[target]) for name, target in names.items()}

    def _double(self, tensor: Any) -> Any:
        if not tensor.dtype.is_floating_point:
            return tensor.detach()
        return self.torch.from_numpy(array_of(tensor, "a parameter"))

    def _input(self, node: Any) -> Any:
        value = node.meta.get("val")
        if not isinstance(value, self.torch.Tensor):
            return value  # an argument that is a number or None
        if self.batch:
            raise self._refused("it takes several inputs: one tensor of shape (samples, features) is read")
        if value.ndim < 2:
            raise self._refused("its input has one dimension: a batch of shape (samples, features) is read")
        self.batch = str(value.shape[0])
        shape = tuple(int(n) for n in value.shape[1:])
        self.settled = Settled(prod(shape))
        return Chain((), shape, prod(shape))

    def _attribute(self, node: Any) -> Any:
        value = self.program.graph_module
        for name in str(node.target).split("."):
            value = getattr(value, name)
        if not isinstance(value, self.torch.Tensor):
            raise self._refused("it holds a graph inside the graph: control flow, autocast, or gradients switched on")
        return self._double(value)

    def _output(self, node: Any) -> Chain:
        outputs = [self.values[n] for n in node.all_input_nodes]
        outputs = [value for value in outputs if not isinstance(value, self.torch.Tensor)]
        if len(outputs) != 1 or len(node.args[0]) != 1 or not isinstance(outputs[0], Chain):
            raise self._refused(
                f"it gives {len(node.args[0])} outputs that are tensors: one is read; wrap it in a module that returns "
                "the one that is meant"
            )
        if any(isinstance(part, Half) for part in outputs[0].parts):
            raise self._refused("abs is applied, which certnet does not read")
        return outputs[0]

    # ---------------------------------------------------------------------------------------------------- the operators

    def _called(self, node: Any) -> Any:
        inputs = {n: self.values[n] for n in node.all_input_nodes}
        data = [value for value in inputs.values() if isinstance(value, Chain | tuple)]
        name = getattr(getattr(node.target, "_overloadpacket", node.target), "__name__", str(node.target))
        if name.startswith("_assert") or name.startswith("sym_constrain"):
            return None
        if name == "sym_size" or (not data and _UNKNOWN in inputs.values()):
            return _UNKNOWN
        if not data:
            return self._evaluated(node)
        in_place = name.endswith("_") and not name.startswith("__")
        arguments = self._arguments(node)
        value = self._step(name.rstrip("_") if in_place else name, arguments, node, data)
        if in_place:
            self.values[node.args[0]] = value
        return value

    def _evaluated(self, node: Any) -> Any:
        """What an operator makes of constants."""
        arguments = self.torch.fx.node.map_arg((node.args, node.kwargs), lambda n: self.values[n])
        sizes = [v for v in self.torch.utils._pytree.tree_leaves(node.meta.get("val")) if hasattr(v, "numel")]
        if any(int(v.numel()) > MAX_ENTRIES for v in sizes):
            raise self._refused(f"a constant has more than {MAX_ENTRIES} entries", node)
        try:
            with self.torch.no_grad():
                value = node.target(*arguments[0], **arguments[1])
        except (RuntimeError, TypeError, ValueError) as error:
            raise self._refused(f"a constant cannot be computed in float64 ({_first_line(error)})", node) from error
        if isinstance(value, self.torch.Tensor) and value.dtype.is_floating_point:
            return value.to(self.torch.float64)
        return value

    def _arguments(self, node: Any) -> dict[str, Any]:
        """Arguments of an operator by name, with its defaults, nodes replaced by their values."""
        schema = getattr(node.target, "_schema", None)
        arguments = self.torch.fx.node.map_arg((node.args, node.kwargs), lambda n: self.values[n])
        if schema is None:
            return {str(k): value for k, value in enumerate(arguments[0])}
        named = {argument.name: argument.default_value for argument in schema.arguments}
        named |= dict(zip((argument.name for argument in schema.arguments), arguments[0]))
        return named | arguments[1]

    def _step(self, name: str, a: dict[str, Any], node: Any, data: Sequence[Any]) -> Any:
        x = data[0]
        if node.target is operator.getitem:  # parts of data, or data with statistics or places behind them
            if isinstance(x, tuple):
                return x[a["1"]]
            return x if a["1"] == 0 else _UNKNOWN
        if name in _JOINED and isinstance(a["tensors"], list | tuple):
            return self._concatenated(name, a, node)
        if len(data) > 1 or sum(value is x for value in a.values()) > 1 or isinstance(x, tuple):
            return self._met(name, a, node)
        if x.last and name not in _NOTHING and name not in _RESHAPES:
            raise self._refused(f"{name} follows a softmax: only the last step may be one", node)
        if name == "abs":
            return x.then(Half("abs"))
        if name in _NOTHING:
            return self._nothing(name, a, node, x)
        if name in _RESHAPES:
            return replace(x, shape=self._shape(node))
        if (method := _METHODS.get(name)) is not None and (read := method(self, name, a, node, x)) is not None:
            return read
        try:
            if name in MOVES:
                return self._moved(node, x)
            if name in IMAGES:
                return self._image(name, a, node, x)
            items = items_of_operator(name, a, self._values)
        except (UnsupportedModelError, InvalidInputError) as error:
            raise self._refused(str(error), node) from error
        if items is None:
            raise self._refused(reason_for(name) or f"the operator {name} is none that certnet reads", node)
        return x.then(*items)

    # ---------------------------------------------------------------------------------------------------- the graph

    def _value(self, x: Chain, node: Any) -> Value:
        """The value of a chain in the graph."""
        if x.last:
            raise self._refused("something follows a softmax: only the last step may be one", node)
        if any(isinstance(part, Half) for part in x.parts):
            raise self._refused("abs is applied, which certnet does not read", node)
        return self.settled.value(x)

    def _begun(self, x: Value, shape: tuple[int, ...]) -> Chain:
        """The chain that starts at a value of the graph."""
        return Chain((), shape, self.settled.graph.input.size, x)

    def _image(self, name: str, a: Mapping[str, Any], node: Any, x: Chain) -> Chain:
        given = a.get("input", a.get("self"))
        if given is not x:
            raise self._refused(reason_for(name) or _SKIP.format(name), node)
        first = node.meta["val"]
        shape = self._shape(node, first[0] if isinstance(first, tuple | list) else first)
        value = IMAGES[name](self.settled.graph, self._value(x, node), x.shape, a, shape)
        return self._begun(value, shape)

    def _moved(self, node: Any, x: Chain) -> Any:
        """What an operator that moves entries gives: one chain, or a tuple of them."""
        batch = int(self.batch) if self.batch.isdigit() else 2

        def call(numbers: Any) -> Any:
            def held(n: Any) -> Any:
                value = self.values[n]
                return numbers if value is x else batch if value is _UNKNOWN else value

            args, kwargs = self.torch.fx.node.map_arg((node.args, node.kwargs), held)
            return node.target(*args, **kwargs)

        several = isinstance(node.meta["val"], tuple | list)
        tensors = node.meta["val"] if several else [node.meta["val"]]
        shapes = [self._shape(node, tensor) for tensor in tensors]
        try:
            indices = moved(call, x.shape, batch)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise self._refused(f"{node.target} cannot be read ({_first_line(error)})", node) from error
        value = self._value(x, node)
        chains = [self._begun(self.settled.graph.gather(value, i), shape) for i, shape in zip(indices, shapes)]
        if any(prod(chain.shape) != len(index) for chain, index in zip(chains, indices)):
            raise self._refused("its shape depends on how many samples a batch has", node)
        return tuple(chains) if several else chains[0]

    def _met(self, name: str, a: dict[str, Any], node: Any) -> Chain:
        """Two paths of the data: an activation that is written out, a sum, a maximum, or a refusal."""
        pair = [value for value in (a.get("self"), a.get("other")) if isinstance(value, Chain)]
        if len(pair) == 2:
            p, q = sorted(pair, key=lambda chain: len(chain.parts))
            extra = q.parts[len(p.parts) :]
            if p.start is q.start and all(one is other for one, other in zip(p.parts, q.parts)):
                if name == "mul" and extra == (Activation("sigmoid"),):
                    return p.then(Activation("silu"))
                if name == "mul" and extra == (Activation("softplus"), Activation("tanh")):
                    return p.then(Activation("mish"))
                if name == "div" and pair[0] is p and len(extra) == 2 and extra[0] == Half("abs") and _one(extra[1]):
                    return p.then(Activation("softsign"))
            if name in _PAIRS:
                return self._paired(name, a, node)
        raise self._refused(reason_for(name) or _SKIP.format(name), node)

    def _paired(self, name: str, a: Mapping[str, Any], node: Any) -> Chain:
        """``x ± α y``, and the larger and the smaller of x and y, entry by entry; one may be spread over the other."""
        graph, shape = self.settled.graph, self._shape(node)
        x, y = (self._broadcast(a[which], shape, node) for which in ("self", "other"))
        if name in ("maximum", "max"):
            return self._begun(graph.maximum(x, y), shape)
        if name in ("minimum", "min"):
            return self._begun(graph.minimum(x, y), shape)
        alpha = np.array([float(a.get("alpha", 1)) * (1.0 if name == "add" else -1.0)])
        total = graph.add(graph.scale(x, alpha), y) if name == "rsub" else graph.add(x, graph.scale(y, alpha))
        return self._begun(total, shape)

    def _broadcast(self, x: Chain, shape: tuple[int, ...], node: Any) -> Value:
        value = self._value(x, node)
        if x.shape == shape:
            return value
        if len(x.shape) != len(shape):
            raise self._refused(f"samples of shapes {x.shape} and {shape} meet, which mixes the batch", node)
        return self.settled.graph.gather(value, np.broadcast_to(np.arange(value.size).reshape(x.shape), shape))

    def _concatenated(self, name: str, a: Mapping[str, Any], node: Any) -> Chain:
        shape, parts = self._shape(node), list(a["tensors"])
        if not all(isinstance(part, Chain) for part in parts):
            raise self._refused("data are concatenated with something that is made of the size of the batch", node)
        dim = int(a["dim"]) % (len(shape) + 1) - 1
        if dim < 0:
            raise self._refused(f"{name} over the samples of a batch", node)
        joined = self.settled.graph.concatenate(*(self._value(part, node) for part in parts))
        sizes = np.cumsum([0, *(prod(part.shape) for part in parts)])
        numbers = [np.arange(prod(p.shape)).reshape(p.shape) + first for p, first in zip(parts, sizes)]
        order = np.stack(numbers, axis=dim) if name == "stack" else np.concatenate(numbers, axis=dim)
        return self._begun(self.settled.graph.gather(joined, order), shape)

    def _nothing(self, name: str, a: Mapping[str, Any], node: Any, x: Chain) -> Chain:
        if "dropout" in name and (a.get("train") or a.get("training")) and a.get("p") != 0:
            raise self._refused("Dropout in training mode is random, no function: call module.eval() first", node)
        dtype = a.get("dtype")
        if dtype is not None:
            value = node.all_input_nodes[0].meta["val"].dtype
            if not dtype.is_floating_point or self.torch.finfo(dtype).eps > self.torch.finfo(value).eps:
                raise self._refused(f"it rounds its data to {dtype}", node)
        return x

    def _linear(self, name: str, a: Mapping[str, Any], node: Any, x: Chain) -> Chain:
        if name == "linear":
            W, b, given = a["weight"], a["bias"], a["input"]
        elif name == "addmm":
            W, b, given = a["alpha"] * a["mat2"].T, a["beta"] * a["self"], a["mat1"]
        else:
            second = a.get("mat2", a.get("other", a.get("vec")))
            turned = isinstance(second, self.torch.Tensor) and second.ndim == 2
            W, b, given = second.T if turned else second, None, a["self"]
        if given is not x or not isinstance(W, self.torch.Tensor) or W.ndim > 2:
            raise self._refused("data are multiplied from the other side, or by data", node)
        if not x.shape or prod(x.shape[:-1]) != 1:
            raise self._refused(
                f"a linear layer is applied to samples of shape {x.shape}: flatten them to one dimension first", node
            )
        matrix = self._values(W)
        parts: list[Part] = [Dense(matrix if matrix.ndim == 2 else matrix[None])]
        shape = self._shape(node)
        if b is not None:
            parts.append(Shift(self._spread(b, shape, node)))
        return replace(x.then(*parts), shape=shape)

    def _arithmetic(self, name: str, a: Mapping[str, Any], node: Any, x: Chain) -> Chain:
        """``x ± α c``, ``c − α x``, ``x c``, ``x / c`` with a constant c, a number or a tensor."""
        if name == "neg":
            return x.then(Scale(np.array([-1.0])))
        if a.get("rounding_mode") is not None:
            raise self._refused("a division with rounding is a step: its slope has no bound", node)
        first, other = (a["other"], a["self"]) if name == "rsub" else (a["self"], a["other"])
        if self._shape(node) != x.shape:
            raise self._refused("a constant makes the samples larger", node)
        c = self._spread(other if first is x else first, x.shape, node)
        if name == "mul":
            return x.then(Scale(c))
        if name == "div":
            if first is not x:
                raise self._refused("a number is divided by data: its slope has no bound", node)
            with np.errstate(divide="ignore"):  # what is infinite is refused by the network
                return x.then(Scale(1.0 / c))
        alpha = float(a.get("alpha", 1))
        sign = 1.0 if name == "add" else -1.0
        if first is x:
            return x.then(Shift(sign * alpha * c))
        factor = sign * alpha
        return x.then(Shift(c)) if factor == 1.0 else x.then(Scale(np.array([factor])), Shift(c))

    def _larger(self, name: str, a: Mapping[str, Any], node: Any, x: Chain) -> Chain:
        """``max(x, c) = c + relu(x − c)`` and ``min(x, c) = c − relu(c − x)`` with a constant c."""
        if self._shape(node) != x.shape:
            raise self._refused("a constant makes the samples larger", node)
        c = self._spread(a["other"] if a["self"] is x else a["self"], x.shape, node)
        relu, minus = Activation("relu"), Scale(np.array([-1.0]))
        if name == "maximum":
            return x.then(Shift(-c), relu, Shift(c)) if np.any(c) else x.then(relu)
        return x.then(minus, Shift(c), relu, minus, Shift(c))

    def _batch_norm(self, name: str, a: Mapping[str, Any], node: Any, x: Chain) -> Chain:
        if a.get("training") or a.get("train"):
            raise self._refused(
                "BatchNorm in training mode mixes the samples of a batch: call module.eval() first", node
            )
        if a["running_mean"] is None or a["running_var"] is None:
            raise self._refused("BatchNorm without running statistics mixes the samples of a batch", node)
        gamma, beta = (None if a[kind] is None else self._values(a[kind]) for kind in ("weight", "bias"))
        mean, variance = self._values(a["running_mean"]), self._values(a["running_var"])
        steps = batch_norm_steps(mean, variance, float(a["eps"]), gamma, beta)
        pixels = prod(x.shape[1:])  # each channel has its own numbers
        return x.then(*(_repeated(step, pixels) for step in steps) if pixels != 1 else steps)

    def _softmax(self, name: str, a: Mapping[str, Any], node: Any, x: Chain) -> Chain:
        if len(x.shape) != 1 or a["dim"] not in (1, -1):
            raise self._refused(f"{name} over dimension {a['dim']}: one over the outputs of a sample is read", node)
        return x.then(Last("log_softmax" if "log" in name else "softmax"))

    def _selected(self, name: str, a: Mapping[str, Any], node: Any, x: Chain) -> Chain | None:
        """Columns of a sample that is a vector: ``x[:, a:b:c]`` and ``x[:, k]``."""
        whole = name == "slice" and not a["start"] and a["end"] in (None, 2**63 - 1) and a["step"] == 1
        if whole and a["dim"] == 0:
            return x
        if len(x.shape) != 1 or a["dim"] not in (1, -1):
            return None
        chosen = slice(a["start"], a["end"], a["step"]) if name == "slice" else [a["index"]]
        return replace(x.then(Take(np.arange(x.shape[0])[chosen], x.shape[0])), shape=self._shape(node))

    def _summed(self, name: str, a: Mapping[str, Any], node: Any, x: Chain) -> Chain | None:
        if len(x.shape) != 1 or list(a.get("dim") or ()) not in ([1], [-1]):
            return None
        n = x.shape[0]
        row = np.full((1, n), 1.0 if name == "sum" else 1.0 / n)
        return replace(x.then(Dense(row)), shape=self._shape(node))

    # ----------------------------------------------------------------------------------------------------------- values

    def _values(self, tensor: Any) -> Float:
        return array_of(tensor, "a constant")

    def _spread(self, constant: Any, shape: tuple[int, ...], node: Any) -> Float:
        """A constant beside samples of this shape, as one number or one for each entry."""
        if isinstance(constant, int | float):
            return np.array([float(constant)])
        if not isinstance(constant, self.torch.Tensor):
            raise self._refused("it makes a tensor of the size of the batch and joins it with the data", node)
        values = self._values(constant.to(self.torch.float64))
        if values.size == 1:
            return values.reshape(1)
        if values.ndim == len(shape) + 1 and len(values) == 1:
            values = values[0]
        if values.ndim > len(shape):
            raise self._refused("a constant differs between the samples of a batch", node)
        return np.array(np.broadcast_to(values, shape)).ravel()

    def _shape(self, node: Any, tensor: Any = None) -> tuple[int, ...]:
        """The shape of one sample of what a node gives, whose first dimension must be the batch."""
        shape = (node.meta["val"] if tensor is None else tensor).shape
        if not shape or str(shape[0]) != self.batch or not all(isinstance(n, int) for n in shape[1:]):
            raise self._refused("it mixes the samples of a batch: each must be computed alone", node)
        return tuple(shape[1:])

    def _refused(self, reason: str, node: Any = None) -> UnsupportedModelError:
        stack = list((node.meta.get("nn_module_stack") or {}).values()) if node is not None else []
        kinds = [kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}" for _, kind in stack]
        within = (reason_for(kind.rpartition(".")[2]) for kind in kinds if kind.startswith("torch.nn."))
        reason = next(filter(None, within), "") or reason
        path, kind = (stack[-1][0], kinds[-1].rpartition(".")[2]) if len(stack) > 1 else ("", "")
        place = f", at {kind} ({path})" if path and kind else ""
        return UnsupportedModelError(f"{self.what} is not read{place}: {reason}")


def _repeated(step: Step, pixels: int) -> Step:
    """A scaling or a shift of channels as one of their pixels."""
    match step:
        case Scale(s):
            return Scale(np.repeat(s, pixels))
        case Shift(t):
            return Shift(np.repeat(t, pixels))
    return step


def _one(part: Part) -> bool:
    return isinstance(part, Shift) and np.array_equal(part.t, [1.0])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


_NOTHING: Final = {
    "dropout",
    "alpha_dropout",
    "feature_dropout",
    "feature_alpha_dropout",
    "native_dropout",
    "contiguous",
    "clone",
    "alias",
    "detach",
    "to",
    "_to_copy",
    "type_as",
    "lift_fresh_copy",
}
"""Operators that pass the data on as they are."""
_JOINED: Final = {"cat", "concat", "concatenate", "stack"}
_PAIRS: Final = {"add", "sub", "rsub", "maximum", "minimum", "max", "min"}
_RESHAPES: Final = {"view", "reshape", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "unflatten"}
"""Operators that keep the order of a sample's entries; that the batch stays the first dimension is checked."""
_METHODS: Final = {
    **dict.fromkeys(("linear", "addmm", "mm", "matmul", "mv"), _Reader._linear),
    **dict.fromkeys(("add", "sub", "rsub", "mul", "div", "neg"), _Reader._arithmetic),
    **dict.fromkeys(
        ("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "native_batch_norm"),
        _Reader._batch_norm,
    ),
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax"), _Reader._softmax),
    **dict.fromkeys(("slice", "select"), _Reader._selected),
    **dict.fromkeys(("maximum", "minimum"), _Reader._larger),
    **dict.fromkeys(("sum", "mean"), _Reader._summed),
}
