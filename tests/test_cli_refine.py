"""``certnet refine``: limits, cells and the floor on the command line, and options that do not go together."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_cli import model, network, run, table  # noqa: F401 - fixtures

from certnet import Certificate, ShallowNetwork, certify
from certnet.networks.about import About
from certnet.refinement import mean_squared_error


@pytest.fixture
def refined(run, model, table, tmp_path):  # noqa: F811
    """Run ``certnet refine`` with more options; returns exit code, stdout or JSON, stderr, the network's path."""

    def call(*more: object, as_json: bool = True):
        out = tmp_path / "refined.npz"
        arguments = ("refine", model, "--data", table, "--target", "y", "--out", out, *more)
        code, text, err = run(*arguments, *(["--json"] if as_json else []))
        return code, json.loads(text) if as_json and code == 0 else text, err, out

    return call


@pytest.fixture
def samples(table):  # noqa: F811
    rows = np.loadtxt(table, delimiter=",", skiprows=1)
    return rows[:, :2], rows[:, 2]


@pytest.mark.parametrize("limit", [0.0, 0.5, 2.0])
def test_target_lipschitz(refined, samples, limit):
    code, told, _, out = refined("--target-lipschitz", limit)
    written = ShallowNetwork.load(out)
    assert code == 0
    assert told["lipschitz_upper_after"] <= limit
    assert certify(written).lower <= limit
    assert told["objective_after"] == told["mse_after"]
    assert told["mse_after"] == pytest.approx(mean_squared_error(written, *samples), rel=1e-12)
    assert Certificate.load(out.with_suffix(".certificate.json")).check(written)
    assert told["objective_before"] is None or told["lipschitz_upper_before"] <= limit


def test_max_mse(refined, samples):
    limit = 0.8 * float(np.var(samples[1]))
    code, told, _, out = refined("--max-mse", limit)
    assert code == 0
    assert mean_squared_error(ShallowNetwork.load(out), *samples) <= limit
    assert told["objective_after"] == pytest.approx(told["lipschitz_upper_after"] ** 2, rel=1e-12)


def test_max_mse_out_of_reach(refined):
    code, _, err, out = refined("--max-mse", "1e-9")
    assert code == 2
    assert "allow a larger error" in err
    assert "Traceback" not in err
    assert not out.exists()


def test_cells_and_the_floor(refined):
    code, single, _, _ = refined("--optimality-gap", "--weight", "0.05")
    assert code == 0
    assert 0.0 <= single["floor"] <= single["objective_after"]
    assert single["duality_gap"] <= 1e-6
    code, text, _, _ = refined("--optimality-gap", "--weight", "0.05", "--cells", 2, "--force", as_json=False)
    assert code == 0
    assert "descent 1" in text
    assert "no function, of any width or depth, has an objective below" in text


def test_cells_in_standardised_units(refined):
    code, told, _, out = refined("--standardise", "--cells", 2, "--weight", "0.05")
    assert code == 0
    assert told["objective_units"] == "standardised"
    assert told["objective_after"] < told["objective_before"]
    assert Certificate.load(out.with_suffix(".certificate.json")).check(ShallowNetwork.load(out))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--standardise", "--target-lipschitz", 1), "leave out --standardise"),
        (("--standardise", "--max-mse", 1), "leave out --standardise"),
        (("--standardise", "--optimality-gap"), "leave out --standardise"),
        (("--target-lipschitz", 1, "--max-mse", 1), "two goals"),
        (("--target-lipschitz", -1), "target_lipschitz"),
        (("--target-lipschitz", "nan"), "target_lipschitz"),
        (("--max-mse", "inf"), "max_mse"),
        (("--max-mse", 1, "--penalty", "l2"), "penalty"),
        (("--max-mse", 1, "--cells", 2), "cells"),
        (("--target-lipschitz", 1, "--optimality-gap"), "optimality_gap"),
        (("--cells", 0), "cells"),
        (("--cells", 2, "--method", "alternating"), "cells"),
        (("--optimality-gap", "--penalty", "l2"), "optimality_gap"),
        (("--target-lipschitz", "steep"), "Usage"),
    ],
)
def test_options_that_do_not_go_together(refined, more, message):
    code, _, err, out = refined(*more)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not out.exists()


class TestTables:
    @pytest.fixture
    def named(self, network, tmp_path):  # noqa: F811
        path = tmp_path / "named.npz"
        network.described(About(inputs=("a", "b"))).save(path)
        return path

    def write(self, tmp_path, samples, order, names, sep=",", decimal="."):
        X, y = samples
        columns = {"a": X[:, 0], "b": X[:, 1], "y": y, "c": y + 1.0}
        lines = [sep.join(names)] if names else []
        rows = zip(*(columns[name].tolist() for name in order))
        lines += [sep.join(repr(v).replace(".", decimal) for v in row) for row in rows]
        path = tmp_path / "other.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def refine(self, run, named, path, tmp_path, *more):  # noqa: F811
        out = tmp_path / "out.npz"
        code, text, err = run("refine", named, "--data", path, "--out", out, "--json", *more)
        return code, json.loads(text) if code == 0 else " ".join(err.split()), out

    def test_reordered_columns_are_matched_by_name(self, run, named, samples, tmp_path):  # noqa: F811
        straight = self.write(tmp_path, samples, "aby", "aby")
        code, one, _ = self.refine(run, named, straight, tmp_path, "--target", "y")
        assert code == 0
        shuffled = self.write(tmp_path, samples, "ybca", "ybca")
        code, two, out = self.refine(run, named, shuffled, tmp_path, "--target", "y", "--drop", "c", "--force")
        assert code == 0
        assert one["mse_before"] == two["mse_before"]
        assert one["lipschitz_upper_after"] == two["lipschitz_upper_after"]
        assert ShallowNetwork.load(out).about.inputs == ("a", "b")

    def test_missing_and_extra_columns_are_named(self, run, named, samples, tmp_path):  # noqa: F811
        path = self.write(tmp_path, samples, "ay", "ay")
        code, err, _ = self.refine(run, named, path, tmp_path, "--target", "y")
        assert code == 2
        assert "has no input 'b', which the model takes" in err
        path = self.write(tmp_path, samples, "abcy", "abcy")
        code, err, _ = self.refine(run, named, path, tmp_path, "--target", "y")
        assert code == 2
        assert "has the columns 'c', which the model does not take: leave them out by --drop" in err

    def test_other_formats(self, run, named, samples, tmp_path):  # noqa: F811
        path = self.write(tmp_path, samples, "bay", "bay", ";", ",")
        code, told, _ = self.refine(run, named, path, tmp_path, "--target", "y", "--sep", ";", "--decimal", ",")
        assert code == 0
        mse = mean_squared_error(ShallowNetwork.load(named), *samples)
        assert told["mse_before"] == pytest.approx(mse, rel=1e-12)
        path = self.write(tmp_path, samples, "aby", None, "\t")
        more = ("--target", "x3", "--sep", "tab", "--force")
        code, told, _ = self.refine(run, named, path, tmp_path, *more, "--no-header", "--encoding", "latin-1")
        assert code == 0
        assert told["mse_before"] == pytest.approx(mse, rel=1e-12)
        code, err, _ = self.refine(run, named, path, tmp_path, *more)
        assert code == 2
        assert "--no-header" in err
