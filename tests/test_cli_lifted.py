"""``certnet lifted``: train, infer, certify, filters; files, numbers recomputed, exit codes, bad input."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from image_files import idx_bytes
from sklearn.datasets import load_digits
from test_cli import run  # noqa: F401 - a fixture

from certnet import cli
from certnet.lifted import LiftedNetwork
from certnet.lifted.bounds import LiftedCertificate
from certnet.lifted.estimators import LiftedClassifier, LiftedDensity, LiftedRegressor
from certnet.lifted.learn import loop

SMALL = ("--layers", "8,6", "--epochs", 3)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return np.minimum(16 * X, 255).astype(np.uint8).reshape(-1, 8, 8)[:300], y[:300]


@pytest.fixture
def images(digits, tmp_path) -> Path:
    """A file of 200 training and 100 test images."""
    X, y = digits
    np.savez(tmp_path / "images.npz", x_train=X[:200], y_train=y[:200], x_test=X[200:], y_test=y[200:])
    return tmp_path / "images.npz"


@pytest.fixture
def rows(digits):
    """The same as rows of pixels: training inputs, labels, test inputs, labels."""
    X, y = digits
    pixels = (X / np.float32(255)).reshape(len(X), -1)
    return pixels[:200], y[:200], pixels[200:], y[200:]


@pytest.fixture
def table(tmp_path) -> Path:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 2)) * [1.0, 7.0]
    value, kind = X[:, 0] - 0.2 * X[:, 1], (X[:, 0] > 0) * 3 + 1
    lines = [",".join(map(repr, row)) for row in np.column_stack([X, value, kind]).tolist()]
    path = tmp_path / "table.csv"
    path.write_text("a,b,value,kind\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def trained(rows, tmp_path) -> Path:
    """A classifier's file, written from Python."""
    model = LiftedClassifier((8, 6), max_epochs=3, random_state=0).fit(*rows[:2])
    return model.save(tmp_path / "net.npz")


def lifted(run, *arguments):  # noqa: F811
    """Exit code, JSON or text, stderr of ``certnet lifted``."""
    code, out, err = run("lifted", *arguments)
    assert "Traceback" not in err
    return code, json.loads(out) if "--json" in arguments and out else out, err


# -------------------------------------------------------------------------------------------------------------- train


def test_trains_what_the_estimator_trains(run, images, rows, tmp_path):  # noqa: F811
    out = tmp_path / "own.npz"
    code, told, err = lifted(run, "train", images, "--out", out, *SMALL, "--weight-decay", 1e-4, "--json")
    same = LiftedClassifier((8, 6), max_epochs=3, weight_decay=1e-4, random_state=0).fit(*rows[:2])
    assert code == 0
    assert LiftedNetwork.load(out).digest == same.network_.digest
    assert told["train_accuracy"] == same.score(*rows[:2])
    assert told["test_accuracy"] == LiftedClassifier.load(out).score(*rows[2:])
    assert told["layers"] == [64, 8, 6, 10]
    assert told["loss"] == same.loss_curve_[-1]
    assert "epoch 3/3" in err
    assert "left" in err


def test_every_option_reaches_the_training(run, images, rows, tmp_path):  # noqa: F811
    out = tmp_path / "own.npz"
    options = {
        "--layers": "7",
        "--units": "hard_sigmoid,linear",
        "--beta": "0.5,0",
        "--gamma": 0.5,
        "--objective": "lifted",
        "--epochs": 2,
        "--batch": 20,
        "--learning-rate": 0.01,
        "--optimizer": "adam",
        "--schedule": "linear",
        "--pretrain": 1,
        "--passes": 15,
        "--seed": 4,
    }
    code, text, _ = lifted(run, "train", images, "--out", out, *(x for pair in options.items() for x in pair))
    same = LiftedClassifier(
        (7,),
        units=("hard_sigmoid", "linear"),
        beta=(0.5, 0.0),
        gamma=0.5,
        objective="lifted",
        max_epochs=2,
        batch_size=20,
        learning_rate=0.01,
        optimizer="adam",
        schedule="linear",
        pretrain_epochs=1,
        passes=15,
        random_state=4,
    )
    assert code == 0
    assert LiftedNetwork.load(out).digest == same.fit(*rows[:2]).network_.digest
    assert "accuracy: train" in text
    assert str(out) in text


