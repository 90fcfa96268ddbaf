"""Files with PyTorch's weights: state dicts and checkpoints, safetensors, and what is refused with advice."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from certnet.backends.torch_ import import_torch
from certnet.core.errors import FileFormatError, InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.affine import MAX_ENTRIES
from certnet.io.paths import readable_file
from certnet.io.torch_state import Activations, Entry, network_of_state
from certnet.io.torch_tensors import array_of
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["load_exported", "load_safetensors", "load_torch", "state_entries", "state_in"]

_ADVICE: Final = "save the weights alone, with torch.save(model.state_dict(), path)"
_EXPORT: Final = (
    "load it where you trust it and pass it on, certnet.from_torch(torch.export.load(path)), or export the model to "
    "ONNX, torch.onnx.export(model, (x,), 'model.onnx', dynamo=True)"
)
_MAX_BYTES: Final = 4 << 30
_MAX_INFLATION: Final = 100
_MAX_HEADER: Final = 16 << 20
_SIZES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""Bytes of an entry of the dtypes of safetensors; others are of no network that certnet reads."""


def load_torch(
    path: str | os.PathLike[str],
    *,
    activations: Activations | None = None,
    layers: Sequence[str] | None = None,
    key: str | None = None,
    batch_norm_eps: float | None = None,
    units: str = "as given",
) -> ShallowNetwork | FeedForward:
    """The network of a state dict in a file of ``torch.save``: ``model.state_dict()``, or a checkpoint that holds one.

    Read with ``weights_only=True``: nothing in the file is executed. See :func:`certnet.io.torch_.from_torch` for the
    arguments; ``activations`` must be said.

    Raises
    ------
    FileFormatError
        The file is missing, a folder, empty, truncated, TorchScript, an exported program, a whole module or another
        pickle, would inflate to more than 4 GiB or 100 times its size, or holds something other than a mapping.
    UnsupportedModelError, InvalidInputError, MissingDependencyError
        See :func:`~certnet.io.torch_.from_torch`; the message names the file.
    """
    source = readable_file(path)
    _check_container(source)
    state = _load_weights(source)
    if not isinstance(state, Mapping):
        raise FileFormatError(f"{source} holds {type(state).__name__}, not a state dict: {_ADVICE}")
    try:
        chosen = state_in(state, key)
        _check_stored(chosen, source)
        return network_of_state(
            state_entries(chosen),
            activations=activations,
            layers=layers,
            batch_norm_eps=batch_norm_eps,
            units=units,
            source="state",
        )
    except (UnsupportedModelError, InvalidInputError) as error:
        raise type(error)(f"{source}: {error}") from error


def load_safetensors(
    path: str | os.PathLike[str],
    *,
    activations: Activations | None = None,
    layers: Sequence[str] | None = None,
    batch_norm_eps: float | None = None,
    units: str = "as given",
) -> ShallowNetwork | FeedForward:
    """The network of a state dict in a ``.safetensors`` file, which needs neither PyTorch nor safetensors.

    The file is the length n of a header (8 bytes, little-endian), n bytes of JSON with dtype, shape and place of each
    tensor, and the numbers. Every size is checked against the file before anything is read. See
    :func:`certnet.io.torch_.from_torch` for the arguments; ``activations`` must be said.

    Raises
    ------
    FileFormatError
        The file is missing, a folder, empty, truncated or of another format.
    UnsupportedModelError, InvalidInputError
        See :func:`~certnet.io.torch_.from_torch`; the message names the file.
    """
    source = readable_file(path)
    try:
        return network_of_state(
            _safetensors(source),
            activations=activations,
            layers=layers,
            batch_norm_eps=batch_norm_eps,
            units=units,
            source="state",
        )
    except (UnsupportedModelError, InvalidInputError) as error:
        raise type(error)(f"{source}: {error}") from error


