"""Files of structured networks that were damaged, or made to do harm: one kind of error, little memory."""

from __future__ import annotations

import copy
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_proofs_storage import LINEAR, RELU, dense, residual
from test_proofs_storage_fuzz import image

from certnet import FeedForward
from certnet.core.errors import FileFormatError, InvalidInputError
from certnet.networks.layers import Dense, Layer, LinearOperator
from certnet.networks.operators import Blocks, Convolution, Diagonal, Identity

Array = Any
Rng = np.random.Generator
LARGE = (1 << 31) - 1
ODD: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 7, LARGE, 1 << 31, 1 << 64, 10**40, -LARGE, 1.0, 0.5, 1e300, float("nan"), float("inf")),
    *(True, False, None, "", "dense", "blocks", "identity", [], {}, [0], [[]], [1, 2], {"a": 1}, "\ud800", "9" * 5000),
)


def diagonal_beside_identity() -> FeedForward:
    rng = np.random.default_rng(0)
    both = Blocks(((Diagonal(rng.standard_normal(2)), None), (None, Identity(2))))
    return FeedForward.chain([Layer(both, np.zeros(4), RELU, 2), Layer(dense(rng, 2, 4), np.zeros(2), LINEAR)])


NETWORKS = (residual(2, 3, blocks=1), image(RELU), diagonal_beside_identity())


