"""``.nnet`` files, the text format of the collision-avoidance networks (Stanford, SISL)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from certnet.core.errors import FileFormatError, InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.networks import simplest, summary
from certnet.io.paths import readable_file
from certnet.networks.about import About
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["load_nnet"]

_MAX_BYTES: Final = 1 << 30
_MAX_LAYERS: Final = 1000


def load_nnet(path: str | os.PathLike[str], *, units: str = "as given") -> ShallowNetwork | FeedForward:
    """The ReLU network ``f(x) = r_y N((x − μ) / r) + μ_y`` of an ``.nnet`` file, with the scaling folded in.

    The file holds, as text: comments (``//``), the number of layers and sizes, all widths, a flag, minima and maxima of
    the inputs, means μ and ranges r of the inputs and of the output, then weights and biases layer by layer. Inputs and
    outputs are those *outside* of the scaling. The programs that evaluate such files also clip inputs to the minima and
    maxima; the network does not, and as clipping moves no two inputs apart, a bound of the network holds for them too.

    Raises
    ------
    FileFormatError
        The file is missing, larger than 1 GiB, truncated or of another format.
    InvalidInputError
        Numbers that are NaN or infinite; a range of zero.
    """
    source = readable_file(path)
    if source.stat().st_size > _MAX_BYTES:
        raise FileFormatError(f"{source} is larger than {_MAX_BYTES >> 30} GiB, the most that certnet reads")
    try:
        network = _network(_lines(source), units)
    except (OSError, ValueError, OverflowError, StopIteration, RuntimeError) as error:
        if isinstance(error, InvalidInputError | UnsupportedModelError):
            raise type(error)(f"{source}: {error}") from error
        what = "it ends too soon" if isinstance(error, StopIteration) else error
        raise FileFormatError(f"{source} is no .nnet file, or a damaged one: {what}") from error
    remarks = ("the file's scaling is folded in", "inputs are not clipped to the file's minima and maxima")
    described = network.described(About(f"{summary(network)}, from .nnet", (), (), remarks))
    return simplest(described)


def _lines(source: Path) -> Iterator[list[str]]:
    """Entries of each line that is neither empty nor a comment."""
    with source.open(encoding="utf-8", errors="strict") as file:
        for line in file:
            if line.strip() and not line.lstrip().startswith("//"):
                yield line.strip().rstrip(",").split(",")


def _network(lines: Iterator[list[str]], units: str) -> FeedForward:
    layers, n_inputs, n_outputs, _ = (int(entry) for entry in next(lines)[:4])
    widths = [int(entry) for entry in next(lines)]
    if not 1 <= layers <= _MAX_LAYERS or len(widths) != layers + 1 or not all(0 < n < 1 << 24 for n in widths):
        raise ValueError(f"it has {layers} layers and the widths {widths[:12]}")
    if (widths[0], widths[-1]) != (n_inputs, n_outputs):
        raise ValueError(f"it has {n_inputs} inputs and {n_outputs} outputs, and the widths {widths[:12]}")
    if layers == 1:
        raise UnsupportedModelError("it has no hidden layer: its Lipschitz constant is the norm of its matrix")
    next(lines)  # a flag that is not used
    low, high = _numbers(next(lines), n_inputs), _numbers(next(lines), n_inputs)
    mean, spread = _numbers(next(lines), n_inputs + 1), _numbers(next(lines), n_inputs + 1)
    if not np.all(low <= high):
        raise ValueError("a minimum of the inputs is above its maximum")
    weights, biases = [], []
    for d, h in pairwise(widths):
        # rows are counted by what the file holds, not by what it announces
        weights.append(np.stack([_numbers(next(lines), d) for _ in range(h)]))
        biases.append(np.concatenate([_numbers(next(lines), 1) for _ in range(h)]))
    if next(lines, None) is not None:
        raise ValueError("it goes on behind the last layer")
    if not np.all(spread):
        raise InvalidInputError("a range in it is zero")
    return FeedForward(weights, biases, "relu", units=units).rescaled(
        x_shift=mean[:-1], x_scale=spread[:-1], y_shift=mean[-1], y_scale=spread[-1], units=units
    )


def _numbers(entries: list[str], n: int) -> Float:
    if len(entries) != n:
        raise ValueError(f"a line has {len(entries)} numbers, {n} are needed")
    values = [float(entry) for entry in entries]
    if not all(map(math.isfinite, values)):
        raise InvalidInputError("it holds numbers that are NaN or infinite")
    return np.array(values)
