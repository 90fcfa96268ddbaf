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

from certnet.errors import FileFormatError, InvalidInputError
from certnet.files import write_atomic
from certnet.lifted import loss_functions
from certnet.lifted.learn.scaling import Scaling
from certnet.lifted.network import LiftedNetwork
from certnet.network import read_arrays

__all__ = ["Stored", "load_estimator", "save_estimator"]

_FORMAT: Final = "certnet-lifted-estimator-1"


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
    params = {name: _rebuilt(value) for name, value in head["params"].items()}
    scaling = {name: file[f"scaling_{name}"] for name in ("shift", "target_shift", "target_scale")}
    extra = {name.removeprefix("extra_"): file[name] for name in file if name.startswith("extra_")}
    network = LiftedNetwork.from_arrays(file, source)
    return Stored(head["kind"], params, network, Scaling(scale=float(file["scaling_scale"]), **scaling), extra)


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
        name = made.pop("loss")
        if name not in loss_functions.__all__:
            raise FileFormatError(f"the file names the loss {name!r}, which this version does not have")
        return getattr(loss_functions, name)(**made)
    return tuple(map(_rebuilt, value)) if isinstance(value, list) else value


def _array(value: Any, name: str) -> Any:
    array = np.asarray(value)
    if array.dtype == object and all(isinstance(entry, str) for entry in array.ravel()):
        array = array.astype(str)
    if array.dtype == object:
        raise InvalidInputError(f"{name} holds objects that are neither numbers nor text: use pickle")
    return array
