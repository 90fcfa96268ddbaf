"""``certnet refine`` in a region: the options of ``certify``, a certificate there, and the bound of all inputs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_cli import model, network, run, table  # noqa: F401 - fixtures

from certnet import Box, Certificate, ShallowNetwork, certify, refine
from certnet.data import load_table


@pytest.fixture
def words(model, table, tmp_path):  # noqa: F811
    out = tmp_path / "r.npz"
    return "refine", model, "--data", table, "--target", "y", "--effort", "quick", "--weight", 0.05, "--out", out


def limits(folder, name, low, high):
    paths = [folder / f"{name}-{end}.csv" for end in ("low", "high")]
    for path, values in zip(paths, (low, high)):
        path.write_text("a,b\n" + ",".join(map(repr, values)) + "\n")
    return paths


def test_a_box_gives_what_python_gives(run, words, network, table, tmp_path):  # noqa: F811
    box = Box([-0.5, -0.25], [0.5, 0.75])
    code, out, err = run(*words, "--box", *limits(tmp_path, "box", [-0.5, -0.25], [0.5, 0.75]), "--json")
    assert code == 0, err
    assert "goes beyond the data" not in err
    said = json.loads(out)
    X, y, _ = load_table(table, "y")
    done = refine(network, X, y, 0.05, effort="quick", region=box)
    assert said["objective_after"] == pytest.approx(done.objective_after, rel=1e-9)
    assert said["region"] == {"box": {"lower": [-0.5, -0.25], "upper": [0.5, 0.75]}}
    assert said["lipschitz_upper_after"] == pytest.approx(done.certificate.upper, rel=1e-9)
    assert said["lipschitz_upper_everywhere"] == pytest.approx(done.certificate_everywhere.upper, rel=1e-6)
    assert said["lipschitz_upper_before"] == pytest.approx(certify(network, region=box).upper, rel=1e-6)
    claim, refined = Certificate.load(tmp_path / "r.certificate.json"), ShallowNetwork.load(tmp_path / "r.npz")
    assert isinstance(claim.region, Box)
    assert claim.check(refined)


def test_around_the_training_table(run, words, table):  # noqa: F811
    code, out, err = run(*words, "--around-data", table, "--margin", 0.1)
    assert code == 0, err
    X, _, _ = load_table(table, "y")
    box = Box.around(X, 0.1)
    assert "for inputs within these limits, and no others" in out
    assert f"{box.lower[0]:.6g}"[:6] in out
    assert "for all inputs L is at most" in out
    assert "certified L at most" in out


def test_around_a_row_in_standard_deviations(run, words, table, tmp_path):  # noqa: F811
    more = ("--around", table, "--row", 3, "--radius", 0.5, "--units", "standardised", "--json")
    code, out, err = run(*words, *more)
    assert code == 0, err
    X, _, _ = load_table(table, "y")
    box = json.loads(out)["region"]["box"]
    assert np.allclose(box["lower"], X[2] - 0.5 * X.std(axis=0))
    assert np.allclose(box["upper"], X[2] + 0.5 * X.std(axis=0))
    ball = ("--around", table, "--row", 3, "--radius", 0.5, "--force", "--json")
    code, out, err = run(*words, *ball)
    assert code == 0, err
    assert json.loads(out)["region"]["ball"]["centre"] == X[2].tolist()


def test_a_box_with_standardise(run, words, tmp_path):  # noqa: F811
    files = limits(tmp_path, "box", [-0.5, -0.25], [0.5, 0.75])
    code, out, err = run(*words, "--standardise", "--box", *files, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["lipschitz_upper_after"] <= said["lipschitz_upper_everywhere"] * (1.0 + 1e-6)
    claim = Certificate.load(tmp_path / "r.certificate.json")
    assert np.allclose(claim.region.limits, [[-0.5, -0.25], [0.5, 0.75]])
    assert claim.check(ShallowNetwork.load(tmp_path / "r.npz"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--radius", 1), "--radius needs --around"),
        (("--margin", 0.1), "--margin needs --around-data"),
        (("--around-data", "TABLE", "--optimality-gap"), "--around-data is for the default work, and --optimality-gap"),
        (("--around", "TABLE", "--radius", 1), "has 30 rows, one is needed: name one by --row"),
        (("--around", "TABLE", "--radius", 1, "--row", 1, "--standardise"), "a ball in the model's own units"),
        (("--units", "table"), "is of a region"),
    ],
)
def test_what_does_not_fit(run, words, table, tmp_path, more, message):  # noqa: F811
    code, _, err = run(*words, *(table if one == "TABLE" else one for one in more))
    assert code == 2
    assert message in err
    assert not (tmp_path / "r.npz").exists()