def load_exported(path: str | os.PathLike[str]) -> ShallowNetwork | FeedForward:
    """Refuse a ``.pt2`` file: PyTorch reads it through pickles, which would run code; the error says what to do.

    Raises
    ------
    FileFormatError
        Always.
    """
    raise _exported(readable_file(path))


def _exported(source: Path) -> FileFormatError:
    return FileFormatError(
        f"{source} is an exported program, and torch.export.load runs code that such a file may hold: {_EXPORT}"
    )


# ---------------------------------------------------------------------------------------------------------- state dicts


def state_in(mapping: Mapping[str, Any], key: str | None) -> Mapping[str, Any]:
    """The state dict that a mapping is, or the only one that it holds, or that under ``key``.

    Raises
    ------
    UnsupportedModelError
        It holds none, or several and no ``key`` says which.
    InvalidInputError
        ``key`` is none of them.
    """
    held = [str(name) for name, value in mapping.items() if isinstance(value, Mapping) and _is_state(value)]
    if key is not None:
        if key not in held:
            raise InvalidInputError(f"key={key!r}: the state dicts are under {_listed(held)}")
        return dict(mapping[key])
    if not mapping or _is_state(mapping):
        return mapping
    if len(held) == 1:
        return dict(mapping[held[0]])
    if held:
        raise UnsupportedModelError(
            f"it holds several state dicts, under {_listed(held)}: say which, key={held[0]!r} or, in a shell, --key "
            f"{held[0]} for the first"
        )
    name, value = next(((n, v) for n, v in mapping.items() if not _is_tensor(v)), (None, None))
    if name is None:
        raise UnsupportedModelError("the keys of a state dict are text, such as 'net.0.weight'")
    raise UnsupportedModelError(
        f"the entry {str(name)[:100]!r} is {type(value).__name__}, not a tensor: a state dict, or a checkpoint that "
        "holds one, is read"
    )


def _is_tensor(value: Any) -> bool:
    return isinstance(value, import_torch().Tensor)


def _is_state(mapping: Mapping[Any, Any]) -> bool:
    return bool(mapping) and all(isinstance(n, str) and _is_tensor(v) for n, v in mapping.items())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:12])) or "no key"


def state_entries(state: Mapping[str, Any]) -> dict[str, Entry]:
    """The tensors of a state dict, with values on demand."""

    def entry(tensor: Any) -> Entry:
        return Entry(tuple(tensor.shape), lambda name: array_of(tensor, name))

    return {str(name): entry(tensor) for name, tensor in state.items()}


# -------------------------------------------------------------------------------------------------- files of torch.save


def _check_container(source: Path) -> None:
    """Refuse, before anything is inflated, what is too large or of another kind."""
    try:
        size = source.stat().st_size
        if size > _MAX_BYTES:
            raise FileFormatError(f"{source} is larger than {_MAX_BYTES >> 30} GiB")
        if not zipfile.is_zipfile(source):
            return
        with zipfile.ZipFile(source) as file:
            members = file.infolist()
    except PermissionError as error:
        raise FileFormatError(f"{source} cannot be read: {error.strerror}") from error
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return  # torch's own reader says what is wrong
    inflated = sum(member.file_size for member in members)
    if inflated > min(_MAX_BYTES, _MAX_INFLATION * size):
        raise FileFormatError(
            f"{source} of {size} bytes would inflate to {inflated}: at most {_MAX_BYTES >> 30} GiB and "
            f"{_MAX_INFLATION} times its size are read"
        )
    names = [member.filename.partition("/")[2] for member in members]
    if any(name.startswith(("models/", "archive_format")) for name in (*names, *(m.filename for m in members))) or any(
        member.filename == "serialized_exported_program.json" for member in members
    ):
        raise _exported(source)
    if any(name == "constants.pkl" or name.startswith("code/") for name in names):
        raise FileFormatError(
            f"{source} is TorchScript, a program that would run code: {_ADVICE}, or export the model to ONNX"
        )