def test_goes_on_from_a_checkpoint(run, images, tmp_path):  # noqa: F811
    kept, out, whole = tmp_path / "kept.npz", tmp_path / "a.npz", tmp_path / "b.npz"
    begin = ("train", images, "--layers", "8", "--out")
    assert lifted(run, *begin, out, "--epochs", 2, "--checkpoint", kept)[0] == 0
    code, _, err = lifted(run, *begin, out, "--epochs", 5, "--checkpoint", kept, "--force")
    assert code == 0
    assert "epoch 3/5" in err
    assert "epoch 2/5" not in err
    assert lifted(run, *begin, whole, "--epochs", 5)[0] == 0
    assert LiftedNetwork.load(out).digest == LiftedNetwork.load(whole).digest
    code, _, err = lifted(run, *begin, out, "--epochs", 5, "--checkpoint", kept, "--force", "--gamma", 0.3)
    assert code == 2
    assert "checkpoint of a training with" in err


def test_limits_the_samples_by_the_seed(run, images, tmp_path):  # noqa: F811
    nets = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = tmp_path / f"{name}.npz"
        code, told, _ = lifted(run, "train", images, "--out", out, *SMALL, "--limit", 50, "--seed", seed, "--json")
        assert (code, told["samples"]) == (0, 50)
        nets.append(LiftedNetwork.load(out).digest)
    assert nets[0] == nets[1] != nets[2]


def test_unsupervised_from_images_without_labels(run, digits, rows, tmp_path):  # noqa: F811
    (tmp_path / "images-idx3-ubyte").write_bytes(idx_bytes(digits[0][:200]))
    out = tmp_path / "own.npz"
    options = ("--objective", "unsupervised", "--layers", "5", "--epochs", 4, "--json")
    code, told, _ = lifted(run, "train", tmp_path / "images-idx3-ubyte", "--out", out, *options)
    model = LiftedDensity.load(out)
    assert code == 0
    assert told["train_energy"] == pytest.approx(-model.score(rows[0]), rel=1e-12)
    code, told, _ = lifted(run, "infer", out, tmp_path / "images-idx3-ubyte", "--json")
    assert code == 0
    assert told["mean_energy"] == pytest.approx(-model.score(rows[0]), rel=1e-6)
    assert "accuracy" not in told


def test_an_npz_of_images_without_labels(run, digits, rows, trained, tmp_path):  # noqa: F811
    np.savez(tmp_path / "bare.npz", x_train=digits[0][:200])
    out, options = tmp_path / "own.npz", ("--layers", "5", "--epochs", 2, "--json")
    code, told, _ = lifted(run, "train", tmp_path / "bare.npz", "--out", out, "--objective", "unsupervised", *options)
    assert (code, told["samples"]) == (0, 200)
    assert told["train_energy"] == pytest.approx(-LiftedDensity.load(out).score(rows[0]), rel=1e-12)
    told = lifted(run, "infer", trained, tmp_path / "bare.npz", "--part", "train", "--json")[1]
    assert (told["samples"], "accuracy" in told) == (200, False)
    code, _, err = lifted(run, "train", tmp_path / "bare.npz", "--out", tmp_path / "b.npz")
    assert (code, "y_train (NPZ)" in " ".join(err.split())) == (2, True)


def test_idx_images_with_labels(run, digits, trained, tmp_path):  # noqa: F811
    (tmp_path / "x").write_bytes(idx_bytes(digits[0]))
    (tmp_path / "y").write_bytes(idx_bytes(digits[1]))
    code, told, _ = lifted(run, "infer", trained, tmp_path / "x", "--labels", tmp_path / "y", "--json")
    X = (digits[0] / np.float32(255)).reshape(len(digits[0]), -1)
    assert code == 0
    assert told["accuracy"] == pytest.approx(LiftedClassifier.load(trained).score(X, digits[1]), abs=1e-12)


def test_a_table_with_numbers_to_predict(run, table, tmp_path):  # noqa: F811
    out, found = tmp_path / "own.npz", tmp_path / "found.npz"
    options = ("--target", "value", "--drop", "kind")
    code, told, _ = lifted(
        run, "train", table, "--out", out, "--regress", *options, "--layers", "6", "--epochs", 30, "--json"
    )
    X, y = np.loadtxt(table, delimiter=",", skiprows=1)[:, :2], np.loadtxt(table, delimiter=",", skiprows=1)[:, 2]
    model = LiftedRegressor.load(out)
    assert code == 0
    assert told["train_r2"] == pytest.approx(model.score(X, y), rel=1e-12) != 0.0
    assert told["train_r2"] > 0.5
    code, told, _ = lifted(run, "infer", out, table, *options, "--out", found, "--json")
    assert code == 0
    assert told["mse"] == pytest.approx(np.mean((model.predict(X) - y) ** 2), rel=1e-5)
    with np.load(found) as arrays:
        np.testing.assert_allclose(arrays["output"][:, 0], model.predict(X), atol=1e-5)


