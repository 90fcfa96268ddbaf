"""Files with PyTorch's weights: checkpoints, safetensors, exported programs; sizes are checked, nothing is executed."""

from __future__ import annotations

import json
import resource
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certnet.core.errors import CertnetError, FileFormatError, InvalidInputError, UnsupportedModelError
from certnet.io import from_torch, load_torch
from certnet.io.torch_files import load_exported, load_safetensors
from certnet.networks.feedforward import FeedForward

torch = pytest.importorskip("torch", reason='PyTorch is not installed: pip install "certnet[torch]"')
nn = torch.nn


def state(*shapes: tuple[str, int, int], dtype: Any = np.float32, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    named = {}
    for prefix, d, h in shapes or (("0", 3, 4), ("2", 4, 1)):
        named[f"{prefix}.weight"] = rng.normal(size=(h, d)).astype(dtype)
        named[f"{prefix}.bias"] = rng.normal(size=h).astype(dtype)
    return named


def tensors(named: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: torch.tensor(value) for name, value in named.items()}


def network(named: dict[str, np.ndarray], *prefixes: str, phi: str = "relu") -> FeedForward:
    return FeedForward([named[f"{p}.weight"] for p in prefixes], [named[f"{p}.bias"] for p in prefixes], phi)


CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64"}


def safetensors(named: dict[str, np.ndarray], *, metadata: bool = True, dtypes: dict[str, str] | None = None) -> bytes:
    """What ``safetensors.torch.save_file`` writes: names sorted as text."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}} if metadata else {}
    data = b""
    for name in sorted(named):
        value = named[name]
        raw = value.tobytes()
        code = (dtypes or {}).get(name, CODES.get(str(value.dtype), "BF16"))
        header[name] = {"dtype": code, "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


# files of torch.save -------------------------------------------------------------------------------------------------


CHECKPOINTS: dict[str, tuple[Callable[[dict[str, Any]], Any], dict[str, Any]]] = {
    "plain": (lambda s: s, {}),
    "state_dict": (lambda s: {"state_dict": s, "epoch": 3, "best": 0.5}, {}),
    "model_state_dict with an optimizer": (
        lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {0: {"step": 1.0}}, "param_groups": [{}]}},
        {},
    ),
    "Lightning": (
        lambda s: {
            "epoch": 1,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": {f"model.{name}": value for name, value in s.items()},
            "hyper_parameters": {"lr": 0.1, "hidden": [4]},
            "callbacks": {},
            "loops": {"fit_loop": {"state_dict": {}}},
        },
        {},
    ),
    "averaged weights beside": (lambda s: {"model": s, "ema": {k: 2 * v for k, v in s.items()}}, {"key": "model"}),
    "compiled and parallel names": (lambda s: {f"module._orig_mod.{name}": value for name, value in s.items()}, {}),
    "parameters": (lambda s: {name: nn.Parameter(value) for name, value in s.items()}, {}),
    "sparse": (lambda s: {name: v.to_sparse() if v.ndim == 2 else v for name, v in s.items()}, {}),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints(tmp_path: Path, kind: str) -> None:
    make, how = CHECKPOINTS[kind]
    named = state(("net.0", 3, 4), ("net.2", 4, 4), ("net.10", 4, 1))
    torch.save(make(tensors(named)), tmp_path / "model.ckpt")
    net = load_torch(tmp_path / "model.ckpt", activations="tanh", **how)
    assert net == network(named, "net.0", "net.2", "net.10", phi="tanh")
    with pytest.raises(UnsupportedModelError, match=r"model.ckpt: .*3 → 4 → 4 → 1 .*activations="):
        load_torch(tmp_path / "model.ckpt", **how)


def test_checkpoints_that_hold_several(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"generator": tensors(state()), "discriminator": tensors(state(seed=1))}, path)
    with pytest.raises(
        UnsupportedModelError, match=r"model.pt: .*several state dicts, under 'generator', 'discriminator'"
    ):
        load_torch(path, activations="relu")
    assert load_torch(path, activations="relu", key="discriminator") == network(state(seed=1), "0", "2").shallow()
    with pytest.raises(InvalidInputError, match="key='model'"):
        load_torch(path, activations="relu", key="model")


def test_words_and_arguments(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    named = state(("decoder", 3, 6), ("encoder", 6, 3))
    torch.save(tensors(named), path)
    with pytest.raises(UnsupportedModelError, match=r"model.pt: .*order of use"):
        load_torch(path, activations="relu")
    net = load_torch(path, activations="relu", layers=["encoder", "decoder"], units="raw")
    assert net == network(named, "encoder", "decoder").shallow().labelled("raw")
    assert net.about.read == "6 → 3 → 6, relu, from encoder.weight, decoder.weight"


def test_exported_programs_are_refused_with_advice(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).eval()
    program = torch.export.export(module, (torch.zeros(2, 3),), strict=False)
    path = tmp_path / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
    (tmp_path / "model.pt").write_bytes(path.read_bytes())
    advice = r"runs code .*from_torch\(torch.export.load\(path\)\).*torch.onnx.export\(model"
    with pytest.raises(FileFormatError, match=advice):
        load_exported(path)
    with pytest.raises(FileFormatError, match=advice):
        load_torch(tmp_path / "model.pt")
    with pytest.raises(FileFormatError, match="does not exist"):
        load_exported(tmp_path / "other.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trusted = torch.export.load(path)
    assert from_torch(trusted) == from_torch(module)


def test_a_file_that_inflates_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"0.weight": torch.zeros(1000, 1000), "2.weight": torch.zeros(1, 1000)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for member in plain.infolist():
            packed.writestr(member.filename, plain.read(member))
    with pytest.raises(FileFormatError, match=r"would inflate to \d+: at most 4 GiB and 100 times its size"):
        load_torch(path, activations="relu")
    torch.save({"0.weight": torch.ones(1).expand(20_000, 20_000)}, path)
    with pytest.raises(FileFormatError, match="only 1 stored entries"):
        load_torch(path, activations="relu")
    big = torch.zeros(1 << 20)
    torch.save({f"{k}.weight": big.reshape(1024, 1024) for k in range(300)}, path)
    with pytest.raises(FileFormatError, match="entries in all, more than"):
        load_torch(path, activations="relu")
    sparse = torch.sparse_coo_tensor([[0], [0]], [1.0], (1 << 20, 1 << 20), check_invariants=True)
    torch.save({"0.weight": sparse, "2.weight": torch.ones(1, 1 << 20)}, path)
    with pytest.raises(FileFormatError, match="entries in all, more than"):
        load_torch(path, activations="relu")


# safetensors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_safetensors(tmp_path: Path, dtype: Any) -> None:
    numbers = [0, 2, 4, 6, 8, 10, 12]  # sorted as text by the format: 0, 10, 12, 2, 4, 6, 8
    named = state(*((f"net.{k}", 3, 3) for k in numbers), dtype=dtype)
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(named))
    net = load_safetensors(path, activations="elu")
    assert net == network(named, *(f"net.{k}" for k in numbers), phi="elu")
    assert "from net.0.weight, net.2.weight, net.4.weight" in net.about.read
    assert net == from_torch(tensors(named), activations="elu")
    with pytest.raises(
        UnsupportedModelError, match=r"model.safetensors: .*not tell the activations.*--activation relu"
    ):
        load_safetensors(path)
    chosen = load_safetensors(path, activations="elu", layers=["0", "12"], units="raw")
    assert chosen == network(named, "net.0", "net.12", phi="elu").labelled("raw")


def test_safetensors_of_bfloat16(tmp_path: Path) -> None:
    named = tensors(state())
    halves = {name: value.to(torch.bfloat16) for name, value in named.items()}
    bits = {name: value.view(torch.int16).numpy() for name, value in halves.items()}
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(bits, metadata=False))
    assert load_safetensors(path, activations="relu") == from_torch(halves, activations="relu")


def test_safetensors_with_batch_norm(tmp_path: Path) -> None:
    named = state(("0", 3, 4), ("3", 4, 1))
    named |= {f"1.{kind}": np.full(4, 2.0, np.float32) for kind in ("weight", "bias", "running_mean", "running_var")}
    named["1.num_batches_tracked"] = np.array(7)
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(named))
    with pytest.raises(UnsupportedModelError, match="eps"):
        load_safetensors(path, activations="relu")
    net = load_safetensors(path, activations="relu", batch_norm_eps=1e-5)
    assert net == from_torch(tensors(named), activations="relu", batch_norm_eps=1e-5)


def test_the_real_writer_of_safetensors(tmp_path: Path) -> None:
    writer = pytest.importorskip("safetensors.torch")
    writer.save_file(tensors(state()), tmp_path / "model.safetensors")
    assert load_safetensors(tmp_path / "model.safetensors", activations="relu") == network(state(), "0", "2").shallow()


def altered(**changes: Any) -> bytes:
    entry = {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4], **changes}
    text = json.dumps({"0.weight": {k: v for k, v in entry.items() if v is not None}}).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x00", "does not fit"),
        (struct.pack("<Q", 1 << 62) + b"{}", "does not fit"),
        (struct.pack("<Q", 2) + b"[]", "no table"),
        (struct.pack("<Q", 2) + b"{x", "no JSON"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, "no JSON"),
        (altered(dtype=None), "no dtype"),
        (altered(shape=None), "no dtype"),
        (altered(shape=7), "no dtype"),
        (altered(shape=[1, -1]), "cannot be"),
        (altered(shape=[1, 1.0]), "cannot be"),
        (altered(shape=[True, True]), "cannot be"),
        (altered(shape=[1 << 40, 1 << 40]), "cannot be"),
        (altered(shape=[1] * 9), "cannot be"),
        (altered(data_offsets=[4, 0]), "cannot be"),
        (altered(data_offsets=[0, 4, 8]), "no dtype"),
        (altered(data_offsets=[0, 8]), "truncated"),
        (altered(shape=[1, 2]), "has 4 bytes"),
        (altered(shape=[1 << 30, 1 << 30], dtype="F32"), "has 4 bytes"),
    ],
)
def test_broken_safetensors(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=words):
        load_safetensors(path, activations="relu")


@pytest.mark.parametrize("dtype", ["I32", "F8_E4M3", "unheard of", 7])
def test_safetensors_of_other_dtypes(tmp_path: Path, dtype: Any) -> None:
    named = state()
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(named, dtypes={"0.weight": dtype}))
    with pytest.raises(CertnetError, match=r"W has dtype|has 48 bytes"):
        load_safetensors(path, activations="relu")


def test_safetensors_need_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(state()))
    monkeypatch.setitem(sys.modules, "torch", None)
    assert load_safetensors(path, activations="relu") == network(state(), "0", "2").shallow()


def test_missing_safetensors(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="does not exist"):
        load_safetensors(tmp_path / "model.safetensors")


# mutations -----------------------------------------------------------------------------------------------------------


def written(kind: str, path: Path) -> bytes:
    if kind == "safetensors":
        return safetensors(state())
    torch.save(tensors(state()), path, _use_new_zipfile_serialization=kind == "zip")
    return path.read_bytes()


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    kind = rng.integers(4)
    data = bytearray(content)
    if kind == 0:
        return bytes(data[: rng.integers(1, len(data))])
    if kind == 1:
        for k in rng.integers(0, len(data), rng.integers(1, 20)):
            data[k] = rng.integers(256)
    elif kind == 2:  # in the head, where sizes are
        for k in rng.integers(0, min(len(data), 400), rng.integers(1, 4)):
            data[k] = rng.integers(256)
    else:
        start, end = sorted(rng.integers(0, len(data), 2))
        del data[start : min(end, start + 50)]
    return bytes(data) or b"x"


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_mutated_files_end_in_a_clear_error(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(1)
    content = written(kind, tmp_path / "first.pt")
    path = tmp_path / "model"
    load = load_safetensors if kind == "safetensors" else load_torch
    errors: list[str] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1500):
        path.write_bytes(mutated(content, rng))
        try:
            net = load(path, activations="relu")
        except CertnetError as error:
            errors.append(str(error))
        else:
            assert net.n_inputs == 3
    assert len(errors) > 700
    assert all("model" in error for error in errors)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
