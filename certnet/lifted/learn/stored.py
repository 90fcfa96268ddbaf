"""Fitted estimators in ``.npz`` files, without pickles: network, scaling, and the constructor's arguments."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from certnet.core.errors import FileFormatError, InvalidInputError
from certnet.core.files import write_atomic
from certnet.lifted import loss_functions
from certnet.lifted.learn.scaling import Scaling
from certnet.lifted.network import LiftedNetwork
from certnet.networks.arrays import read_arrays

__all__ = ["CURVES", "Stored", "load_estimator", "save_estimator"]

_FORMAT: Final = "certnet-lifted-estimator-1"
CURVES: Final = ("loss_curve_", "validation_scores_")
"""Fitted attributes that every estimator has, lists of numbers."""
_OWN: Final = {"LiftedClassifier": ("classes_",)}
"""Fitted attributes that a kind of estimator has besides."""
_EXTRA: Final = ("classes_", "multilabel_", *CURVES, "feature_names_in_")


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """What a file of an estimator holds.

    Attributes
    ----------
    kind : str
        Name of the estimator's class.
    params : dict
        Arguments of its constructor.
    network : LiftedNetwork
    scaling : Scaling
    extra : dict of ndarray
        Classes, curves, names of features.
    """

    kind: str
    params: dict[str, Any]
    network: LiftedNetwork
    scaling: Scaling
    extra: dict[str, Any]


def save_estimator(path: str | os.PathLike[str], stored: Stored, *, force: bool = False) -> Path:
    """Write the file, complete or not at all.

    Raises
    ------
    InvalidInputError
        A parameter that JSON cannot hold (a loss of your own), or labels that are neither numbers nor text.
    OutputError
        The file exists and ``force`` is false, or cannot be written.
    """
    head = {"format": _FORMAT, "kind": stored.kind, "params": {k: _plain(v, k) for k, v in stored.params.items()}}
    extra = {f"extra_{name}": _array(value, name) for name, value in stored.extra.items()}
    scaling = {f"scaling_{field.name}": getattr(stored.scaling, field.name) for field in dataclasses.fields(Scaling)}
    buffer = io.BytesIO()
    np.savez(buffer, estimator=np.array(json.dumps(head)), **stored.network.arrays(), **scaling, **extra)
    return write_atomic(path, buffer.getvalue(), force=force)


def load_estimator(path: str | os.PathLike[str]) -> Stored:
    """Read what :func:`save_estimator` wrote.

    Raises
    ------
    FileFormatError
        The file is missing, truncated, or holds no estimator.
    """
    return read_arrays(path, _parse)


def _parse(file: Mapping[str, Any], source: Path) -> Stored:
    head = json.loads(str(file["estimator"])) if "estimator" in file else {}
    if not isinstance(head, dict) or head.get("format") != _FORMAT:
        raise FileFormatError(f"{source} holds no estimator of lifted networks ({_FORMAT})")
    if not isinstance(head.get("kind"), str) or not isinstance(head.get("params"), dict):
        raise FileFormatError(f"{source}: the estimator has no kind or no parameters")
    params = {name: _rebuilt(value) for name, value in head["params"].items()}
    network = LiftedNetwork.from_arrays(file, source)
    extra = {name.removeprefix("extra_"): file[name] for name in file if name.startswith("extra_")}
    _require_extra(extra, head["kind"], network, source)
    return Stored(head["kind"], params, network, _scaling(file, network, source), extra)


def _require_extra(extra: Mapping[str, Any], kind: str, network: LiftedNetwork, source: Path) -> None:
    """Only what an estimator writes, in its shapes: it becomes attributes."""
    sizes = {"feature_names_in_": network.n_inputs, "classes_": network.n_outputs, "multilabel_": 1}
    missing = [name for name in (*CURVES, *_OWN.get(kind, ())) if name not in extra]
    if missing:
        raise FileFormatError(f"{source} lacks extra_{missing[0]}")
    for name, array in extra.items():
        if name not in _EXTRA:
            raise FileFormatError(f"{source}: extra_{name[:40]} is nothing that an estimator writes")
        if array.ndim != 1 or len(array) != sizes.get(name, len(array)):
            raise FileFormatError(f"{source}: extra_{name} has shape {array.shape}, which does not fit the network")


def _scaling(file: Mapping[str, Any], network: LiftedNetwork, source: Path) -> Scaling:
    vectors = {name: file[f"scaling_{name}"] for name in ("shift", "target_shift", "target_scale")}
    scale = file["scaling_scale"]
    fits = scale.shape == () and vectors["shift"].shape == (network.n_inputs,)
    if not fits or vectors["target_scale"].shape not in ((0,), (network.n_outputs,)):
        raise FileFormatError(f"{source}: the scaling does not fit a network of layers {network.widths}")
    return Scaling(scale=float(scale), **vectors)


def _plain(value: Any, name: str) -> Any:
    """A parameter as JSON holds it; a loss by its name."""
    if type(value).__name__ in loss_functions.__all__ and dataclasses.is_dataclass(value):
        return {"loss": type(value).__name__, **dataclasses.asdict(value)}  # type: ignore[arg-type]
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(entry, name) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InvalidInputError(f"{name} is {type(value).__name__}, which a file of an estimator cannot hold: use pickle")


def _rebuilt(value: Any) -> Any:
    if isinstance(value, dict):
        made = dict(value)
        name = made.pop("loss", None)
        kind = getattr(loss_functions, name) if name in loss_functions.__all__ else None
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise FileFormatError(f"the file names the loss {str(name)[:40]!r}, which this version does not have")
        if made.keys() - {field.name for field in dataclasses.fields(kind)}:
            raise FileFormatError(f"the file gives the loss {name} parameters that it does not have")
        return kind(**made)
    return tuple(map(_rebuilt, value)) if isinstance(value, list) else value


def _array(value: Any, name: str) -> Any:
    array = np.asarray(value)
    if array.dtype == object and all(isinstance(entry, str) for entry in array.ravel()):
        array = array.astype(str)
    if array.dtype == object:
        raise InvalidInputError(f"{name} holds objects that are neither numbers nor text: use pickle")
    return array