def test_a_table_with_classes_to_predict_and_one_without_a_target(run, table, tmp_path):  # noqa: F811
    out, found, inputs = tmp_path / "own.npz", tmp_path / "found.csv", tmp_path / "inputs.csv"
    options = ("--target", "kind", "--drop", "value")
    code, told, _ = lifted(
        run, "train", table, "--out", out, *options, "--layers", "6", "--epochs", 30, "--standardise", "--json"
    )
    assert code == 0
    model = LiftedClassifier.load(out)
    assert model.classes_.tolist() == [1, 4]
    assert told["train_accuracy"] > 0.8
    X = np.loadtxt(table, delimiter=",", skiprows=1)[:, :2]
    np.savetxt(inputs, X, delimiter=",", header="a,b", comments="")
    for data, more in ((table, ("--drop", "value", "--drop", "kind")), (inputs, ())):
        code, told, _ = lifted(run, "infer", out, data, *more, "--out", found, "--force", "--json")
        assert code == 0
        assert "accuracy" not in told
        with found.open() as file:
            assert [int(row["predicted"]) for row in csv.DictReader(file)] == model.predict(X).tolist()


# -------------------------------------------------------------------------------------------------------------- infer


@pytest.mark.parametrize("solver", ["coordinate_descent", "admm"])
def test_infer_writes_what_can_be_recomputed(run, trained, images, rows, tmp_path, solver):  # noqa: F811
    out, table = tmp_path / "found.npz", tmp_path / "found.csv"
    options = ("--solver", solver, "--tol", 1e-9)
    code, told, _ = lifted(run, "infer", trained, images, "--out", out, *options, "--json")
    assert code == 0
    assert lifted(run, "infer", trained, images, "--out", table, *options)[0] == 0
    net = LiftedNetwork.load(trained)
    with np.load(out) as arrays:
        found = dict(arrays)
    z = np.concatenate([found[f"z{k}"] for k in (1, 2, 3)], axis=1)
    H, q = np.array(net.qp(rows[2][0]).H.todense()), np.array([net.qp(x).q for x in rows[2]])
    low, high = np.concatenate(net.lower), np.concatenate(net.upper)
    residual = np.abs(z - np.clip(z - (z @ H - q), low, high)).max(axis=1)
    assert told["worst_residual"] <= 1e-9
    np.testing.assert_allclose(found["residual"], residual, atol=1e-13)
    np.testing.assert_allclose(found["energy"], net.energy(rows[2], z), rtol=1e-12)
    assert told["mean_energy"] == pytest.approx(found["energy"].mean(), rel=1e-12)
    assert told["accuracy"] == np.mean(found["predicted"] == rows[3]) == np.mean(z[:, -10:].argmax(axis=1) == rows[3])
    assert told["statuses"] == {"OPTIMAL": 100}
    with table.open() as file:
        read = list(csv.DictReader(file))
    assert [float(row["energy"]) for row in read] == found["energy"].tolist()
    assert [row["status"] for row in read] == ["OPTIMAL"] * 100
    assert [float(row["z2_5"]) for row in read] == found["z2"][:, 5].tolist()
    assert set(found["status"]) == {"OPTIMAL"}


def test_samples_that_did_not_converge_are_exit_code_three(run, trained, images, tmp_path):  # noqa: F811
    out = tmp_path / "found.npz"
    code, text, _ = lifted(run, "infer", trained, images, "--passes", 1, "--out", out)
    assert code == 3
    assert "MAX_ITERATIONS" in text
    assert "raise the limit" in text
    with np.load(out) as arrays:
        assert set(arrays["status"]) >= {"MAX_ITERATIONS"}
    assert lifted(run, "infer", trained, images, "--passes", 500)[0] == 0


