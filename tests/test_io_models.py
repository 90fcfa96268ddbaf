"""load_model: the suffix decides, pickles are refused, optional packages stay unimported."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from certnet.core.errors import FileFormatError, MissingDependencyError, OutputError, UnsupportedModelError
from certnet.io import SUFFIXES, WITHOUT_UNITS, from_torch, load_model, load_torch, save_model, to_torch
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork


def network() -> ShallowNetwork:
    return ShallowNetwork([[1.0, -2.0], [0.5, 1 / 3]], [0.1, 0.0], [1.0, -1.0], 0.2, units="raw")


@pytest.mark.parametrize("name", ["model.npz", "MODEL.NPZ"])
def test_reads_npz(tmp_path: Path, name: str) -> None:
    path = network().save(tmp_path / name)
    assert load_model(path) == network()
    assert load_model(str(path)) == network()


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".joblib", ".PKL"])
def test_pickles_are_refused_and_never_run(tmp_path: Path, suffix: str) -> None:
    made = tmp_path / "made-by-the-pickle"

    class Malicious:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(made),)

    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(FileFormatError, match=r"unpickling runs .*certnet.from_sklearn\(model\).save\(\"model.npz\"\)"):
        load_model(path)
    assert not made.exists()


@pytest.mark.parametrize("name", ["model.own", "model"])
def test_other_suffixes_name_the_supported_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(FileFormatError, match=r"suffix '.*': certnet reads .npz .*.onnx, .pt"):
        load_model(tmp_path / name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_saved_is_read(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip({".npz": "numpy", ".onnx": "onnx"}.get(suffix, "torch"))
    units = "as given" if suffix in WITHOUT_UNITS else "raw"
    path = save_model(network(), tmp_path / f"model{suffix}")
    said = {"activation": "relu"} if suffix in (".pt", ".pth") else {}
    assert load_model(path, **said) == network().labelled(units)
    deep = FeedForward([np.eye(2), 2 * np.eye(2), np.ones((1, 2))], [np.zeros(2)] * 2 + [[1.0]], "tanh", units="raw")
    if suffix in (".pt", ".pth"):
        with pytest.raises(UnsupportedModelError, match="does not tell the activations"):
            load_model(path)
    else:
        assert load_model(save_model(deep, path, force=True)) == deep.labelled(units)
    with pytest.raises(OutputError, match="exists"):
        save_model(network(), path)


def test_one_relu_layer_is_shallow_whoever_wrote_it(tmp_path: Path) -> None:
    path = FeedForward.of(network()).save(tmp_path / "model.npz")
    assert load_model(path) == network()


def test_save_with_another_suffix(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"name a file with \.npz, \.onnx, \.pt, \.pth"):
        save_model(network(), tmp_path / "model.h5")


def test_missing_file_folder_and_pipe(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="does not exist: check the path"):
        load_model(tmp_path / "model.npz")
    with pytest.raises(FileFormatError, match="is a folder"):
        load_model(tmp_path)
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(FileFormatError, match="not a regular file"):
        load_model(tmp_path / "pipe.npz")
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_model(tmp_path / ("x" * 5000 + ".npz"))


def test_empty_and_truncated_npz(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(b"")
    with pytest.raises(FileFormatError, match="is empty"):
        load_model(path)
    network().save(path, force=True)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FileFormatError, match="truncated or of another format"):
        load_model(path)


def test_npz_of_something_else(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", weights=np.zeros(3))
    with pytest.raises(FileFormatError, match="lacks W, b, V, c"):
        load_model(tmp_path / "model.npz")


def test_import_brings_no_optional_package() -> None:
    code = (
        "import sys, certnet, certnet.io; "
        "print(sorted({'torch', 'matplotlib', 'onnx', 'mosek', 'cvxpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "model.pt"
    path.write_bytes(b"something")
    for call in (
        lambda: from_torch({}),
        lambda: to_torch(network()),
        lambda: load_torch(path),
        lambda: load_model(path),
    ):
        with pytest.raises(MissingDependencyError, match=r"certnet\[torch\]"):
            call()
