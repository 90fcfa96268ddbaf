"""Mutated files of every format end in an error of the package or in a network, and nothing is blown up.

``python tests/test_models_fuzz.py 10000`` runs so many of each format, with the largest memory at the end.
"""

from __future__ import annotations

import io
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certnet.core.errors import CertnetError
from certnet.io import load_model, save_model
from certnet.networks.feedforward import FeedForward
from certnet.networks.network import Network

R = np.random.default_rng(0)
NET = FeedForward([R.normal(size=(4, 3)), R.normal(size=(2, 4))], [R.normal(size=4), R.normal(size=2)], "relu")


def npz(folder: Path) -> bytes:
    return NET.save(folder / "whole.npz").read_bytes()


def packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, W1=NET.weights[0], W2=NET.weights[1], b1=NET.biases[0], b2=NET.biases[1])
    return buffer.getvalue()


def onnx(folder: Path) -> bytes:
    pytest.importorskip("onnx")
    return save_model(FeedForward(NET.weights, NET.biases, "gelu_tanh"), folder / "whole.onnx").read_bytes()


def onnx_graph(folder: Path) -> bytes:
    """A residual block, pooling, upsampling, a formula and a reshape."""
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    def node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
        return helper.make_node(operator, [i.replace("-", "") for i in inputs.split()], [output], **attributes)

    nodes = [
        node("Conv", "x k b", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", "c b b b v", "n"),
        node("Sigmoid", "n", "s"),
        node("Mul", "n s", "a"),
        node("AveragePool", "x", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Add", "a p", "r"),
        node("Resize", "r - f", "u", mode="nearest"),
        node("Concat", "u x", "j", axis=1),
        node("MaxPool", "j", "m", kernel_shape=[2, 2]),
        node("Slice", "m i l i", "cut"),
        node("Transpose", "cut", "t", perm=[0, 2, 1, 3]),
        node("Reshape", "t shape", "y"),
    ]
    constants = {"k": R.normal(size=(2, 2, 3, 3)), "b": R.normal(size=2), "v": np.ones(2)}
    constants |= {"f": np.float32([1, 1, 2, 2]), "i": np.array([1]), "l": np.array([3]), "shape": np.array([0, -1])}
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N", 2, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["N", None])
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def torch(folder: Path) -> bytes:
    module = pytest.importorskip("torch")
    buffer = io.BytesIO()
    names = ("0.weight", "2.weight", "0.bias", "2.bias")
    arrays = zip(names, (*NET.weights, *NET.biases))
    module.save({name: module.from_numpy(np.array(array)) for name, array in arrays}, buffer)
    return buffer.getvalue()


def safetensors(folder: Path) -> bytes:
    header: dict[str, Any] = {}
    content = b""
    for name, array in zip(("0.bias", "0.weight", "2.bias", "2.weight"), (NET.biases[0], NET.weights[0])):
        raw = array.tobytes()
        header[name] = {"dtype": "F64", "shape": array.shape, "data_offsets": [len(content), len(content) + len(raw)]}
        content += raw
    for name, array in (("2.bias", NET.biases[1]), ("2.weight", NET.weights[1])):
        raw = array.tobytes()
        header[name] = {"dtype": "F64", "shape": array.shape, "data_offsets": [len(content), len(content) + len(raw)]}
        content += raw
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + content


def nnet(folder: Path) -> bytes:
    lines = ["// a comment", "2,3,2,4,", "3,4,2,", "0,", "-1,-1,-1,", "1,1,1,", "0,0,0,0,", "1,1,1,1,"]
    for W, b in zip(NET.weights, NET.biases):
        lines += [",".join(f"{w:.3g}" for w in row) + "," for row in W] + [f"{entry:.3g}," for entry in b]
    return "\n".join(lines).encode()


def mat(folder: Path, *, compressed: bool = False) -> bytes:
    import scipy.io

    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = NET.weights
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"weights": cells}, do_compression=compressed)
    return buffer.getvalue()


FORMATS: dict[str, tuple[str, Callable[[Path], bytes], dict[str, Any]]] = {
    "npz": (".npz", npz, {}),
    "npz of matrices, compressed": (".npz", packed, {"activation": "relu"}),
    "onnx": (".onnx", onnx, {}),
    "onnx, a graph with convolutions and skips": (".onnx", onnx_graph, {}),
    "torch": (".pt", torch, {"activation": "relu"}),
    "safetensors": (".safetensors", safetensors, {"activation": "relu"}),
    "nnet": (".nnet", nnet, {}),
    "mat": (".mat", mat, {"activation": "relu"}),
    "mat, compressed": (".mat", lambda folder: mat(folder, compressed=True), {"activation": "relu"}),
}
SPECIAL = [
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"9999999999",
    b"nan",
    b"-1",
]
SPECIAL += [b"1e999", b"[", b'"', b"\x80\x80\x80\x80\x08", b"PK\x01\x02"]


def mutated(content: bytes, r: np.random.Generator) -> bytes:
    """A few bytes changed, cut, doubled or inserted."""
    data = bytearray(content)
    for _ in range(int(r.integers(1, 5))):
        at = int(r.integers(0, len(data) + 1))
        match int(r.integers(0, 7)):
            case 0 | 1 if at < len(data):
                data[at] = int(r.integers(0, 256))
            case 2 if at < len(data):
                data[at] ^= 1 << int(r.integers(0, 8))
            case 3:
                word = SPECIAL[int(r.integers(0, len(SPECIAL)))]
                data[at : at + len(word)] = word
            case 4:
                data[at:at] = SPECIAL[int(r.integers(0, len(SPECIAL)))]
            case 5:
                del data[at : at + int(r.integers(1, 64))]
            case _:
                part = data[at : at + int(r.integers(1, 64))]
                data[at:at] = part
    return bytes(data or b"\x00")


def attack(name: str, folder: Path, runs: int) -> tuple[int, int]:
    """How many of so many mutated files were read and refused; anything else is raised."""
    suffix, make, arguments = FORMATS[name]
    whole = make(folder)
    path = folder / f"mutated{suffix}"
    path.write_bytes(whole)
    assert isinstance(load_model(path, **arguments), Network)
    r, read = np.random.default_rng(1), 0
    for k in range(runs):
        path.write_bytes(mutated(whole, r))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                read += isinstance(load_model(path, **arguments), Network)
        except CertnetError:
            pass
        except BaseException as error:
            kept = Path(tempfile.gettempdir()) / f"fuzzed-{k}{suffix}"
            kept.write_bytes(path.read_bytes())
            raise AssertionError(f"{name}, file {k} ({kept}): {type(error).__name__}: {error}") from error
    return read, runs - read


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    read, refused = attack(name, tmp_path, 150)
    assert refused > 10
    assert read + refused == 150


if __name__ == "__main__":
    import resource
    import sys
    import time

    for name in sys.argv[2:] or FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            found = attack(name, Path(folder), int(sys.argv[1]))
        spent, most = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"{name}: {found[0]} read, {found[1]} refused, {spent:.0f} s, at most {most} MiB", flush=True)  # noqa: T201