def _load_weights(source: Path) -> Any:
    """What ``torch.load`` finds in an untrusted file without running code."""
    torch = import_torch()
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
            f"more than tensors (a whole module, TorchScript, another pickle), which would run code; {_ADVICE}, or of "
            "a checkpoint torch.save(checkpoint['state_dict'], path)"
        ) from error


def _check_stored(state: Mapping[str, Any], source: Path) -> None:
    """Refuse tensors that claim more entries than the file holds (a view with stride 0 may claim terabytes)."""
    torch = import_torch()
    claimed = 0
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            continue
        claimed += value.numel()
        if value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized:
            held = value.untyped_storage().nbytes() // value.element_size()
            if value.numel() > held:
                raise FileFormatError(
                    f"{source}: {name} has shape {tuple(value.shape)} but only {held} stored entries: {_ADVICE}"
                )
    if claimed > MAX_ENTRIES:
        raise FileFormatError(f"{source}: the tensors have {claimed} entries in all, more than {MAX_ENTRIES}")


# -------------------------------------------------------------------------------------------------------- safetensors


def _safetensors(source: Path) -> dict[str, Entry]:
    try:
        size = source.stat().st_size
        if size > _MAX_BYTES:
            raise FileFormatError(f"{source} is larger than {_MAX_BYTES >> 30} GiB")
        with source.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER):
                raise _no_safetensors(source, f"a header of {length} bytes does not fit")
            text = file.read(length)
    except OSError as error:
        raise FileFormatError(f"{source} cannot be read: {error.strerror}") from error
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_safetensors(source, "its header is no JSON") from error
    if not isinstance(header, dict):
        raise _no_safetensors(source, "its header is no table")
    header.pop("__metadata__", None)
    return {name: _stored(source, name, words, 8 + length, size) for name, words in header.items()}


def _stored(source: Path, name: str, words: Any, start: int, size: int) -> Entry:
    """A tensor of the header, its place checked against the file."""
    try:
        dtype, shape, (begin, end) = words["dtype"], words["shape"], words["data_offsets"]
        counts = [*shape, begin, end]
    except (TypeError, KeyError, ValueError) as error:
        raise _no_safetensors(source, f"the tensor {name[:80]!r} has no dtype, shape and data_offsets") from error
    if not all(type(n) is int and 0 <= n <= _MAX_BYTES for n in counts) or len(shape) > 8 or not begin <= end:
        raise _no_safetensors(source, f"the tensor {name[:80]!r} has a shape or place that cannot be")
    if end > size - start:
        raise _no_safetensors(source, f"the tensor {name[:80]!r} ends behind the end of the file: it is truncated")
    entries = 1
    for n in shape:
        entries *= n
    if isinstance(dtype, str) and dtype in _SIZES and entries * _SIZES[dtype] != end - begin:
        raise _no_safetensors(source, f"the tensor {name[:80]!r} of shape {tuple(shape)} has {end - begin} bytes")

    def values(said: str) -> Float:
        if dtype not in ("F64", "F32", "F16", "BF16"):
            raise UnsupportedModelError(
                f"{said} has dtype {str(dtype)[:20]}: real floating-point weights (F64, F32, F16, BF16) are needed"
            )
        if entries > MAX_ENTRIES:
            raise UnsupportedModelError(f"{said} has {entries} entries, more than {MAX_ENTRIES}")
        with source.open("rb") as file:
            file.seek(start + begin)
            raw = file.read(end - begin)
        if len(raw) != end - begin:
            raise _no_safetensors(source, "it has changed while it was read")
        if dtype == "BF16":  # the upper half of a float32
            return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).astype(float).reshape(shape)
        return np.frombuffer(raw, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).astype(float).reshape(shape)

    return Entry(tuple(shape), values)


def _no_safetensors(source: Path, problem: str) -> FileFormatError:
    return FileFormatError(
        f"{source} is no safetensors file, or truncated: {problem}; write it again, "
        "safetensors.torch.save_file(model.state_dict(), path)"
    )