def test_parts_and_limits(run, trained, images):  # noqa: F811
    for options, count in (((), 100), (("--part", "train"), 200), (("--limit", 7), 7), (("--limit", 1000), 100)):
        assert lifted(run, "infer", trained, images, *options, "--json")[1]["samples"] == count


def test_a_plain_network_and_a_scaled_model(run, images, rows, tmp_path):  # noqa: F811
    model = LiftedClassifier((8,), max_epochs=2, standardise=True, random_state=0).fit(*rows[:2])
    net = model.network_.save(tmp_path / "plain.npz")
    code, told, _ = lifted(run, "infer", model.save(tmp_path / "scaled.npz"), images, "--json")
    assert (code, told["accuracy"]) == (0, model.score(*rows[2:]))
    code, told, _ = lifted(run, "infer", net, images, "--json")
    assert (code, told["accuracy"]) == (0, np.mean(model.network_.predict(rows[2]).argmax(axis=1) == rows[3]))


# ------------------------------------------------------------------------------------------------------------- certify


def test_certify_then_check(run, trained, tmp_path):  # noqa: F811
    uppers = []
    for method in ("sdp", "theorem"):
        proof = tmp_path / f"{method}.json"
        code, told, _ = lifted(run, "certify", trained, "--method", method, "--out", proof)
        claim = LiftedCertificate.load(proof)
        assert code == 0
        assert claim.check(LiftedNetwork.load(trained))
        assert "the network's output moves by at most" in told
        assert "units of the data" not in told
        uppers.append(claim.upper)
        code, text, _ = run("check", proof, trained)
        assert code == 0
        assert text.startswith("holds")
        assert "the network's output" in text
        assert "the network's own units" in text
        assert ("for comparison, layerwise" in told) is (method == "sdp")
    assert uppers[0] <= uppers[1]


def test_a_certificate_of_another_network_or_altered_is_refused(run, trained, rows, tmp_path):  # noqa: F811
    proof = tmp_path / "c.json"
    lifted(run, "certify", trained, "--out", proof)
    other = LiftedClassifier((8, 6), max_epochs=1, random_state=5).fit(*rows[:2]).save(tmp_path / "other.npz")
    assert run("check", proof, other)[0] == 1
    data = json.loads(proof.read_text())
    proof.write_text(json.dumps(data | {"upper": 0.5 * data["upper"]}))
    assert run("check", proof, trained)[0] == 1


