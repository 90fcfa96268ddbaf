"""Studies of lifted networks: the model, tasks, every measure against a second implementation, checks and the page."""

from __future__ import annotations

import copy
import itertools
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from sklearn.metrics import roc_auc_score

from certnet.core.errors import CertnetWarning, DatasetError, FileFormatError
from certnet.lifted.bounds import lipschitz_bound
from certnet.study import Store, collect, load_study, run_study
from certnet.study.kinds.lifted.checks import lifted_checks, lifted_notes
from certnet.study.kinds.lifted.components import learned_layer
from certnet.study.kinds.lifted.images import ImageSettings, available, drawn_images, resolved, whole_of
from certnet.study.kinds.lifted.measures import filters_of, packed_filters
from certnet.study.kinds.lifted.runs import lifted_execute
from certnet.study.kinds.lifted.spec import LiftedSpec, lifted_check
from certnet.study.kinds.lifted.tasks import lifted_tasks
from certnet.study.kinds.lifted.training import lifted_from
from certnet.study.page import markdown, write_page
from certnet.study.spec import Study
from certnet.study.work import VOLATILE, perform

TINY = """\
kind = "lifted"
title = "Tiny"
seed = 3
max_train = 600
gammas = [0.1, 0.01]
gradient_samples = 20
remarks = ["A remark."]

[components]
images = ["digits"]
n_components = [4]

[networks.contrastive]
images = ["digits"]
table = "supervised"
hidden = [12, 8]
learning_rate = 0.2
epochs = 3
weight_decay = 1e-4
measures = ["certificate", "energies", "filters", "forward", "gradient", "passes"]

[networks.pre]
images = ["digits"]
hidden = [12, 8]
objective = "unsupervised"
learning_rate = 0.02
epochs = 2

[networks.pretrained]
images = ["digits"]
table = "supervised"
hidden = [12, 8]
epochs = 1
start = "pre"

[networks.energies]
images = ["digits"]
table = "unsupervised"
hidden = [8, 6]
classifies = false
objective = "unsupervised"
learning_rate = 0.02
epochs = 5
measures = ["energies"]

[networks.z-contrastive]
images = ["digits"]
table = "linearity"
hidden = [12, 8]
beta = 0.0
batch_size = 50
epochs = 2

[networks.z-lifted]
images = ["digits"]
table = "linearity"
hidden = [12, 8]
beta = 0.0
objective = "lifted"
optimizer = "adam"
learning_rate = 0.01
batch_size = 50
epochs = 2
passes = 15

[networks.z-linear]
images = ["digits"]
table = "linearity"
objective = "linear-regression"

[published.contrastive]
digits = { accuracy = 50.0, lipschitz = 0.9387, margin_mean = 0.25 }

[published.energies.digits.energies]
own = [1.0, 0.5]

[quick]
max_epochs = 1
"""


def study_of(folder: Path, text: str = TINY, *, quick: bool = False) -> Study:
    path = folder / "tiny.toml"
    path.write_text(text)
    return load_study(path, quick=quick)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Store, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("lifted")
    study = study_of(folder)
    store = run_study(study, folder / "out")
    return study, store, collect(store, lifted_tasks(study))


def row_of(rows: list[dict[str, Any]], part: str, network: str = "") -> dict[str, Any]:
    (found,) = (row for row in rows if row["part"] == part and row.get("network", "") == network)
    return found


def network_of(finished: Any, name: str) -> Any:
    study, store, _ = finished
    task = next(task for task in lifted_tasks(study) if task.name == f"digits/{name}")
    return lifted_from(store.artifact(task.digest))


def images() -> Any:
    from certnet.study.tasks import seed_for

    return digits(600, None, seed_for(3, "digits", 0, "images"))


def digits(max_train: int | None, max_test: int | None, seed: int) -> Any:
    return drawn_images(ImageSettings(name="digits", max_train=max_train, max_test=max_test, seed=seed))


