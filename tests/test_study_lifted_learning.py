"""Studies of lifted networks: few labels, energies of classes, feed-forward layers of regression/reconstruction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certnet.core.errors import FileFormatError
from certnet.study import load_study
from certnet.study.kinds.lifted.images import ImageSettings, drawn_images
from certnet.study.kinds.lifted.runs import lifted_execute
from certnet.study.kinds.lifted.tasks import lifted_tasks
from certnet.study.kinds.lifted.training import _labelled, _samples, lifted_from, network_from
from certnet.study.spec import Study

TEXT = """\
kind = "lifted"
seed = 5

[networks.few]
images = ["digits"]
table = "supervised"
hidden = [16]
learning_rate = 0.2
epochs = 30
labels = 50

[networks.semi]
images = ["digits"]
table = "supervised"
hidden = [16]
objective = "semi_supervised"
learning_rate = 0.2
unsupervised_weight = 1e-3
labelled_share = 0.5
epochs = 2
labels = 50

[networks.classes]
images = ["digits"]
table = "supervised"
hidden = [16]
gamma = 1.0
objective = "class_conditional"
learning_rate = 0.02
epochs = 4
measures = ["energies"]

[networks.layers]
images = ["digits"]
table = "supervised"
hidden = [16]
objective = "rr-layers"
optimizer = "adam"
learning_rate = 0.01
batch_size = 50
epochs = 5
weight_decay = 1e-2
measures = ["certificate"]
"""


def study_of(folder: Path, text: str = TEXT) -> Study:
    path = folder / "few.toml"
    path.write_text(text)
    return load_study(path)


def done(folder: Path, name: str) -> tuple[dict[str, Any], bytes]:
    task = next(task for task in lifted_tasks(study_of(folder)) if task.name == f"digits/{name}")
    found = lifted_execute(task, [])
    return found.row, found.artifact or b""


def digits() -> Any:
    return drawn_images(ImageSettings(name="digits", max_train=None, max_test=None, seed=0))


def test_labels_are_kept_evenly_and_by_the_seed():
    y = digits().y_train
    kept = _labelled(y, 50, 3)
    assert np.bincount(y[kept]).tolist() == [5] * 10
    np.testing.assert_array_equal(kept, _labelled(y, 50, 3))
    assert not np.array_equal(kept, _labelled(y, 50, 4))
    assert len(_labelled(y, 10**6, 3)) == len(y)
    assert set(_labelled(y, 20, 3)) < set(kept)  # more labels contain the fewer


def test_samples_without_a_label_are_left_out_or_unlabelled(tmp_path: Path):
    recipes = {task.settings.name: task.settings.network for task in lifted_tasks(study_of(tmp_path))[:2]}
    data = digits()
    X, targets = _samples(recipes["few"], data, 1)
    assert X.shape == (50, 64)
    assert np.isfinite(targets).all()
    X, targets = _samples(recipes["semi"], data, 1)
    known = np.isfinite(targets).all(axis=1)
    assert len(X) == len(data.X_train)
    assert known.sum() == 50
    np.testing.assert_array_equal(targets[known].argmax(axis=1), data.y_train[known])
    assert np.isnan(targets[~known]).all()


@pytest.mark.parametrize("name", ["few", "semi"])
def test_networks_of_few_labels_are_judged_on_all_images(tmp_path: Path, name: str):
    row, artifact = done(tmp_path, name)
    net, data = lifted_from(artifact), digits()
    assert row["n_labels"] == 50
    assert row["n_train"] == len(data.X_train)
    predicted = net.infer(data.X_test).output.argmax(axis=1)
    assert row["test_accuracy"] == pytest.approx((predicted == data.y_test).mean())
    assert row["test_accuracy"] > 0.3


def test_class_conditional_networks_predict_the_class_of_least_energy(tmp_path: Path):
    row, artifact = done(tmp_path, "classes")
    net, data = lifted_from(artifact), digits()
    energies = np.column_stack(
        [net.infer(data.X_test, clamp=np.tile(np.eye(10)[c], (len(data.X_test), 1))).energy for c in range(10)]
    )
    assert row["test_accuracy"] == pytest.approx((energies.argmin(axis=1) == data.y_test).mean())
    assert row["accuracy"][-1] == row["test_accuracy"]
    assert row["test_accuracy"] > 0.5


def test_rr_layers_are_certified_as_an_ordinary_network(tmp_path: Path):
    pytest.importorskip("torch")
    row, artifact = done(tmp_path, "layers")
    net, data = network_from(artifact), digits()
    predicted = net.predict(data.X_test).argmax(axis=1)
    assert row["test_accuracy"] == pytest.approx((predicted == data.y_test).mean())
    task = next(task for task in lifted_tasks(study_of(tmp_path)) if task.name == "digits/layers/certificate")
    proved = lifted_execute(task, [artifact]).row
    assert proved["checked"]
    assert proved["lower"] <= proved["sdp"] <= proved["theorem"] * (1.0 + 1e-9)
    assert proved["theorem"] <= np.linalg.norm(net.weights[-1], 2) * (
        1.0 + 1e-6
    )  # β = 1: the other layers are below one
    assert proved["radius_pairs"] >= proved["radius"] >= proved["radius_theorem"] * (1.0 - 1e-9)
    rng = np.random.default_rng(0)
    X = data.X_test[:200].astype(float)
    step = rng.standard_normal(X.shape)
    slopes = np.linalg.norm(net.predict(X + step) - net.predict(X), axis=1) / np.linalg.norm(step, axis=1)
    assert slopes.max() <= proved["sdp"]
    shares = proved["certified"]
    assert shares == sorted(shares, reverse=True)
    assert proved["test_accuracy"] == pytest.approx(row["test_accuracy"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('objective = "class_conditional"', 'objective = "class_conditional"\nlabels = 3', "labels is for contrastive"),
        ("gamma = 1.0", "gamma = 1.0\nlabelled_share = 0.5", "labelled_share is for semi_supervised"),
        ("gamma = 1.0", "gamma = 1.0\nmargin = 0.5", "margin is for rr-layers"),
        ('measures = ["energies"]', 'measures = ["certificate"]', "predicts by energies"),
        ('measures = ["certificate"]', 'measures = ["energies"]', "only certificate fits"),
        ("weight_decay = 1e-2", "beta = [1.0, 0.0]", "a number"),
    ],
)
def test_keys_that_have_no_effect_are_refused(tmp_path: Path, old: str, new: str, message: str):
    assert old in TEXT
    with pytest.raises(FileFormatError, match=message):
        study_of(tmp_path, TEXT.replace(old, new, 1))
