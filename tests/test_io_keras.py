"""Keras models, read from files that Keras 3.15 wrote, against what it computed of them (`answers.npz`)."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certnet.certification import certify
from certnet.core.errors import CertnetError, FileFormatError, MissingDependencyError, UnsupportedModelError
from certnet.io.keras_ import load_keras
from certnet.io.models import load_model

MODELS = Path(__file__).parent / "keras_models"
h5py = pytest.importorskip("h5py", reason="Keras models need h5py")


def rewritten(tmp_path: Path, change: Callable[[dict[str, Any]], None], name: str = "functional") -> Path:
    """A ``.keras`` file with another description."""
    target = tmp_path / "changed.keras"
    with zipfile.ZipFile(MODELS / f"{name}.keras") as source, zipfile.ZipFile(target, "w") as file:
        for member in source.namelist():
            content = source.read(member)
            if member == "config.json":
                description = json.loads(content)
                change(description)
                content = json.dumps(description).encode()
            file.writestr(member, content)
    return target


@pytest.mark.parametrize("file", ["activations.keras", "functional.keras", "layers.keras"])
def test_what_is_read_computes_what_keras_computes(file: str) -> None:
    with np.load(MODELS / "answers.npz") as answers:
        X, Y = (answers[f"{file.split('.')[0]}_{part}"] for part in "xy")
    net = load_model(MODELS / file)
    assert net.forward(X) == pytest.approx(Y, rel=1e-6, abs=1e-6 * float(np.abs(Y).max()))


@pytest.mark.parametrize("file", ["steps.keras"])
def test_the_softmax_at_the_end_is_left_out_and_said(file: str) -> None:
    with np.load(MODELS / "answers.npz") as answers:
        X, Y = answers["steps_x"], answers["steps_y"]
    net = load_model(MODELS / file)
    logits = np.exp(net.forward(X))
    assert logits / logits.sum(axis=1, keepdims=True) == pytest.approx(Y, abs=1e-6)
    assert net.about.remarks == ("the softmax at the end is left out: the network gives the logits",)
    assert net.about.read == "6 → 8 → 5 → 3, gelu and leaky_relu(0.1), from dense, dense_1, dense_2"
    assert certify(net).check(net)


def test_two_paths_that_meet_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="two paths of the data meet"):
        load_model(MODELS / "residual.keras")


def _set(index: int, **entries: Any) -> Callable[[dict[str, Any]], None]:
    return lambda description: description["config"]["layers"][index]["config"].update(entries)


def _kind(index: int, kind: str, **entries: Any) -> Callable[[dict[str, Any]], None]:
    return lambda description: description["config"]["layers"][index].update(class_name=kind, **entries)


def _training(description: dict[str, Any]) -> None:
    description["config"]["layers"][2]["inbound_nodes"][0]["kwargs"]["training"] = True


def _inputs(description: dict[str, Any]) -> None:
    description["config"]["input_layers"] = [["a", 0, 0], ["b", 0, 0]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_kind(2, "Lambda"), "Lambda.*does not read"),
        (_kind(2, "Mine", module="mine"), "class of its own"),
        (_kind(2, "Dense", registered_name="mine>Dense"), "class of its own"),
        (_kind(2, "LayerNormalization"), "slope has no bound"),
        (_kind(2, "LSTM"), "does not read"),
        (_set(2, activation="exponential"), "exponential.*does not read"),
        (_set(2, activation={"class_name": "function", "config": "mine"}), "an activation of its own"),
        (_set(2, activation="softmax"), "softmax that is not the last step"),
        (_set(1, invert=True), "inverted"),
        (_set(2, lora_rank=4), "low rank"),
        (_training, "training=True"),
        (_kind(2, "Softmax", module="keras.src.ops.nn"), "class of its own"),
        (_inputs, "2 inputs and 1 outputs"),
        (lambda d: d.update(class_name="Mine"), "a class of its own"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_reason(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        load_keras(rewritten(tmp_path, change))


@pytest.mark.parametrize(
    "change",
    [
        _set(2, name="other"),
        _set(2, use_bias=False),
        _kind(2, "BatchNormalization"),
        lambda d: d.pop("config"),
        lambda d: d["config"].update(layers=[]),
        lambda d: d["config"]["layers"][2].update(inbound_nodes=[[["a_last", 0, 0, {}]]]),
    ],
)
def test_descriptions_that_do_not_fit_the_arrays_are_damaged(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(CertnetError, match=r"changed\.keras"):
        load_keras(rewritten(tmp_path, change))


def test_arrays_are_matched_with_their_layers_not_by_their_order(tmp_path: Path) -> None:
    """Two layers of one kind whose names are exchanged in the description are not read one for the other."""

    def exchange(description: dict[str, Any]) -> None:
        first, second = (entry["config"] for entry in description["config"]["layers"][1:3])
        first["name"], second["name"] = second["name"], first["name"]

    with pytest.raises(FileFormatError, match="are those of"):
        load_keras(rewritten(tmp_path, exchange, "activations"))


def test_hdf5_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["dense/kernel"] = np.eye(3)
    with pytest.raises(FileFormatError, match=r"model\.save.*model\.export"):
        load_model(tmp_path / "model.h5")


@pytest.mark.parametrize("file", ["functional.keras", "layers.keras"])
def test_damaged_files_are_refused_or_read(tmp_path: Path, file: str) -> None:
    rng, whole = np.random.default_rng(0), (MODELS / file).read_bytes()
    target, refused = tmp_path / f"damaged{Path(file).suffix}", 0
    for _ in range(150):
        content = bytearray(whole[: int(rng.integers(1, len(whole)))] if rng.random() < 0.3 else whole)
        for place in rng.integers(0, len(content), 4):
            content[place] = int(rng.integers(256))
        target.write_bytes(content)
        try:
            load_keras(target)
        except CertnetError:
            refused += 1
    assert refused > 50


def test_without_the_reader_of_arrays_it_is_said_how_to_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install h5py.*model\.export"):
        load_keras(MODELS / "functional.keras")
    assert "keras" not in sys.modules


def test_archives_that_unpack_to_too_much_are_not_unpacked(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            file.writestr(name, bytes(1 << 28))
    (tmp_path / "bomb.keras").write_bytes(content.getvalue())
    with pytest.raises(FileFormatError, match="unpacks to"):
        load_keras(tmp_path / "bomb.keras")
