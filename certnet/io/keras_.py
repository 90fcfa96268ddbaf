"""Keras models, ``.keras``, read from their description and arrays: nothing of Keras is run, or needed."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import math
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from certnet.core.archives import check_sizes
from certnet.core.errors import FileFormatError, InvalidInputError, MissingDependencyError, UnsupportedModelError
from certnet.core.validation import Float, finite_array
from certnet.io.affine import MAX_ENTRIES, Dense, Scale, Shift, Step, fold
from certnet.io.networks import build, summary
from certnet.io.paths import readable_file
from certnet.networks.about import About
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["load_keras"]

_MAX_TEXT: Final = 1 << 26
_MAX_LAYERS: Final = 1000
_MAX_IDENTITY: Final = 1 << 12
_EXPORT: Final = 'write it as ONNX where it was made, model.export("model.onnx", format="onnx"), and name that file'
_PLAIN: Final = {
    "relu": "relu",
    "relu6": "relu6",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "softplus": "softplus",
    "softsign": "softsign",
    "gelu": "gelu",
    "silu": "silu",
    "swish": "silu",
    "mish": "mish",
    "selu": "selu",
    "elu": "elu",
    "celu": "celu",
    "log_sigmoid": "log_sigmoid",
    "hard_silu": "hard_swish",
    "hard_swish": "hard_swish",
}
"""Keras' names of activations, of versions 2 and 3 alike."""
_WITHOUT_EFFECT: Final = (
    *("InputLayer", "ActivityRegularization", "Dropout", "SpatialDropout1D"),
    *("AlphaDropout", "GaussianDropout", "GaussianNoise"),
)
_UNBOUNDED: Final = {
    "LayerNormalization": "whose slope has no bound",
    "GroupNormalization": "whose slope has no bound",
    "RMSNormalization": "whose slope has no bound",
    "UnitNormalization": "whose slope has no bound",
    "MultiHeadAttention": "whose slope has no bound",
    "Embedding": "whose inputs are no numbers",
}


@dataclass(frozen=True)
class _Described:
    """A layer as the file describes it."""

    kind: str
    name: str
    config: Mapping[str, Any]

    def __str__(self) -> str:
        return f"the layer {self.name[:80]!r} ({self.kind[:80]})"


_Arrays = Callable[[_Described], list[Float]]


def load_keras(path: str | os.PathLike[str], *, units: str = "as given") -> ShallowNetwork | FeedForward:
    """The network of a Keras model with one input and one output whose layers are a chain.

    Read are ``Dense``, activations of known slopes (by name or as layers), ``BatchNormalization`` as in inference,
    ``Normalization``, ``Rescaling``, ``Flatten``; dropout and noise do nothing. A softmax at the end is left out: the
    network gives the logits. The description is data: classes of one's own and Lambda layers are refused, not run.

    Raises
    ------
    MissingDependencyError
        The package h5py, which reads the arrays, is not installed.
    FileFormatError
        The file is missing, damaged, of another format, or would unpack to too much.
    UnsupportedModelError
        A layer that certnet does not read, or layers that are no chain.
    InvalidInputError
        Weights that are NaN or infinite, or do not fit together.
    """
    source = readable_file(path)
    if importlib.util.find_spec("h5py") is None:
        raise MissingDependencyError(f"{source} is a Keras model: pip install h5py to read it here, or {_EXPORT}")
    h5py = importlib.import_module("h5py")
    try:
        return _of_archive(h5py, source, units)
    except (FileFormatError, UnsupportedModelError, InvalidInputError) as error:
        raise type(error)(f"{source}: {error}") from error
    # what damaged archives, descriptions and HDF5 files raise
    except (
        *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError),
        *(MemoryError, OverflowError, RecursionError, zipfile.BadZipFile, zlib.error),
    ) as error:
        raise FileFormatError(f"{source} is no Keras model, or a damaged one: {error}") from error


