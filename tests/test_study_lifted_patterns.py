"""What the papers' tables say holds on subsets too: the built-in study's networks, with fewer images and epochs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from certnet.study import collect, load_study, run_study
from certnet.study.kinds.lifted.images import available
from certnet.study.kinds.lifted.tasks import lifted_tasks

pytestmark = pytest.mark.skipif(
    not (available("mnist") and available("fashion_mnist")),
    reason="needs MNIST and Fashion-MNIST in CERTNET_DATA_HOME/images",
)

BUILT_IN = Path(__file__).parents[1] / "certnet" / "study" / "builtin" / "lifted-images.toml"

TAKEN = {
    # name: epochs, measures
    "wd-1e-4": (5, ["certificate"]),
    "energies-relu": (4, ["energies"]),
    "rate-of-mean": (6, []),
    "rate-of-sum": (6, []),
    "rate-of-back-propagation": (6, ["forward", "passes"]),
    "class-conditional": (6, []),
    "rr-layers": (10, ["certificate"]),
    "mixed-batches-1000": (5, ["energies"]),
    "semi-supervised-1000": (5, ["energies"]),
    "two-layers-contrastive": (12, ["forward"]),
    "relu-back-propagation": (12, []),
    "relu-contrastive": (12, []),
    "relu-lifted": (12, []),
    "linear-regression": (1, []),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Rows by image set, network and part."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("patterns")
    (folder / "patterns.toml").write_text(_reduced(BUILT_IN.read_text()))
    study = load_study(folder / "patterns.toml")
    found = collect(run_study(study, folder / "out"), lifted_tasks(study))
    assert [row["reason"] for row in found if row["status"] != "done"] == []
    return {(row["data"], row["network"], row["part"]): row for row in found}


def _reduced(text: str) -> str:
    parts = ['kind = "lifted"\nseed = 2020\nmax_train = 3000\nmax_test = 500\n']
    for name, (epochs, measures) in TAKEN.items():
        (body,) = re.findall(rf"^\[networks\.{re.escape(name)}\]\n(.*?)\n\n", text, flags=re.MULTILINE | re.DOTALL)
        body = re.sub(r"^(measures|epochs|images) = .*\n?", "", body + "\n", flags=re.MULTILINE)
        images = ["fashion_mnist", "mnist"] if name == "energies-relu" else _images(text, name)
        if name != "linear-regression":
            body += f"epochs = {epochs}\nmeasures = {measures}\n"
        parts.append(f"[networks.{name}]\nimages = {images}\n{body}".replace("'", '"'))
    return "\n".join(parts)


def _images(text: str, name: str) -> list[str]:
    (found,) = re.findall(rf"^\[networks\.{re.escape(name)}\]\nimages = \[(.*?)\]", text, flags=re.MULTILINE)
    return [one.strip(' "') for one in found.split(",") if "cifar" not in one]


def test_contrastive_learning_does_what_back_propagation_does_and_lifted_learning_is_linear(rows):
    back, contrastive, lifted, linear = (
        rows["fashion_mnist", name, "training"]
        for name in ("relu-back-propagation", "relu-contrastive", "relu-lifted", "linear-regression")
    )
    assert abs(back["test_accuracy"] - contrastive["test_accuracy"]) < 0.06
    assert lifted["test_accuracy"] < min(back["test_accuracy"], contrastive["test_accuracy"]) - 0.05
    assert min(lifted["linear"]) > 0.9 > 0.75 > max(back["linear"])
    assert linear["test_accuracy"] > 0.7


def test_one_pass_is_nearly_the_minimiser_without_reconstruction_and_not_with_it(rows):
    without = rows["mnist", "two-layers-contrastive", "forward"]["ways"]["plain"]
    ways = rows["mnist", "rate-of-back-propagation", "forward"]["ways"]
    assert without["same"] > 0.93
    assert ways["reconstructing"]["same"] > without["same"]
    assert ways["reconstructing"]["distance"] < 0.5 * ways["plain"]["distance"]


def test_inference_that_ends_early_is_right_before_it_is_certain(rows):
    row = rows["mnist", "rate-of-back-propagation", "passes"]
    passes = [stop for stop in row["stops"] if stop["by"] == "passes"]
    ends = {stop["value"]: stop for stop in row["stops"] if stop["by"] == "residual"}
    assert passes[-1]["error"] < 1e-2 * passes[0]["error"]
    assert ends[1e-3]["same"] > 0.99
    assert ends[1e-6]["certain"] > 0.99
    assert ends[1.0]["certain"] < ends[1e-6]["certain"]
    assert all(stop["certain"] <= stop["same"] for stop in row["stops"])


def test_own_images_have_the_least_energy_and_pairs_of_outputs_the_larger_radii(rows):
    for data, other in (("fashion_mnist", "mnist"), ("mnist", "fashion_mnist")):
        row = rows[data, "energies-relu", "energies"]
        assert all(row["energies"]["own"]["mean"] < row["energies"][name]["mean"] for name in (other, "Gaussian"))
        assert row["areas"]["Gaussian"] > 0.95
        assert row["areas"][other] > 0.7
    proved = rows["fashion_mnist", "wd-1e-4", "certificate"]
    assert proved["checked"]
    assert proved["lower"] <= proved["sdp"] <= proved["layerwise"] <= proved["theorem"]
    assert proved["radius_pairs"] > proved["radius"] > proved["radius_theorem"]


def test_the_learning_rate_of_h_is_not_that_of_the_mean_gradient(rows):
    """After so few epochs the reading 0.4 of the mean gradient is far behind the two others."""
    mean, total, back = (rows["mnist", f"rate-of-{of}", "training"]["test_accuracy"] for of in _READINGS)
    assert mean < min(total, back) - 0.02


_READINGS = ("mean", "sum", "back-propagation")


def test_layers_of_section_3_are_proved_below_the_norm_of_their_last(rows):
    row = rows["mnist", "rr-layers", "certificate"]
    assert row["checked"]
    assert row["lower"] <= row["sdp"] <= row["last_layer"] * (1.0 + 1e-6)
    assert row["certified"][1] > 0.6  # at radius 0.3
    assert rows["mnist", "class-conditional", "training"]["test_accuracy"] > 0.75


def test_unlabelled_images_teach_the_energy_what_is_strange(rows):
    labels, both = (rows["mnist", f"{way}-1000", "energies"] for way in ("mixed-batches", "semi-supervised"))
    assert both["areas"]["fashion_mnist"] > labels["areas"]["fashion_mnist"]
    accuracies = [rows["mnist", f"{way}-1000", "training"]["test_accuracy"] for way in _WAYS]
    assert abs(accuracies[0] - accuracies[1]) < 0.03


_WAYS = ("mixed-batches", "semi-supervised")
