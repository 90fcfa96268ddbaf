"""ATen operators on images and signals: convolutions, pooling, sums over dimensions, and whatever moves entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.backends.torch_ import import_torch
from certnet.core.errors import UnsupportedModelError
from certnet.io.graphs import MAX_WINDOW, Graph, Value
from certnet.io.pooling import Windows, average_pooled, averaged, max_pooled
from certnet.io.torch_tensors import array_of
from certnet.networks.operators import Convolution

__all__ = ["IMAGES", "MOVES", "Image", "moved"]

Index = NDArray[np.int64]
Image = tuple[int, ...]


def _pair(values: Any, least: int, dims: int) -> tuple[int, int]:
    """An argument of PyTorch for a signal (dims = 1, read as an image of height 1) or an image."""
    numbers = [int(v) for v in values] if isinstance(values, Sequence) else [int(values)]
    if len(numbers) == 1:
        numbers *= dims
    if dims == 1:
        return least, numbers[0]
    return numbers[0], numbers[1]


def _image(shape: Image) -> tuple[int, int, int]:
    if len(shape) not in (2, 3):
        raise UnsupportedModelError(f"images and signals of shape {shape} with a channel dimension are read alone")
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (shape[0], shape[1], shape[2])


# -------------------------------------------------------------------------------------------------------- convolutions


def _convolution(graph: Graph, x: Value, shape: Image, a: Mapping[str, Any], new: Image) -> Value:
    torch = import_torch()
    weight = a["weight"]
    if a.get("transposed"):
        raise UnsupportedModelError("transposed convolutions are not read: upsample the image, and convolve it")
    if not isinstance(weight, torch.Tensor) or not isinstance(a["bias"], torch.Tensor | None):
        raise UnsupportedModelError("the kernel of a convolution is made of data: data are multiplied by data")
    dims = weight.ndim - 2
    if dims not in (1, 2):
        raise UnsupportedModelError("convolutions in one and two dimensions are read, in three they are not")
    kernel = array_of(weight, "a kernel")
    kernel = kernel[:, :, None] if dims == 1 else kernel
    image = _image(shape)
    stride, dilation = _pair(a["stride"], 1, dims), _pair(a["dilation"], 1, dims)
    padding = _padding(a["padding"], kernel.shape[2:], dilation, dims)
    A = Convolution(kernel, image, stride, padding, dilation, int(a["groups"]))
    bias = None if a["bias"] is None else np.repeat(array_of(a["bias"], "a bias"), prod(A.out_image[1:]))
    return graph.affine([(x, A)], bias)


def _padding(
    given: Any, kernel: Sequence[int], dilation: tuple[int, int], dims: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    if given == "valid":
        return (0, 0), (0, 0)
    if given == "same":  # PyTorch pads more at the end where both cannot be equal
        total = [d * (k - 1) for k, d in zip(kernel, dilation)]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    down, across = _pair(given, 0, dims)
    return (down, down), (across, across)


# ------------------------------------------------------------------------------------------------------------- pooling


def _laid(a: Mapping[str, Any], shape: Image, new: Image) -> Windows:
    """The windows of a pooling; the padding at the end is what the result's size takes."""
    dims, image = len(shape) - 1, _image(shape)
    kernel = _pair(a["kernel_size"], 1, dims)
    stride = _pair(a["stride"], 1, dims) if a.get("stride") else kernel
    before, dilation = _pair(a["padding"], 0, dims), _pair(a.get("dilation", 1), 1, dims)
    down, right = (
        max(0, (out - 1) * s + d * (k - 1) + 1 - n - p)
        for out, s, d, k, n, p in zip(_image(new)[1:], stride, dilation, kernel, image[1:], before)
    )
    return Windows(image, kernel, stride, ((before[0], down), (before[1], right)), dilation)


def _max_pool(graph: Graph, x: Value, shape: Image, a: Mapping[str, Any], new: Image) -> Value:
    laid = _laid(a, shape, new)
    if prod(laid.kernel) > MAX_WINDOW:
        raise UnsupportedModelError(
            f"max pooling over windows of {prod(laid.kernel)} entries: each is compared with another by a hidden unit, "
            f"and {MAX_WINDOW} are read at most"
        )
    return max_pooled(graph, x, laid)


def _average_pool(graph: Graph, x: Value, shape: Image, a: Mapping[str, Any], new: Image) -> Value:
    if a.get("ceil_mode"):
        raise UnsupportedModelError("average pooling with ceil_mode=True is not read: pad the image")
    laid = _laid(a, shape, new)
    return average_pooled(graph, x, laid, outside=a["count_include_pad"], divisor=a.get("divisor_override"))