def _of_archive(h5py: Any, source: Path, units: str) -> ShallowNetwork | FeedForward:
    """``.keras``: a zip archive of the description and of the arrays, which are named by kinds and numbers."""
    with zipfile.ZipFile(source) as archive:
        check_sizes(source, source.stat().st_size, [member.file_size for member in archive.infolist()])
        if archive.getinfo("config.json").file_size > _MAX_TEXT:
            raise FileFormatError("its description is larger than certnet reads")
        description = json.loads(archive.read("config.json"))
        version = str(json.loads(archive.read("metadata.json")).get("keras_version", ""))
        content = io.BytesIO(archive.read("model.weights.h5"))
    layers = _layers(description)
    counts: Counter[str] = Counter()
    groups = {}
    for layer in (layer for layer in _all_layers(description) if layer.kind != "InputLayer"):
        kind = _snake(layer.kind)
        groups[layer.name] = kind if counts[kind] == 0 else f"{kind}_{counts[kind]}"
        counts[kind] += 1
    with h5py.File(content, "r") as file:

        def arrays(layer: _Described) -> list[Float]:
            held = _entry(h5py, file, f"layers/{groups[layer.name]}/vars")
            named = _text(held.attrs.get("name", layer.name))
            if named != layer.name:
                raise FileFormatError(f"the arrays of {layer} are those of {named[:80]!r}")
            names = [f"layers/{groups[layer.name]}/vars/{k}" for k in range(len(held))]
            return _read(h5py, file, names, layer)

        return _network(layers, arrays, version, units)


# ------------------------------------------------------------------------------------------------------ the description