def packed(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def spots(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something can be put in the place of a part."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return (
        [path, *(spot for key, part in inner for spot in spots(part, (*path, key)))]
        if path
        else [spot for key, part in inner for spot in spots(part, (key,))]
    )


def put(content: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


def got(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


def change_structure(rng: Rng, arrays: dict[str, Any]) -> None:
    """One or two parts replaced by odd ones or by others of it, or characters of the text."""
    name = "structure" if rng.random() < 0.85 else "activations"
    text = str(arrays[name])
    if rng.random() < 0.25:
        i = int(rng.integers(len(text)))
        text = text[:i] + str(rng.choice(list('[]{}",:0123456789-eE. null')))[: int(rng.integers(2))] + text[i + 1 :]
    else:
        content = json.loads(text)
        for _ in range(int(rng.integers(1, 3))):
            all_spots = spots(content)
            path = all_spots[int(rng.integers(len(all_spots)))]
            other = got(content, all_spots[int(rng.integers(len(all_spots)))])
            value = ODD[int(rng.integers(len(ODD)))] if rng.random() < 0.7 else other
            put(content, path, copy.deepcopy(value))
        text = json.dumps(content)
    arrays[name] = np.array(text.replace("\0", ""))


def change_array(rng: Rng, arrays: dict[str, Any]) -> None:
    name = str(rng.choice(sorted(arrays)))
    array = np.array(arrays[name])
    way = int(rng.integers(10))
    if way == 0:
        arrays[name] = array.ravel()[: int(rng.integers(array.size + 1))]
    elif way == 1:
        arrays[name] = array[None]
    elif way == 2:
        kinds = ["f4", "i8", "i4", "c16", "?", "U9", "M8[s]", "S3", "V8", "u8", "f2"]
        try:
            arrays[name] = array.astype(str(rng.choice(kinds)))
        except (TypeError, ValueError):
            arrays[name] = np.zeros(array.shape, dtype=str(rng.choice(kinds)))
    elif way == 3 and array.dtype.kind == "f" and array.size:
        array.flat[int(rng.integers(array.size))] = rng.choice([np.nan, np.inf, -np.inf, 1e308])
        arrays[name] = array
    elif way == 4 and array.dtype.kind == "i" and array.size:
        array.flat[int(rng.integers(array.size))] = rng.choice([-1, -2, 10**6, -(2**63), 2**63 - 1])
        arrays[name] = array
    elif way == 5:
        del arrays[name]
    elif way == 6:
        arrays[name + "0"] = arrays.pop(name)
    elif way == 7:
        arrays[f"a{int(rng.integers(12))}"] = array
    elif way == 8:
        arrays[name] = np.zeros((0, 3))
    else:
        arrays[name] = np.concatenate([array.ravel()] * 2) if array.ndim else np.array(str(array) * 2)


@pytest.mark.parametrize("k", range(len(NETWORKS)))
def test_damaged_files_are_refused_in_one_way_or_are_networks(k: int, tmp_path: Path) -> None:
    rng, path, refused = np.random.default_rng(k), tmp_path / "net.npz", 0
    whole = NETWORKS[k].arrays()
    for _ in range(700):
        arrays = dict(whole)
        for _ in range(int(rng.integers(1, 3))):
            if arrays:
                way = change_structure if "structure" in arrays and rng.random() < 0.6 else change_array
                try:
                    way(rng, arrays)
                except (ValueError, KeyError, TypeError, AttributeError):  # of what was changed before
                    continue
        content = packed(arrays)
        if rng.random() < 0.1:
            cut = int(rng.integers(len(content)))
            content = content[:cut] + bytes([int(rng.integers(256))]) * int(rng.integers(2)) + content[cut + 1 :]
        path.write_bytes(content)
        try:
            net = FeedForward.load(path)
        except FileFormatError:
            refused += 1
        else:
            again = FeedForward.chain(net.layers, units=net.units)
            assert again.digest == net.digest
            assert net.n_inputs < 1 << 27
            with np.errstate(all="ignore"):
                assert net.forward(np.zeros((1, net.n_inputs))).shape == (1, net.n_outputs)
    assert 200 < refused < 700


def loaded(
    tmp_path: Path, operators: Any, arrays: list[Array], biases: list[Array], carried: Any = None
) -> FeedForward:
    """A network of one hidden layer in a file that says so."""
    structure = {"operators": operators, "carried": [0] * len(biases) if carried is None else carried}
    made = {f"a{k}": array for k, array in enumerate(arrays)} | {f"b{k}": b for k, b in enumerate(biases)}
    made |= {key: NETWORKS[0].arrays()[key] for key in ("format", "units")}
    made |= {"structure": np.array(json.dumps(structure)), "activations": np.array(json.dumps([["relu", []]]))}
    (tmp_path / "net.npz").write_bytes(packed(made))
    return FeedForward.load(tmp_path / "net.npz")


def nested(depth: int) -> Any:
    """A block matrix of block matrices."""
    operator: Any = ["identity", 1]
    for _ in range(depth):
        operator = ["blocks", [[operator]]]
    return operator


ONE = np.ones((1, 1))
KERNEL = np.ones((1, 1, 1, 1))
PLAIN: list[Any] = [[1, 1], [[0, 0], [0, 0]], [1, 1], 1]


@pytest.mark.parametrize(
    "operator",
    [
        ["convolution", 0, [1, 1 << 30, 1 << 30], [1 << 30, 1 << 30], [[0, 0], [0, 0]], [1, 1], 1],
        ["convolution", 0, [1, 1, 1], [LARGE, LARGE], [[LARGE, LARGE], [0, 0]], [1, 1], 1],
        ["convolution", 0, [1, 1, 1], [LARGE, LARGE], [[1 << 20, 1 << 20], [1 << 20, 0]], [1, 1], 1],
        ["convolution", 0, [1, -1, 1], *PLAIN],
        ["convolution", 0, [0, 1, 1], *PLAIN],
        ["convolution", 0, [1, 1, 1], [0, 1], *PLAIN[1:]],
        ["convolution", 0, [1, 1, 1], [1, 1], [[-1, 0], [0, 0]], [1, 1], 1],
        ["gather", 1, LARGE],
        ["gather", 1, 0],
        ["gather", 1, -5],
        ["gather", 1, 3],
        ["sparse", 2, 3, 3, LARGE, LARGE],
        ["sparse", 2, 3, 1, 1, 3],
        ["sparse", 2, 2, 2, 1, 1],
        ["identity", LARGE],
        ["identity", -1],
        ["identity", 1.0],
        ["identity", True],
        ["identity"],
        ["dense", 9],
        ["dense", -1],
        ["dense", 3],
        ["diagonal", 0],
        ["blocks", []],
        ["blocks", [[]]],
        ["blocks", [[None]]],
        ["blocks", [[["dense", 0], None], [None, None]]],
        ["blocks", [[["identity", 1]], [["identity", 1]]]],
        ["blocks", "dense"],
        ["blocks", {"dense": 0}],
        nested(6),
        nested(300),
        "identity",
        {},
        None,
        [],
    ],
    ids=lambda operator: str(operator)[:60],
)
def test_operators_that_are_none_cost_nothing(operator: Any, tmp_path: Path) -> None:
    arrays = [KERNEL, np.array([5, 0]), np.ones(1), np.array([0])]
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError):
            loaded(tmp_path, [operator, ["dense", 4]], [*arrays, ONE], [np.zeros(1), np.zeros(1)])
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_an_array_is_taken_once(tmp_path: Path) -> None:
    """A short text that names a large array of zeros many times would take all memory."""
    large = np.zeros((1, 1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="cannot be read"):
            loaded(tmp_path, [["blocks", [[["dense", 0]] * 200]], ["dense", 1]], [large, ONE], [np.zeros(1)] * 2)
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "carried", [[-1, 0], [1, 0], [2, 0], [0, 1], [0.0, 0], [True, 0], [0], "00", None, [10**30, 0]]
)
def test_units_that_cannot_be_carried(carried: Any, tmp_path: Path) -> None:
    if carried is None:
        carried = {"0": 0}
    with pytest.raises(FileFormatError):
        loaded(tmp_path, [["dense", 0], ["dense", 1]], [ONE, ONE], [np.zeros(1)] * 2, carried)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"operators":' * 50_000, "null", "[]", "3", "", '{"operators": []}'])
def test_texts_that_are_no_structure(text: str, tmp_path: Path) -> None:
    arrays = NETWORKS[0].arrays() | {"structure": np.array(text)}
    (tmp_path / "net.npz").write_bytes(packed(arrays))
    with pytest.raises(FileFormatError):
        FeedForward.load(tmp_path / "net.npz")


def test_convolutions_of_too_large_images_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="too large"):
        Convolution(KERNEL, (1, 1 << 15, 1 << 15), stride=(1 << 15, 1 << 15))
    many = Convolution(np.ones((1, 1, 64, 64)), (1, 1024, 1024), padding=((32, 32), (32, 32)))
    with pytest.raises(InvalidInputError, match="too many"):
        _ = many.entries
    with pytest.raises(InvalidInputError, match="kernel of shape"):
        Convolution(np.ones(3), (1, 2, 2))


def test_what_is_nested_too_deep_to_be_read_is_no_network() -> None:
    operator: LinearOperator = Identity(2)
    for _ in range(6):
        operator = Blocks(((operator,),))
    last = Layer(Dense(np.ones((1, 2))), np.zeros(1), LINEAR)
    with pytest.raises(InvalidInputError, match="nested deeper"):
        FeedForward.chain([Layer(operator, np.zeros(2), RELU), last])