def _adaptive(shape: Image, new: Image) -> Index:
    """Windows from ⌊i n / m⌋ to ⌈(i + 1) n / m⌉, filled with −1."""
    (c, high, wide), (_, m, k) = _image(shape), _image(new)
    down, across = (
        [range(i * n // out, -(-(i + 1) * n // out)) for i in range(out)] for n, out in ((high, m), (wide, k))
    )
    size = max(map(len, down)) * max(map(len, across))
    pixels = np.arange(c * high * wide).reshape(c, high, wide)
    index = np.full((c, m, k, size), -1)
    for i, j in np.ndindex(m, k):
        seen = pixels[:, down[i].start : down[i].stop, across[j].start : across[j].stop].reshape(c, -1)
        index[:, i, j, : seen.shape[1]] = seen
    return index.reshape(-1, size)


def _adaptive_average(graph: Graph, x: Value, shape: Image, a: Mapping[str, Any], new: Image) -> Value:
    return averaged(graph, x, _adaptive(shape, new))


def _adaptive_max(graph: Graph, x: Value, shape: Image, a: Mapping[str, Any], new: Image) -> Value:
    return graph.max_pool(x, _adaptive(shape, new))


def _over_dimensions(a: Mapping[str, Any], shape: Image) -> Index:
    """An index (outputs, summed entries) of what a sum over dimensions of the samples takes."""
    dims = sorted({int(d) % (len(shape) + 1) for d in a.get("dim") or ()})
    if not dims or 0 in dims:
        raise UnsupportedModelError("a sum or mean over other entries than those of one sample mixes the batch")
    at = np.arange(prod(shape)).reshape(shape)
    last = np.moveaxis(at, [d - 1 for d in dims], range(-len(dims), 0))
    return last.reshape(-1, prod(shape[d - 1] for d in dims))


def _mean(graph: Graph, x: Value, shape: Image, a: Mapping[str, Any], new: Image) -> Value:
    return averaged(graph, x, _over_dimensions(a, shape))


def _sum(graph: Graph, x: Value, shape: Image, a: Mapping[str, Any], new: Image) -> Value:
    return averaged(graph, x, _over_dimensions(a, shape), total=True)


def _max_over(graph: Graph, x: Value, shape: Image, a: Mapping[str, Any], new: Image) -> Value:
    if a.get("dim") is None:
        raise UnsupportedModelError("a maximum over all samples mixes the batch")
    dims = a["dim"] if isinstance(a["dim"], Sequence) else [a["dim"]]
    return graph.max_pool(x, _over_dimensions({"dim": dims}, shape))


IMAGES: Final[dict[str, Callable[[Graph, Value, Image, Mapping[str, Any], Image], Value]]] = {
    **dict.fromkeys(("conv1d", "conv2d", "convolution", "_convolution", "conv3d"), _convolution),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool2d_with_indices", "max_pool1d_with_indices"), _max_pool),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), _average_pool),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d"), _adaptive_average),
    **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d"), _adaptive_max),
    "mean": _mean,
    "sum": _sum,
    **dict.fromkeys(("amax", "max"), _max_over),
}
"""What an operator with arguments makes of a value of one shape, for samples of another shape."""

# --------------------------------------------------------------------------------------------------------------- moves

MOVES: Final = frozenset(
    {
        "permute",
        "transpose",
        "swapaxes",
        "movedim",
        "t",
        "slice",
        "select",
        "narrow",
        "flip",
        "roll",
        "rot90",
        "index",
        "index_select",
        "unfold",
        "im2col",
        "expand",
        "repeat",
        "tile",
        "repeat_interleave",
        "pad",
        "constant_pad_nd",
        "reflection_pad1d",
        "reflection_pad2d",
        "replication_pad1d",
        "replication_pad2d",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "_upsample_nearest_exact1d",
        "_upsample_nearest_exact2d",
        "pixel_shuffle",
        "pixel_unshuffle",
        "channel_shuffle",
        "native_channel_shuffle",
        "split",
        "split_with_sizes",
        "chunk",
        "unbind",
        "tensor_split",
        "diagonal",
        "tril",
        "triu",
    }
)
"""Operators that move, copy and drop entries, or put zeros between them."""


def moved(call: Callable[[Any], Any], shape: Image, batch: int) -> list[Index]:
    """Where the entries of the results of an operator in :data:`MOVES` come from, −1 where they are zero.

    The operator is called on a batch of numbered entries, 1 … batch · n, so each sample must give those of its own.

    Raises
    ------
    UnsupportedModelError
        The samples of a batch are mixed, or other numbers than zero are put in.
    """
    torch = import_torch()
    n = prod(shape)
    results = call(torch.arange(1, batch * n + 1, dtype=torch.float64).reshape(batch, *shape))
    found = []
    for result in results if isinstance(results, tuple | list) else [results]:
        got = result.numpy()
        if got.shape[:1] != (batch,) or (got != np.round(got)).any():
            raise UnsupportedModelError("the samples of a batch are mixed, or numbers are put in")
        numbers = got.reshape(batch, -1).astype(np.int64)
        own = np.where(numbers > 0, numbers - n * np.arange(batch)[:, None], 0)
        if (own != own[0]).any() or own.min(initial=0) < 0 or own.max(initial=0) > n:
            raise UnsupportedModelError("the samples of a batch are mixed: each must be computed alone")
        found.append(own[0] - 1)
    return found