def _all_layers(description: Mapping[str, Any]) -> list[_Described]:
    if description.get("class_name") not in ("Sequential", "Functional", "Model"):
        raise UnsupportedModelError(
            f"it is a {str(description.get('class_name'))[:80]}, a class of its own: Sequential and functional models "
            f"are read; {_EXPORT}"
        )
    config = description["config"]
    entries = config if isinstance(config, list) else config["layers"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= _MAX_LAYERS:
        raise FileFormatError(f"it describes no layers, or more than {_MAX_LAYERS}")
    found = []
    for entry in entries:
        kind, inner = str(entry["class_name"]), entry["config"]
        module, registered = entry.get("module"), entry.get("registered_name")
        if module not in (None, "keras.layers") or registered not in (None, kind):
            raise UnsupportedModelError(
                f"the layer {str(inner.get('name'))[:80]!r} is of a class of its own: {_EXPORT}"
            )
        found.append(_Described(kind, str(inner.get("name", entry.get("name"))), inner))
    if len({layer.name for layer in found}) != len(found):
        raise FileFormatError("two layers have the same name")
    return found


def _layers(description: Mapping[str, Any]) -> list[_Described]:
    """The layers in the order of their use."""
    layers = _all_layers(description)
    config = description["config"]
    if description["class_name"] == "Sequential":
        return layers
    named = {layer.name: layer for layer in layers}
    before = {}
    for entry in config["layers"]:
        name = str(entry.get("name", entry["config"].get("name")))
        uses = entry["inbound_nodes"]
        sources = list(_sources(uses))
        if len(uses) > 1 or len(sources) > 1:
            raise UnsupportedModelError(f"two paths of the data meet, or part, at {named[name]}: a chain is read")
        if _says_training(uses):
            raise UnsupportedModelError(f"{named[name]} is called with training=True: it is no function of one sample")
        before[name] = sources[0] if sources else None
    ends = config["input_layers"], config["output_layers"]
    first, last = (list(_names(end)) for end in ends)
    if len(first) != 1 or len(last) != 1:
        raise UnsupportedModelError(f"it has {len(first)} inputs and {len(last)} outputs: one each is read")
    chain: list[_Described] = []
    at: str | None = last[0]
    while at is not None:
        if len(chain) >= len(layers):
            raise FileFormatError("its layers go round in a circle")
        chain.append(named[at])
        at = before[at]
    if chain[-1].name != first[0] or len(chain) != len(layers):
        raise UnsupportedModelError("its layers are no chain from the input to the output")
    return chain[::-1]


def _sources(uses: Any) -> Iterator[str]:
    """Names of the layers that a layer's calls take data from, as versions 2 and 3 write them."""
    if isinstance(uses, Mapping):
        if "keras_history" in uses:
            yield str(uses["keras_history"][0])
        else:
            for value in uses.values():
                yield from _sources(value)
    elif isinstance(uses, list):
        if len(uses) >= 3 and isinstance(uses[0], str) and all(isinstance(n, int) for n in uses[1:3]):
            yield uses[0]
        else:
            for value in uses:
                yield from _sources(value)


def _says_training(uses: Any) -> bool:
    """Is a layer called as in training, whatever the model is used for?"""
    if isinstance(uses, Mapping):
        return bool(uses.get("training")) or any(map(_says_training, uses.values()))
    return isinstance(uses, list) and any(map(_says_training, uses))


def _names(end: Any) -> Iterator[str]:
    """Of ``["name", 0, 0]`` or a list of such."""
    if end and isinstance(end[0], str):
        yield end[0]
    else:
        for one in end:
            yield str(one[0])


# ----------------------------------------------------------------------------------------------------------- the arrays


def _read(h5py: Any, file: Any, names: list[str], layer: _Described) -> list[Float]:
    found, entries = [], 0
    for name in names:
        data = _entry(h5py, file, name)
        if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
            raise FileFormatError(f"{name[:160]!r} is no array in the file itself")
        entries += math.prod(data.shape)
        if entries > MAX_ENTRIES:
            raise FileFormatError(f"{layer} holds more than {MAX_ENTRIES} numbers")
        if data.dtype.kind != "f":
            if name.endswith("count") or (layer.kind == "Normalization" and not data.shape):
                continue
            raise UnsupportedModelError(f"{layer} holds numbers of type {data.dtype}: floats are read")
        found.append(finite_array(np.asarray(data[()], dtype=np.float64), name[:160], ndim=(0, 1, 2, 3, 4)))
    return found


def _entry(h5py: Any, file: Any, path: str) -> Any:
    """By hard links alone: others may lead out of the file."""
    at = file
    for part in path.split("/"):
        if not isinstance(at, h5py.Group) or not isinstance(at.get(part, getlink=True), h5py.HardLink):
            raise FileFormatError(f"{path[:160]!r} is missing in it")
        at = at[part]
    return at


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _snake(kind: str) -> str:
    """The name that Keras gives to the arrays of layers of a kind: LeakyReLU is leaky_re_lu."""
    kind = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", kind).lower()


# ---------------------------------------------------------------------------------------------------------- the network


class _Chain:
    """Affine steps up to the next activation, and the layers behind them."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.steps: list[Step] = []
        self.stages: list[list[Step]] = []
        self.activations: list[Activation] = []
        self.used: list[str] = []
        self.remarks: list[str] = []
        self.rank = 1
        self.size: int | None = None

    def dense(self, W: Float, layer: _Described) -> None:
        self.flat(layer)
        if self.size not in (None, W.shape[1]):
            raise FileFormatError(f"{layer} takes {W.shape[1]} features, the one before it gives {self.size}")
        self.steps.append(Dense(W))
        self.used.append(layer.name)
        self.size = len(W)

    def flat(self, layer: _Described) -> None:
        if self.rank != 1:
            raise UnsupportedModelError(f"{layer} works on {self.rank + 1} dimensions: flatten the samples first")

    def each(self, values: Float, layer: _Described) -> Float:
        """One number for all features, or one for each."""
        if values.size == 1:
            return values.reshape(1)
        self.flat(layer)
        if self.size not in (None, values.size):
            raise FileFormatError(f"{layer} has {values.size} numbers, the layer before it gives {self.size}")
        self.size = values.size
        return values.reshape(-1)

    def affine(self, scale: Float, shift: Float) -> None:
        self.steps += [Scale(scale), Shift(shift)]

    def activate(self, phi: Activation | None, where: str) -> None:
        if phi is None:
            return
        self.put_identity(where)
        self.stages.append(self.steps)
        self.activations.append(phi)
        self.steps = []

    def put_identity(self, where: str) -> None:
        """``φ(x) = I φ(I x)``: a layer needs a matrix."""
        if any(isinstance(step, Dense) for step in self.steps):
            return
        if self.size is None or not 0 < self.size <= _MAX_IDENTITY:
            raise UnsupportedModelError(f"{where} does not stand behind a Dense layer of at most {_MAX_IDENTITY} units")
        self.steps.append(Dense(np.eye(self.size)))

    def named(self, name: Any, layer: _Described) -> Activation | None:
        """The activation that Keras calls by this name; None is the identity."""
        if name in (None, "linear"):
            return None
        if isinstance(name, str) and name in _PLAIN:
            return Activation(_PLAIN[name])
        if name == "leaky_relu" and not self.version.startswith(("1.", "2.")):
            return Activation("leaky_relu", (0.2,))
        if name == "hard_sigmoid":  # clip(z / 5 + 1/2) before version 3
            old = self.version.startswith(("1.", "2."))
            return Activation("hard_sigmoid", (0.2 if old else 1.0 / 6.0, 0.5))
        what = f"the activation {name[:80]!r}" if isinstance(name, str) else "an activation of its own"
        raise UnsupportedModelError(f"{layer} has {what}, which certnet does not read: {_EXPORT}")


def _network(layers: list[_Described], arrays: _Arrays, version: str, units: str) -> ShallowNetwork | FeedForward:
    chain = _Chain(version)
    for k, layer in enumerate(layers):
        last = all(other.kind in _WITHOUT_EFFECT for other in layers[k + 1 :])
        _apply(chain, layer, arrays, last=last)
    if not chain.activations:
        raise UnsupportedModelError("it has no activation: its Lipschitz constant is the norm of its matrix")
    chain.put_identity("the activation at the end")
    folded = [fold(steps) for steps in (*chain.stages, chain.steps)]
    network = build([W for W, _ in folded], [b for _, b in folded], chain.activations, units)
    read = f"{summary(network)}, from {', '.join(chain.used[:12])}{', …' if len(chain.used) > 12 else ''}"
    return network.described(About(read, (), (), tuple(chain.remarks)))


def _apply(chain: _Chain, layer: _Described, arrays: _Arrays, *, last: bool) -> None:
    kind, config = layer.kind, layer.config
    if kind == "InputLayer" or (not chain.steps and not chain.stages and chain.size is None):
        shape = config.get("batch_shape", config.get("batch_input_shape"))
        if shape is not None:
            chain.rank = len(shape) - 1
            chain.size = math.prod(shape[1:]) if all(isinstance(n, int) for n in shape[1:]) else None
    if kind in _WITHOUT_EFFECT:
        return
    if kind == "Dense":
        if config.get("lora_rank") is not None or config.get("quantization_config") is not None:
            raise UnsupportedModelError(f"{layer} has weights of low rank or quantised ones: {_EXPORT}")
        kernel, *bias = arrays(layer)
        if kernel.ndim != 2 or len(bias) != bool(config.get("use_bias", True)):
            raise FileFormatError(f"{layer} does not hold one matrix and its bias")
        chain.dense(np.ascontiguousarray(kernel.T), layer)
        if bias:
            chain.steps.append(Shift(chain.each(bias[0], layer)))
    elif kind == "Flatten":
        if chain.rank > 2 and config.get("data_format") == "channels_first":
            raise UnsupportedModelError(f"{layer} takes the channels first: {_EXPORT}")
        chain.rank = 1
    elif kind == "BatchNormalization":
        _batch_norm(chain, layer, arrays(layer))
    elif kind == "Normalization":
        _normalisation(chain, layer, arrays)
    elif kind == "Rescaling":
        scale, offset = (np.asarray(config[name], dtype=np.float64) for name in ("scale", "offset"))
        chain.affine(chain.each(scale, layer), chain.each(offset, layer))
    elif kind not in ("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax"):
        why = _UNBOUNDED.get(kind, "which certnet does not read")
        raise UnsupportedModelError(f"{layer} is of a kind {why}: {_EXPORT}")
    if kind == "Softmax" or config.get("activation") in ("softmax", "log_softmax"):
        if not last:
            raise UnsupportedModelError(f"{layer} has a softmax that is not the last step")
        chain.remarks.append("the softmax at the end is left out: the network gives the logits")
    elif kind in ("Dense", "Activation"):
        chain.activate(chain.named(config.get("activation"), layer), str(layer))
    elif kind in ("ReLU", "LeakyReLU", "ELU", "PReLU"):
        chain.activate(_activation(layer, arrays), str(layer))


def _batch_norm(chain: _Chain, layer: _Described, held: list[Float]) -> None:
    """``γ (x − μ) / √(σ² + ε) + β``."""
    config = layer.config
    chain.flat(layer)
    axis = config["axis"]
    if (axis[0] if isinstance(axis, list) else axis) not in (-1, 1):
        raise UnsupportedModelError(f"{layer} is along another axis than the features")
    scaled, centred = bool(config["scale"]), bool(config["center"])
    if len(held) != 2 + scaled + centred:
        raise FileFormatError(f"{layer} holds {len(held)} arrays")
    mean, variance = held[-2:]
    if not np.all(variance >= 0.0):
        raise InvalidInputError(f"{layer} has a variance below zero")
    scale = (held[0] if scaled else 1.0) / np.sqrt(variance + float(config["epsilon"]))
    shift = (held[scaled] if centred else 0.0) - mean * scale
    chain.affine(chain.each(scale, layer), chain.each(shift, layer))


def _normalisation(chain: _Chain, layer: _Described, arrays: _Arrays) -> None:
    """``(x − μ) / max(σ, 1e-7)``."""
    config = layer.config
    if config.get("invert"):
        raise UnsupportedModelError(f"{layer} is inverted: {_EXPORT}")
    held: list[Any] = [config.get("mean"), config.get("variance")]
    mean, variance = (np.asarray(v, dtype=np.float64) for v in (arrays(layer)[:2] if held[0] is None else held))
    if not np.all(variance >= 0.0):
        raise InvalidInputError(f"{layer} has a variance below zero")
    scale = 1.0 / np.maximum(np.sqrt(variance), 1e-7)
    chain.affine(chain.each(scale, layer), chain.each(-mean * scale, layer))


def _activation(layer: _Described, arrays: _Arrays) -> Activation:
    kind, config = layer.kind, layer.config
    if kind == "ELU":
        return Activation("elu", (float(config["alpha"]),))
    if kind == "LeakyReLU":  # "alpha" before version 3
        return Activation("leaky_relu", (float(config.get("negative_slope", config.get("alpha"))),))
    if kind == "PReLU":
        (slopes,) = arrays(layer)
        if not np.all(slopes == slopes.ravel()[0]):
            raise UnsupportedModelError(f"{layer} has a slope for each unit: one for all units of a layer is read")
        return Activation("leaky_relu", (float(slopes.ravel()[0]),))
    top, slope, threshold = (config.get(name) or 0.0 for name in ("max_value", "negative_slope", "threshold"))
    if threshold or (top and slope):
        raise UnsupportedModelError(f"{layer} has a threshold, or a slope and a largest value: {_EXPORT}")
    if config.get("max_value") is not None:
        return Activation("relu6") if top == 6.0 else Activation("hardtanh", (0.0, float(top)))
    return Activation("leaky_relu", (float(slope),)) if slope else Activation("relu")