def test_outputs_and_differences(run, trained):  # noqa: F811
    one = lifted(run, "certify", trained, "--output", 3, "--json")[1]
    two = lifted(run, "certify", trained, "--output", 3, "--output", 5, "--json")[1]
    every = LiftedNetwork.load(trained).lipschitz_bound(lower=False).upper
    assert (one["certificate"]["output"], two["certificate"]["output"], one["robustness"]) == ([3], [3, 5], None)
    assert one["certificate"]["upper"] <= every * (1 + 1e-5)
    assert two["certificate"]["upper"] <= np.sqrt(2) * every * (1 + 1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_certified_radii_are_those_of_the_model(run, images, rows, tmp_path, scaled):  # noqa: F811
    model = LiftedClassifier((8,), max_epochs=3, standardise=scaled, random_state=0).fit(*rows[:2])
    net = model.save(tmp_path / "net.npz")
    code, told, _ = lifted(run, "certify", net, "--data", images, "--radius", 0.05, "--radius", 0.2, "--json")
    robust, radii = told["robustness"], model.certified_radius(rows[2])
    right = model.predict(rows[2]) == rows[3]
    assert code == 0
    assert robust["median_radius"] == pytest.approx(np.median(radii), rel=1e-6)
    assert robust["accuracy"] == right.mean()
    assert robust["certified_accuracy"] == {
        "0.05": np.mean(right & (radii > 0.05)),
        "0.2": np.mean(right & (radii > 0.2)),
    }
    assert robust["certified_accuracy"]["0.05"] > 0.0


def test_certified_radii_as_text(run, images, rows, tmp_path):  # noqa: F811
    model = LiftedClassifier((5,), max_epochs=1, standardise=True, random_state=0).fit(*rows[:2])
    code, text, _ = lifted(run, "certify", model.save(tmp_path / "net.npz"), "--data", images, "--limit", 20)
    assert code == 0
    assert "median certified radius of 20 samples" in text
    assert "divides its inputs by" in text
    assert "right or wrong, in the units of the data" in text


def test_a_scaled_regressor_is_bounded_in_the_units_of_the_data(run, tmp_path):  # noqa: F811
    rng = np.random.default_rng(2)
    X = 0.05 * rng.normal(size=(80, 3))
    Y = np.column_stack([4000.0 * X[:, 0] + 100.0, X[:, 1]])
    one = LiftedRegressor((6,), max_epochs=20, early_stopping=False, random_state=0).fit(X, Y[:, 0])
    net, proof = one.save(tmp_path / "one.npz"), tmp_path / "c.json"
    code, told, _ = lifted(run, "certify", net, "--out", proof, "--json")
    within, s_x, s_y = told["data_units"], np.sqrt(np.mean((X - X.mean(axis=0)) ** 2)), Y[:, 0].std()
    assert code == 0
    assert within["upper"] == pytest.approx(told["certificate"]["upper"] * s_y / s_x, rel=1e-12)
    assert within["lower"] == pytest.approx(told["certificate"]["lower"] * s_y / s_x, rel=1e-12) != 0.0
    assert (within["input_scale"], within["target_scale"]) == (pytest.approx(s_x), [pytest.approx(s_y)])
    text = lifted(run, "certify", net)[1]
    assert f"divides its inputs by {s_x:.6g} and multiplies its outputs by {s_y:.6g}" in text
    assert "in the units of the data: " in text
    assert "the network's output moves" in run("check", proof, net)[1]
    two = LiftedRegressor((6,), max_epochs=5, early_stopping=False, random_state=0).fit(X, Y)
    two = two.save(tmp_path / "two.npz")
    of_one = lifted(run, "certify", two, "--output", 0, "--json")[1]
    assert of_one["data_units"]["upper"] == pytest.approx(of_one["certificate"]["upper"] * s_y / s_x, rel=1e-12)
    difference = ("--output", 0, "--output", 1)
    assert lifted(run, "certify", two, *difference, "--json")[1]["data_units"]["upper"] is None
    assert "not a difference in the units of the data" in lifted(run, "certify", two, *difference)[1]


def test_radii_by_pairs_are_larger(run, rows, tmp_path):  # noqa: F811
    few = rows[1] < 3
    model = LiftedClassifier((6,), max_epochs=5, random_state=0).fit(rows[0][few], rows[1][few])
    net = model.save(tmp_path / "net.npz")
    np.savez(tmp_path / "few.npz", x=np.rint(rows[0][few] * 255).astype(np.uint8).reshape(-1, 8, 8), y=rows[1][few])
    code, told, _ = lifted(run, "certify", net, "--data", tmp_path / "few.npz", "--pairs", "--json")
    common = np.median(model.network_.certified_radius(rows[0][few]).radius)
    assert code == 0
    assert told["robustness"]["median_radius"] >= common * (1 - 1e-5) > 0.0
    assert told["robustness"]["accuracy"] == model.score(rows[0][few], rows[1][few])


# ------------------------------------------------------------------------------------------------------------- filters


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_filters(run, trained, tmp_path, suffix, begins):  # noqa: F811
    pytest.importorskip("matplotlib")
    out = tmp_path / f"filters.{suffix}"
    code, text, _ = lifted(run, "filters", trained, "--out", out)
    assert code == 0
    assert "8 filters of 8x8" in text
    assert out.read_bytes().startswith(begins)
    code, text, _ = lifted(run, "filters", trained, "--out", out, "--shape", "4x16", "--columns", 2, "--force")
    assert code == 0
    assert "8 filters of 4x16" in text


def test_filters_of_colour_images_and_of_no_image(run, tmp_path):  # noqa: F811
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    colour = LiftedNetwork([rng.normal(size=(2, 48))], units=["relu"]).save(tmp_path / "colour.npz")
    line = LiftedNetwork([rng.normal(size=(2, 7))], units=["relu"]).save(tmp_path / "line.npz")
    three = LiftedNetwork([rng.normal(size=(2, 3))], units=["relu"]).save(tmp_path / "three.npz")
    assert "2 filters of 4x4x3" in lifted(run, "filters", colour, "--out", tmp_path / "a.png")[1]
    for net, d in ((line, 7), (three, 3)):
        code, _, err = lifted(run, "filters", net, "--out", tmp_path / "b.png")
        assert code == 2
        assert "no square image" in err
        assert f"1x{d} for columns of a table" in " ".join(err.split())
    assert "2 filters of 1x3" in lifted(run, "filters", three, "--out", tmp_path / "b.png", "--shape", "1x3")[1]


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "IMAGES", "--out", "OUT.json"), "a lifted network is an .npz file"),
        (("train", "nowhere", "--out", "OUT.npz"), "neither an image set"),
        (("train", "IMAGES", "--out", "OUT.npz", "--layers", "8;6"), "--layers takes"),
        (("train", "IMAGES", "--out", "OUT.npz", "--layers", "0"), "--layers must be at least 1, got 0"),
        (("train", "IMAGES", "--out", "OUT.npz", "--units", "tanh"), "units[0] is 'tanh'"),
        (("train", "IMAGES", "--out", "OUT.npz", "--beta", "-1"), "beta"),
        (("train", "IMAGES", "--out", "OUT.npz", "--gamma", "0"), "gamma"),
        (
            ("train", "IMAGES", "--out", "OUT.npz", "--objective", "best"),
            "'best' is not one of 'contrastive', 'lifted', 'unsupervised'",
        ),
        (("train", "IMAGES", "--out", "OUT.npz", "--optimizer", "newton"), "'newton' is not one of 'sgd', 'adam'"),
        (("train", "IMAGES", "--out", "OUT.npz", "--learning-rate", "nan"), "--learning-rate must be"),
        (("train", "IMAGES", "--out", "OUT.npz", "--batch", "201"), "smaller batches"),
        (("train", "IMAGES", "--out", "OUT.npz", "--epochs", "0"), "Usage"),
        (("train", "IMAGES", "--out", "OUT.npz", "--target", "y"), "--target is not for"),
        (("train", "IMAGES", "--out", "OUT.npz", "--objective", "unsupervised", "--pretrain", "1"), "leave them out"),
        (("train", "IMAGES", "--out", "OUT.npz", "--checkpoint", "OUT.npz"), "are both"),
        (("train", "IMAGES", "--out", "OUT.npz", "--checkpoint", "IMAGES"), "would overwrite it"),
        (("train", "TABLE", "--out", "OUT.npz"), "--target (CSV)"),
        (("train", "TABLE", "--out", "OUT.npz", "--target", "colour"), "no column 'colour'"),
        (("train", "TABLE", "--out", "OUT.npz", "--target", "value"), "use --regress"),
        (("train", "TABLE", "--out", "OUT.npz", "--grey", "--target", "kind"), "--grey is not for"),
        (("train", "NET", "--out", "OUT.npz"), "none of the arrays"),
        (("train", "IMAGES", "--out", "OUT.npz", "--gamma", "1e-9"), "gamma is 1e-09 and gamma^2"),
        (("train", "IMAGES", "--out", "OUT.npz", "--gamma", "1e-9", "--pretrain", "1"), "of at least 0.0001"),
        (("infer", "IMAGES", "IMAGES"), "format"),
        (("infer", "nowhere.npz", "IMAGES"), "does not exist"),
        (("infer", "NET", "TABLE"), "the network has 64 inputs"),
        (("infer", "NET", "TABLE"), "the column to predict by --target, others to leave out by --drop"),
        (("certify", "NET", "--data", "TABLE"), "the column to predict by --target"),
        (("certify", "NET", "--radius", "0.1"), "--radius needs --data"),
        (("certify", "NET", "--pairs"), "--pairs needs --data"),
        (("certify", "NET", "--limit", "5"), "--limit needs --data"),
        (("certify", "NET", "--target", "kind"), "--target needs --data"),
        (("certify", "NET", "--grey"), "--grey needs --data"),
        (("infer", "NET", "IMAGES", "--solver", "magic"), "'magic' is not one of 'coordinate_descent', 'reference'"),
        (("infer", "NET", "IMAGES", "--solver", "admm", "--passes", "3"), "does not work in passes"),
        (("infer", "NET", "IMAGES", "--tol", "-1"), "tol"),
        (("infer", "NET", "IMAGES", "--part", "middle"), "'middle' is not one of 'train', 'test'"),
        (("infer", "NET", "IMAGES", "--out", "OUT.txt"), "an .npz or a .csv file"),
        (("infer", "NET", "IMAGES", "--out", "IMAGES"), "exists"),
        (("certify", "NET", "--method", "magic"), "'magic' is not one of 'sdp', 'layerwise', 'theorem'"),
        (("certify", "NET", "--output", "10"), "output"),
        (("certify", "NET", "--output", "1", "--data", "IMAGES"), "leave out --output"),
        (("certify", "NET", "--data", "IMAGES", "--radius", "-1"), "--radius must not be negative"),
        (("certify", "NET", "--tol", "0"), "tol"),
        (("filters", "NET", "--out", "OUT.pdf"), "pictures are .png or .svg"),
        (("filters", "NET", "--out", "OUT.png", "--shape", "8by8"), "--shape takes numbers"),
        (("filters", "NET", "--out", "OUT.png", "--shape", "5x5"), "(n, 25) is needed"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(run, trained, images, table, tmp_path, arguments, message):  # noqa: F811
    places = {"IMAGES": images, "TABLE": table, "NET": trained}
    before = sorted(tmp_path.iterdir())
    given = [tmp_path / a if a.startswith("OUT") else places.get(a, a) for a in arguments]
    code, out, err = lifted(run, *given)
    assert code == 2
    assert out == ""
    assert message in " ".join(err.split())
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_of_labels_alone_or_without_the_part(run, digits, trained, tmp_path):  # noqa: F811
    (tmp_path / "y").write_bytes(idx_bytes(digits[1]))
    code, _, err = lifted(run, "infer", trained, tmp_path / "y")
    assert code == 2
    assert "holds labels" in err
    np.savez(tmp_path / "half.npz", x_train=digits[0], y_train=digits[1])
    code, _, err = lifted(run, "infer", trained, tmp_path / "half.npz")
    assert code == 2
    assert "choose --part train" in err


def test_a_classifier_by_energies_is_not_judged_by_outputs(run, images, rows, tmp_path):  # noqa: F811
    model = LiftedClassifier((6,), objective="class_conditional", max_epochs=1, random_state=0).fit(*rows[:2])
    net = model.save(tmp_path / "net.npz")
    code, told, _ = lifted(run, "infer", net, images, "--json")
    assert code == 0
    assert "accuracy" not in told
    code, _, err = lifted(run, "certify", net, "--data", images)
    assert code == 2
    assert "predicts by class energies" in err


def test_named_sets_that_are_not_there(run, trained, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("CERTNET_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code, _, err = lifted(run, "infer", trained, "mnist")
    assert code == 2
    assert "get them from" in err


@pytest.mark.skipif("CERTNET_DATA_HOME" not in os.environ, reason="needs MNIST in CERTNET_DATA_HOME")
def test_mnist_by_name(run, tmp_path):  # noqa: F811
    out = tmp_path / "net.npz"
    options = ("--layers", "16", "--epochs", 2, "--limit", 1000, "--json")
    code, told, _ = lifted(run, "train", "mnist", "--out", out, *options)
    assert code == 0
    assert told["test_accuracy"] > 0.7
    code, told, _ = lifted(run, "infer", out, "mnist", "--limit", 500, "--json")
    assert code == 0
    assert told["accuracy"] > 0.7


# -------------------------------------------------------------------------------------------------------- interruption


def test_ctrl_c_keeps_the_last_epoch_and_the_checkpoint_goes_on(run, digits, tmp_path):  # noqa: F811
    out, kept, images = tmp_path / "own.npz", tmp_path / "kept.npz", tmp_path / "images.npz"
    # enough samples for the signal to fall into the epoch that follows the line it is sent at
    np.savez(images, x=np.tile(digits[0], (20, 1, 1)), y=np.tile(digits[1], 20))
    job = ["lifted", "train", images, "--out", out, "--epochs", 100_000, "--checkpoint", kept]
    process = subprocess.Popen(
        [sys.executable, "-m", "certnet", *map(str, job)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # a test run in the background of a shell ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    assert any("epoch 2/" in line for line in process.stderr)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    told, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "the same command with --force goes on from the checkpoint" in " ".join(err.split())
    done = LiftedClassifier.load(out).n_iter_
    assert 2 <= done < 100_000
    assert f"epoch {done} of 100000" in told
    code, _, err = lifted(run, *job[1:6], done + 1, "--checkpoint", kept, "--force")
    assert code == 0
    assert f"epoch {done + 1}/{done + 1}" in err
    assert f"epoch {done}/" not in err


def test_ctrl_c_while_pre_training(run, images, tmp_path, monkeypatch):  # noqa: F811
    whole, epochs = loop._Run._epoch, []

    def pressed_in_the_second(training):
        epochs.append(1)
        if len(epochs) == 2:
            signal.raise_signal(signal.SIGINT)
        return whole(training)

    monkeypatch.setattr(loop._Run, "_epoch", pressed_in_the_second)
    monkeypatch.setattr(cli.os, "_exit", sys.exit)
    code, told, err = lifted(run, "train", images, "--out", tmp_path / "own.npz", "--pretrain", 3, "--json")
    assert code == 130
    assert "after pre-training epoch 1" in " ".join(err.split())
    assert (told["epochs"], told["interrupted"], len(epochs)) == (1, True, 2)
    assert LiftedClassifier.load(tmp_path / "own.npz").n_iter_ == 1


def test_ctrl_c_before_the_first_epoch_writes_nothing(run, images, tmp_path, monkeypatch):  # noqa: F811
    def pressed(model, X, y):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LiftedClassifier, "fit", pressed)
    monkeypatch.setattr(cli.os, "_exit", sys.exit)
    before = signal.getsignal(signal.SIGINT)
    code, _, err = lifted(run, "train", images, "--out", tmp_path / "own.npz")
    assert code == 130
    assert "nothing was written" in err
    assert not (tmp_path / "own.npz").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_place_that_takes_no_file_is_found_before_the_training(run, images, tmp_path, monkeypatch):  # noqa: F811
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("certnet.core.files.tempfile.mkstemp", refuse)
    code, out, err = lifted(run, "train", images, "--out", tmp_path / "own.npz", *SMALL)
    assert (code, out) == (2, "")
    assert "Read-only file system" in " ".join(err.split())
    assert "epoch" not in err


def test_divergence_is_exit_code_three(run, images, tmp_path):  # noqa: F811
    out = tmp_path / "own.npz"
    code, _, err = lifted(run, "train", images, "--out", out, *SMALL, "--units", "linear", "--learning-rate", 1e6)
    assert code == 3
    assert "diverged" in err or "cannot be negative" in err


def test_doctor_tells_of_the_extras(run, monkeypatch):  # noqa: F811
    from certnet.cli import tools

    monkeypatch.setattr(tools, "_installed", lambda name: None)
    _, out, _ = run("doctor")
    for name, extra in (("daqp", "qp"), ("proxsuite", "qp"), ("pyarrow", "parquet"), ("sphinx", "docs")):
        assert f"not installed (extra '{extra}')" in next(
            line for line in out.splitlines() if name in line and "infer" not in line
        )


def test_check_says_which_file_is_wrong(run, tmp_path):  # noqa: F811
    net = LiftedNetwork([[[1.0, 0.5]]])
    model, broken = net.save(tmp_path / "net.npz"), tmp_path / "broken.json"
    code, _, err = run("check", tmp_path / "none.json", model)
    assert (code, "none.json does not exist" in err) == (2, True)
    broken.write_text("{}")
    code, _, err = run("check", broken, model)
    assert code == 2
    assert "broken.json has schema" in err
    code, _, err = run("certify", model)
    assert code == 2
    assert "certnet lifted certify" in err


def test_activations_of_a_density_are_no_classes(run, digits, images, rows, tmp_path):  # noqa: F811
    net = LiftedDensity((6, 10), max_epochs=1, random_state=0).fit(rows[0]).save(tmp_path / "net.npz")
    code, told, _ = lifted(run, "infer", net, images, "--json")
    assert code == 0
    assert not {"accuracy", "mse"} & told.keys()
    code, _, err = lifted(run, "certify", net, "--data", images)
    assert code == 2
    assert "radii are of a classifier's predictions, and this is a LiftedDensity" in err


def test_many_classes_are_asked_about(run, tmp_path):  # noqa: F811
    X, y = np.random.default_rng(0).standard_normal((60, 2)), np.arange(60) // 2
    path = tmp_path / "numbers.csv"
    np.savetxt(path, np.column_stack([X, y]), delimiter=",", header="a,b,y", comments="")
    options = ("--target", "y", "--out", tmp_path / "o.npz", "--layers", "3", "--epochs", 1)
    code, _, err = lifted(run, "train", path, *options)
    assert code == 0
    assert "the target has 30 different values in 60 rows, and each is taken for a class: --regress?" in err
    code, _, err = lifted(run, "train", path, *options, "--force", "--regress", "--units", "relu,hard_sigmoid")
    assert code == 2
    assert "limits of the output are output_box" in err