# ---------------------------------------------------------------------------------------------------------- study files


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weight_decay = 1e-4", "weight_decay = -1.0", "weight_decay"),
        ("seed = 3", 'seed = 3\ndatasets = ["servo"]', r"line \d+: datasets: has no effect"),
        ("seed = 3", "seed = 3\nwheels = 4", "wheels: unknown key"),
        (
            'start = "pre"',
            'start = "post"',
            r"line \d+: networks\.\w+\.start: is 'post', which is no network before it",
        ),
        ('start = "pre"\n', 'start = "pre"\nunits = "linear"\n', "differ in units"),
        ('images = ["digits"]\nn_comp', 'images = ["faces"]\nn_comp', "components.images"),
        ("[published.contrastive]", "[published.nobody]", "'nobody'"),
        ('objective = "linear-regression"', 'objective = "linear-regression"\nhidden = [3]', "no hidden layers"),
        ("gammas = [0.1, 0.01]", "gammas = [0.1]", "gammas"),
        ("classifies = false\nobjective", "classifies = false\ngamma = 0.0\nobjective", "gamma"),
    ],
)
def test_what_is_wrong_in_a_study_file_is_said(tmp_path: Path, old: str, new: str, message: str):
    assert old in TINY
    with pytest.raises(FileFormatError, match=message):
        study_of(tmp_path, TINY.replace(old, new, 1))


def test_measures_fit_the_network(tmp_path: Path):
    with pytest.raises(FileFormatError, match="certificate, forward, gradient, passes need outputs"):
        study_of(tmp_path, TINY.replace('measures = ["energies"]', 'measures = ["certificate"]'))
    text = TINY + '\n[networks.twin]\nimages = ["digits"]\nhidden = [4]\nobjective = "back-propagation"\n'
    with pytest.raises(FileFormatError, match="only filters fits"):
        study_of(tmp_path, text.replace("[quick]\nmax_epochs = 1\n", "") + 'measures = ["energies"]\n')


def test_built_in_studies_load_and_their_published_networks_exist():
    for name in ("lifted", "lifted-images"):
        for quick in (False, True):
            study = load_study(name, quick=quick)
            tasks = lifted_tasks(study)
            assert len({task.digest for task in tasks}) == len(tasks)
            known = {task.digest for task in tasks}
            assert all(need in known for task in tasks for need in task.needs)
        assert isinstance(study.spec, LiftedSpec)


def test_digits_stand_in_where_there_are_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CERTNET_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not available("mnist")
    assert resolved(["mnist", "kmnist"], "digits") == ["digits"]
    assert resolved(["mnist", "kmnist"], None) == ["mnist", "kmnist"]
    assert {task.group["data"] for task in lifted_tasks(load_study("lifted", quick=True))} == {"digits"}


def test_a_set_that_is_not_there_stops_a_study_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CERTNET_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = 'kind = "lifted"\n[networks.one]\nimages = ["digits", "cifar10"]\nhidden = [4]\n'
    study = study_of(tmp_path, text)
    with pytest.raises(DatasetError, match=r", line 3: networks.one.images: cifar10 is not in .*get them from"):
        run_study(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    lifted_check(study_of(tmp_path, 'fallback = "digits"\n' + text))
    lifted_check(study_of(tmp_path, text.replace(', "cifar10"', "")))
    lifted_check(load_study("lifted-images"))  # its page promises rows for the sets that are there


def test_a_set_that_is_not_there_is_a_row_that_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CERTNET_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = 'kind = "lifted"\n[networks.one]\nimages = ["cifar10-grey"]\nhidden = [4]\nmeasures = ["filters"]\n'
    study = replace(study_of(tmp_path, text), builtin=True)
    rows = collect(run_study(study, tmp_path / "out"), lifted_tasks(study))
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert "cifar10 is not in" in rows[0]["reason"]
    assert "get them from" in rows[0]["reason"]
    assert "it needs cifar10-grey/one, which failed" in rows[1]["reason"]
    assert "Failures" in markdown(study, rows, 2, _report(study, rows), [])


def _report(study: Study, rows: list[dict[str, Any]]) -> Any:
    from certnet.study.kinds.lifted import KIND

    return KIND.report(study, rows)


# ----------------------------------------------------------------------------------------------------------- the tasks


def test_measures_do_not_change_the_training_and_settings_do(tmp_path: Path):
    def digest(text: str) -> str:
        tasks = lifted_tasks(study_of(tmp_path, text))
        return next(task.digest for task in tasks if task.name == "digits/contrastive")

    same = re.sub(r"measures = .*gradient.*", "measures = []", TINY)
    assert digest(same) == digest(TINY)
    assert digest(TINY.replace("weight_decay = 1e-4", "weight_decay = 1e-3")) != digest(TINY)
    assert digest(TINY.replace("max_train = 600", "max_train = 500")) != digest(TINY)


def test_quick_limits_the_epochs(tmp_path: Path):
    tasks = lifted_tasks(study_of(tmp_path, quick=True))
    assert {task.settings.network.epochs for task in tasks if task.settings.part == "training"} == {1}


def test_networks_of_one_shape_start_from_the_same_weights(tmp_path: Path):
    tasks = {task.name: task for task in lifted_tasks(study_of(tmp_path))}
    seeds = {tasks[f"digits/{name}"].settings.start_seed for name in ("contrastive", "z-contrastive", "z-lifted")}
    assert len(seeds) == 1
    assert tasks["digits/contrastive"].seed != tasks["digits/z-lifted"].seed


def test_first_weights_can_be_scaled(tmp_path: Path):
    slow = TINY.replace("learning_rate = 0.2\n", "learning_rate = 1e-9\n")
    first, smaller = (
        lifted_from(lifted_execute(lifted_tasks(study_of(tmp_path, text))[1], []).artifact or b"")
        for text in (slow, slow.replace("learning_rate = 1e-9\n", "learning_rate = 1e-9\nweight_scale = 0.5\n"))
    )
    for W, V in zip(first.weights, smaller.weights):
        np.testing.assert_allclose(V, 0.5 * W, atol=1e-6)
    assert first.weights[0].std() == pytest.approx(math.sqrt(1.0 / 64.0), rel=0.1)
    with pytest.raises(FileFormatError, match="weight_scale is for weights that are drawn"):
        study_of(tmp_path, TINY.replace('start = "pre"\n', 'start = "pre"\nweight_scale = 0.5\n'))


def test_all_rows_are_done_and_do_not_depend_on_the_run(finished):
    study, _, rows = finished
    assert [row["reason"] for row in rows] == [""] * 15
    tasks = lifted_tasks(study)
    task = next(task for task in tasks if task.name == "digits/contrastive")
    again, _ = perform(task, [])
    before = rows[tasks.index(task)]
    different = {key for key in before if before[key] != again[key]}
    assert different <= {*VOLATILE, "training_seconds"}


def test_a_part_of_cifar_stands_in_under_its_own_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CERTNET_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert resolved(["cifar10-grey"], None) == ["cifar10-grey"]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cifar10_first4000_test1000.npz").touch()
    assert resolved(["cifar10-grey", "cifar10"], None) == ["cifar10_part-grey", "cifar10_part"]
    assert [whole_of(name) for name in ("cifar10_part-grey", "cifar10", "mnist")] == [
        "cifar10-grey",
        "cifar10",
        "mnist",
    ]
    spec = load_study("lifted-images").spec
    assert spec.paper("cifar", "cifar10_part-grey")["accuracy"] == 44.75
    assert spec.paper("cifar", "mnist") == {}
    (tmp_path / "images" / "cifar10.npz").touch()
    assert resolved(["cifar10-grey"], None) == ["cifar10-grey"]


def test_a_loss_that_diverges_is_a_failed_row(tmp_path: Path):
    text = TINY.replace("learning_rate = 0.2", "learning_rate = 1000.0")
    task = next(task for task in lifted_tasks(study_of(tmp_path, text)) if task.name == "digits/contrastive")
    row, _ = perform(task, [])
    assert row["status"] == "failed"
    assert "lower learning_rate" in row["reason"] or "lower the learning rate" in row["reason"]


def test_sizes_are_limited_by_a_seeded_draw():
    small, again = (digits(100, 50, 1) for _ in range(2))
    other = digits(100, 50, 2)
    assert small.X_train.shape == (100, 64)
    assert small.X_test.shape == (50, 64)
    np.testing.assert_array_equal(small.X_train, again.X_train)
    assert not np.array_equal(small.X_train, other.X_train)
    whole = digits(None, None, 1)
    assert len(whole.X_train) + len(whole.X_test) == 1797
    assert np.bincount(whole.y_test).min() >= 34  # every fifth of each class


# ------------------------------------------------------------------------------------------------------ second opinions


def test_accuracies_and_linear_fractions_are_those_of_the_stored_network(finished):
    row, net, data = row_of(finished[2], "training", "contrastive"), network_of(finished, "contrastive"), images()
    found = net.infer(data.X_test, tol=1e-10)
    assert row["test_accuracy"] == pytest.approx((found.output.argmax(axis=1) == data.y_test).mean())
    predicted = net.infer(data.X_train).output.argmax(axis=1)
    assert row["train_accuracy"] == pytest.approx((predicted == data.y_train).mean())
    assert row["accuracy"][-1] == row["test_accuracy"]
    assert row["linear"] == pytest.approx([(z > 1e-9).mean() for z in found.activations[:2]], abs=1e-3)
    assert len(row["loss"]) == 3


def test_pretraining_hands_its_weights_on(finished):
    pre, after, fresh = (network_of(finished, name) for name in ("pre", "pretrained", "contrastive"))
    moved = np.linalg.norm(after.weights[0] - pre.weights[0])
    assert 0.0 < moved < 0.6 * np.linalg.norm(after.weights[0] - fresh.weights[0])


def test_margins_and_radii_follow_from_the_bounds(finished):
    row, net, data = row_of(finished[2], "certificate", "contrastive"), network_of(finished, "contrastive"), images()
    outputs = np.sort(net.infer(data.X_test, tol=1e-11).output, axis=1)
    margins = outputs[:, -1] - outputs[:, -2]
    for key, value in (("mean", margins.mean()), ("median", np.median(margins)), ("std", margins.std())):
        assert row["margin"][key] == pytest.approx(value, abs=1e-6)
    assert row["radius"] == pytest.approx(np.median(margins) / (math.sqrt(2.0) * row["sdp"]), rel=1e-5)
    assert row["radius_theorem"] == pytest.approx(np.median(margins) / (math.sqrt(2.0) * row["theorem"]), rel=1e-5)
    assert row["theorem"] == pytest.approx(np.linalg.norm(net.weights[2], 2), rel=1e-9)  # β = 1 gives factors of one
    assert row["lower"] <= row["sdp"] <= row["layerwise"] <= row["theorem"]
    assert row["sdp"] == lipschitz_bound(net, "sdp", lower=False).upper
    wrong = 1.0 - row["test_accuracy"]
    assert np.mean(np.array(row["radii"]) < 0.0) == pytest.approx(wrong, abs=0.01)


def test_certified_shares_follow_from_the_bounds_of_every_pair(finished):
    row, net, data = row_of(finished[2], "certificate", "contrastive"), network_of(finished, "contrastive"), images()
    outputs = net.infer(data.X_test, tol=1e-11).output
    L = np.full((10, 10), np.inf)
    for i, j in itertools.combinations(range(10), 2):
        L[i, j] = L[j, i] = lipschitz_bound(net, "sdp", output=(i, j), lower=False).upper
    top = outputs.argmax(axis=1)
    gaps = np.take_along_axis(outputs, top[:, None], axis=1) - outputs
    gaps[np.arange(len(top)), top] = np.inf
    with np.errstate(invalid="ignore"):
        radii = np.where(np.isinf(gaps), np.inf, gaps / L[top]).min(axis=1)
    assert row["radius_pairs"] == pytest.approx(np.median(radii), rel=1e-3)
    assert row["radius_pairs"] >= row["radius"]
    assert row["pairs_most"] == pytest.approx(L[np.isfinite(L)].max(), rel=1e-3)
    for radius, share, plain in zip(row["at"], row["certified"], row["certified_of_all"], strict=True):
        assert share == pytest.approx(((radii >= radius) & (top == data.y_test)).mean(), abs=0.01)
        assert plain <= share <= row["test_accuracy"]


def test_a_pass_is_measured_against_the_minimiser(finished):
    row, net, data = row_of(finished[2], "forward", "contrastive"), network_of(finished, "contrastive"), images()
    best, z = net.infer(data.X_test, tol=1e-10).output, data.X_test.astype(float)
    for k, (W, b) in enumerate(zip(net.weights, net.biases)):
        z = np.maximum(z @ W.T + b, net.lower[k]) if k < 2 else z @ W.T + b
    plain = row["ways"]["plain"]
    assert plain["test_accuracy"] == pytest.approx((z.argmax(axis=1) == data.y_test).mean())
    assert plain["same"] == pytest.approx((z.argmax(axis=1) == best.argmax(axis=1)).mean())
    assert plain["distance"] == pytest.approx(np.median(np.linalg.norm(z - best, axis=1)), rel=1e-4)
    assert row["ways"]["reconstructing"]["distance"] < plain["distance"]


def test_certain_predictions_are_those_of_the_minimiser(finished):
    row, net, data = row_of(finished[2], "passes", "contrastive"), network_of(finished, "contrastive"), images()
    best = net.infer(data.X_test, tol=1e-11).output.argmax(axis=1)
    stops = {(stop["by"], stop["value"]): stop for stop in row["stops"]}
    errors = [stops["residual", tol]["error"] for tol in (1.0, 0.1, 0.01, 1e-3, 1e-4)]
    assert errors == sorted(errors, reverse=True)
    assert stops["residual", 1e-6]["certain"] > 0.98
    assert stops["residual", 1e-6]["same"] == 1.0
    early = net.infer(data.X_test, passes=2)
    top = np.sort(early.output, axis=1)
    sure = top[:, -1] - top[:, -2] > math.sqrt(2.0) * early.error_bound
    assert stops["passes", 2]["certain"] == pytest.approx(sure.mean())
    assert (early.output.argmax(axis=1) == best)[sure].all()


def test_areas_are_those_of_scikit_learn(finished):
    for network in ("energies", "contrastive"):
        row, net, data = row_of(finished[2], "energies", network), network_of(finished, network), images()
        own = net.scores(data.X_test)
        mirrored = net.scores(data.X_test.reshape(-1, 8, 8)[:, :, ::-1].reshape(-1, 64))
        labels = np.repeat([0, 1], len(own))
        assert row["areas"]["mirrored"] == pytest.approx(roc_auc_score(labels, np.concatenate([own, mirrored])))
        assert set(row["areas"]) == {"mirrored", "Gaussian"}


def test_no_slope_is_steeper_than_the_bound(finished):
    row, net, data = row_of(finished[2], "certificate", "contrastive"), network_of(finished, "contrastive"), images()
    rng = np.random.default_rng(0)
    X = data.X_test[:100].astype(float)
    step = rng.standard_normal(X.shape)
    moved = net.infer(X + step, tol=1e-10).output - net.infer(X, tol=1e-10).output
    slopes = np.linalg.norm(moved, axis=1) / np.linalg.norm(step, axis=1)
    assert 0.0 < slopes.max() <= row["sdp"]


def test_energies_are_those_of_a_generic_solver(finished):
    row, net, data = row_of(finished[2], "energies", "energies"), network_of(finished, "energies"), images()
    mirrored = data.X_test.reshape(-1, 8, 8)[:, :, ::-1].reshape(-1, 64)
    for name, X in (("own", data.X_test), ("mirrored", mirrored)):
        energies = net.scores(X)
        assert row["energies"][name]["mean"] == pytest.approx(energies.mean(), rel=1e-6)
        assert row["energies"][name]["std"] == pytest.approx(energies.std(), rel=1e-5)
        for i in range(3):
            assert energies[i] == pytest.approx(_least_energy(net, X[i : i + 1].astype(float)), rel=1e-5)
    assert row["energies"]["own"]["mean"] < row["energies"]["Gaussian"]["mean"]
    assert list(row["energies"]) == ["own", "mirrored", "Gaussian"]
    assert np.mean(row["quantiles"]["own"]) == pytest.approx(row["energies"]["own"]["mean"], rel=0.01)


def _least_energy(net: Any, x: Any) -> float:
    def energy(z: Any) -> float:
        return float(net.energy(x, z[None])[0])

    bounds = [(0.0, None)] * net.n_units
    return float(scipy.optimize.minimize(energy, np.full(net.n_units, 0.1), bounds=bounds, method="L-BFGS-B").fun)


def test_filters_survive_the_text():
    W = np.random.default_rng(4).standard_normal((5, 12))
    back = filters_of(packed_filters(W), (3, 4))
    np.testing.assert_allclose(back, W / np.abs(W).max(axis=1, keepdims=True), atol=0.5 / 127.0 + 1e-12)


def test_filters_of_the_row_are_the_first_weights(finished):
    row, net = row_of(finished[2], "filters", "contrastive"), network_of(finished, "contrastive")
    W = net.weights[0]
    shown = filters_of(row["filters"], row["shape"])
    assert row["shape"] == [8, 8]
    np.testing.assert_allclose(shown, W / np.abs(W).max(axis=1, keepdims=True), atol=0.004)
    assert row["positive"] == pytest.approx((W[W > 0.0] ** 2).sum() / (W**2).sum())
    assert 0.0 < row["hoyer_sparsity"] < 1.0


def test_gradients_come_nearer_as_the_feedback_falls(finished):
    row = row_of(finished[2], "gradient", "contrastive")
    assert row["gammas"] == [0.1, 0.01]
    assert row["total"][1] < 0.3 * row["total"][0]
    assert [len(layer) for layer in row["errors"]] == [2, 2, 2]


def test_one_linear_layer_finds_the_principal_components(finished):
    row, X = row_of(finished[2], "components"), images().X_train.astype(float)
    values = np.linalg.svd(X, compute_uv=False) ** 2 / len(X)
    assert row["energy_least"] == pytest.approx(0.5 * values[4:].sum(), rel=1e-6)
    assert row["energy"] == pytest.approx(row["energy_least"], rel=1e-9)
    assert row["angle"] < 0.01
    assert row["exact_rank"]["energy"] < 1e-9 * row["exact_rank"]["energy_at_zero"]
    assert row["exact_rank"]["identity"] < 1e-5


def test_the_rows_of_the_scatter_matrix_stand_for_all_samples():
    """The learned layer's energy, by inference of every sample."""
    from certnet.lifted import LiftedNetwork

    X = np.random.default_rng(6).standard_normal((50, 5)) * [3.0, 2.0, 1.0, 0.5, 0.1]
    values, vectors = np.linalg.eigh(X.T @ X / 50)
    W, energy, _ = learned_layer(values[::-1], vectors[:, ::-1], 2, 0)
    net = LiftedNetwork([W], beta=1.0, units=["linear"])
    assert net.infer(X, tol=1e-10).energy.mean() == pytest.approx(energy, rel=1e-9)
    early, worse, _ = learned_layer(values[::-1], vectors[:, ::-1], 2, 0, max_iterations=1)
    assert worse > 1.01 * energy
    assert np.linalg.norm(early @ early.T - np.eye(2)) > 0.01


def test_standard_lifted_learning_is_more_linear(finished):
    rows = finished[2]
    lifted, contrastive = (row_of(rows, "training", name)["linear"] for name in ("z-lifted", "z-contrastive"))
    assert min(lifted) > 0.9 > max(contrastive)


def test_linear_regression_is_that_of_numpy(finished):
    row, data = row_of(finished[2], "training", "z-linear"), images()
    A = np.column_stack([data.X_train.astype(float), np.ones(len(data.X_train))])
    B = np.linalg.lstsq(A, np.eye(10)[data.y_train], rcond=1e-10)[0]
    assert row["train_accuracy"] == pytest.approx(((A @ B).argmax(axis=1) == data.y_train).mean())


def test_the_twin_is_evaluated_in_its_forward_pass(tmp_path: Path):
    pytest.importorskip("torch")
    text = TINY.replace('objective = "lifted"\noptimizer = "adam"', 'objective = "back-propagation"')
    task = next(task for task in lifted_tasks(study_of(tmp_path, text)) if task.name == "digits/z-lifted")
    done = lifted_execute(task, [])
    net, data = lifted_from(done.artifact or b""), images()
    z, shares = data.X_test.astype(float), []
    for W, b in zip(net.weights[:-1], net.biases[:-1]):
        z = np.maximum(z @ W.T + b, 0.0)
        shares.append((z > 0.0).mean())
    outputs = z @ net.weights[-1].T + net.biases[-1]
    assert done.row["linear"] == pytest.approx(shares, abs=1e-3)
    assert done.row["test_accuracy"] == pytest.approx((outputs.argmax(axis=1) == data.y_test).mean(), abs=1e-9)


# ------------------------------------------------------------------------------------------------------ checks and page


def test_checks_hold_and_fail_where_rows_are_wrong(finished):
    study, _, rows = finished
    found = {check.statement: check for check in lifted_checks(rows, study.spec)}
    required = [check for check in found.values() if check.required]
    assert all(not check.violations for check in required)
    assert sum(check.cases for check in required) >= 4
    bad = copy.deepcopy(rows)
    row_of(bad, "certificate", "contrastive").update(sdp=2.0, theorem=1.0, checked=False)
    row_of(bad, "components").update(angle=1.0)
    row_of(bad, "components")["exact_rank"].update(energy=1.0)
    row_of(bad, "energies", "energies")["energies"]["own"]["mean"] = 1e9
    row_of(bad, "gradient", "contrastive")["total"] = [0.1, 0.2]
    row_of(bad, "training", "z-lifted")["linear"] = [0.5]
    row_of(bad, "training", "z-contrastive")["linear"] = [1.0]
    assert all(check.violations for check in lifted_checks(bad, study.spec))


def test_accuracies_are_expected_of_whole_runs_only(finished):
    study, _, rows = finished
    expected = {"contrastive": {"digits": 100.0}}
    whole = study.spec.model_copy(update={"max_train": None, "expected": expected})
    (check,) = (check for check in lifted_checks(rows, whole) if "expects" in check.statement)
    assert check.cases == 1
    assert "< 100" in check.violations[0]
    low = whole.model_copy(update={"expected": {"contrastive": {"digits": 1.0}}})
    assert not any(check.violations for check in lifted_checks(rows, low) if "expects" in check.statement)
    limited = study.spec.model_copy(update={"expected": expected})
    assert not any("expects" in check.statement for check in lifted_checks(rows, limited))


def test_the_page_has_our_numbers_and_the_published_ones(finished):
    study, _, rows = finished
    text = markdown(study, rows, len(rows), _report(study, rows), [])
    accuracy = 100.0 * row_of(rows, "training", "contrastive")["test_accuracy"]
    assert f"{accuracy:.2f}" in text
    assert "0.9387" in text
    assert "1.0 ± 0.5" in text
    own = row_of(rows, "energies", "energies")["energies"]["own"]["mean"]
    assert f"{2.0 * own:.1f}" in text
    assert "A remark." in text
    notes = " ".join(lifted_notes(rows, study.spec))
    assert "50 % published" in notes
    assert f"own {1.0 / own:.2f}" in notes


def test_a_page_of_few_rows_has_few_tables(finished):
    study, _, rows = finished
    assert _report(study, []).tables == ()
    titles = [table.title for table in _report(study, rows[:1]).tables]
    assert len(titles) == 1
    assert titles[0].startswith("One linear layer")


def test_pictures_are_drawn_from_the_rows(finished, tmp_path: Path):
    pytest.importorskip("matplotlib")
    study, _, rows = finished
    written = {path.name for path in write_page(study, rows, len(rows), tmp_path)}
    expected = {"filters-digits-contrastive", "energies-digits-energies", "radii-digits", "gradient-digits-contrastive"}
    expected |= {f"learning-digits-{name}" for name in ("supervised", "unsupervised", "linearity")}
    assert {f"{name}.{suffix}" for name in expected for suffix in ("png", "svg")} <= written


# ------------------------------------------------------------------------------------------------------------ real data

MNIST = Path(os.environ.get("CERTNET_DATA_HOME", "")) / "images" / "mnist.npz"


@pytest.mark.skipif(
    not os.environ.get("CERTNET_DATA_HOME") or not MNIST.is_file(),
    reason="CERTNET_DATA_HOME with images/mnist.npz is not set",
)
@pytest.mark.filterwarnings(f"ignore::{CertnetWarning.__module__}.{CertnetWarning.__name__}")
def test_mnist_learns_and_weight_decay_lowers_the_bound(tmp_path: Path):
    text = """\
kind = "lifted"
max_train = 4000
max_test = 1000
[networks.weak]
images = ["mnist"]
hidden = [64, 64]
learning_rate = 0.4
epochs = 2
weight_decay = 1e-4
measures = ["certificate"]
[networks.strong]
images = ["mnist"]
hidden = [64, 64]
learning_rate = 0.4
epochs = 2
weight_decay = 1e-3
measures = ["certificate"]
"""
    study = study_of(tmp_path, text)
    rows = collect(run_study(study, tmp_path / "out"), lifted_tasks(study))
    weak, strong = (row_of(rows, "certificate", name) for name in ("weak", "strong"))
    assert min(weak["test_accuracy"], strong["test_accuracy"]) > 0.85
    assert strong["theorem"] < 0.6 * weak["theorem"]
    assert strong["radius"] > weak["radius"]
    for row in (weak, strong):
        assert row["sdp"] < row["theorem"]
