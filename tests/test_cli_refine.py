"""``certnet refine``: any depth, limits, held-out rows, constraints, tables, and options that do not go together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from test_cli import model, network, run, table  # noqa: F401 - fixtures

from certnet import Certificate, FeedForward, ShallowNetwork, certify
from certnet.cli import refine as module
from certnet.cli.words import in_shell_words
from certnet.core.outcome import Status
from certnet.data import TableFormat, load_table
from certnet.errors import CertificateError
from certnet.io import load_model, save_model
from certnet.networks.about import About
from certnet.proofs.slopes import SlopeIntervals
from certnet.refinement import mean_squared_error
from certnet.refinement import refine as library
from certnet.solvers.cvxpy_ import ConicSolver
from certnet.solvers.solved import Solved


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
    code, told, _, out = refined("--target-lipschitz", limit, "--effort", "quick")
    written = ShallowNetwork.load(out)
    assert code == 0
    assert told["lipschitz_upper_after"] <= limit
    assert certify(written).lower <= limit
    assert told["objective_after"] == pytest.approx(told["mse_after"], rel=1e-12)
    assert told["mse_after"] == pytest.approx(mean_squared_error(written, *samples), rel=1e-12)
    assert Certificate.load(out.with_suffix(".certificate.json")).check(written)
    assert told["objective_before"] is None or told["lipschitz_upper_before"] <= limit


def test_max_mse(refined, samples):
    limit = 0.8 * float(np.var(samples[1]))
    code, told, _, out = refined("--max-mse", limit, "--effort", "quick")
    assert code == 0
    assert mean_squared_error(ShallowNetwork.load(out), *samples) <= limit
    assert told["objective_after"] == pytest.approx(told["lipschitz_upper_after"] ** 2, rel=1e-12)


@pytest.mark.parametrize(("units", "said"), [((), ""), (("--standardise",), "in which the target has variance 1")])
def test_a_network_that_became_constant_is_told(refined, samples, units, said):
    limit = 2.0 if units else 2.0 * float(np.var(samples[1]))
    code, told, err, _ = refined("--max-mse", limit, "--effort", "quick", *units)
    assert code == 0, err
    assert told["lipschitz_upper_after"] == 0.0
    assert "the refined network is constant: a smaller --max-mse lets it follow the data" in told["notes"][0]
    assert said in told["notes"][0]
    assert refined("--target-lipschitz", 0, "--effort", "quick", "--force")[1]["notes"] == []


def test_max_mse_out_of_reach(refined):
    code, _, err, out = refined("--max-mse", "0", "--effort", "quick")
    assert code == 3
    assert "--max-mse 0 was not reached: allow a larger error" in err
    assert "Traceback" not in err
    assert not out.exists()


def test_limits_on_slopes_out_of_reach(refined, monkeypatch):
    """The result does not keep them: that is no verdict on a certificate, which would be 1."""
    from certnet.estimators import fitting

    def never(*_):
        raise CertificateError("the refined network does not keep monotonic_cst and slope_limits")

    monkeypatch.setattr(fitting, "proved_slopes", never)
    code, _, err, out = refined("--standardise", "--effort", "quick", "--monotone", "a=increasing")
    assert code == 3
    assert "no network within the limits was found" in err
    assert not out.exists()


def test_a_solver_that_fails_where_a_network_is_written_is_told_by_the_status(refined, monkeypatch):
    def fail(solver, *_, **__):
        return Solved(None, Status.SOLVER_FAILED, "out of luck")

    monkeypatch.setattr(ConicSolver, "solve", fail)
    code, told, err, out = refined("--solver", "clarabel")
    assert (code, told["status"], told["improved"]) == (0, "SOLVER_FAILED", False)
    assert "out of luck" in err
    assert out.exists()


def test_cells_and_the_floor(refined):
    code, single, _, _ = refined("--optimality-gap", "--weight", "0.05", "--cells", 1)
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
        (("--standardise", "--keep", "biases"), "leave out --standardise"),
        (("--standardise", "--checkpoint", "run.npz"), "leave out --standardise"),
        (("--standardise", "--prune"), "leave out --standardise"),
        (("--standardise", "--optimality-gap"), "leave out --standardise"),
        (("--target-lipschitz", 1, "--max-mse", 1), "two goals"),
        (("--target-lipschitz", 1, "--weight", 3), "--weight and --target-lipschitz are two goals"),
        (("--max-mse", 1, "--weight", 0.01), "--weight and --max-mse are two goals"),
        (("--target-lipschitz", -1), "--target-lipschitz must"),
        (("--target-lipschitz", "nan"), "--target-lipschitz must"),
        (("--max-mse", "inf"), "--max-mse must"),
        (("--max-mse", 1, "--penalty", "l2"), "--penalty lipschitz"),
        (("--max-mse", 1, "--cells", 2), "--cells above 1"),
        (("--target-lipschitz", 1, "--optimality-gap"), "--optimality-gap is for a weight"),
        (("--cells", 0), "--cells must be at least 1"),
        (("--cells", 2, "--method", "alternating"), "--cells above 1 needs"),
        (("--optimality-gap", "--penalty", "l2"), "--optimality-gap needs"),
        (("--target-lipschitz", "steep"), "Usage"),
        (("--effort", "huge"), "--effort must be one of"),
        (("--effort", "-3"), "--effort must be a finite positive number"),
        (("--effort", "quick", "--cells", 2), "--cells asks for the papers' programs, and --effort"),
        (("--keep", "biases", "--method", "joint"), "--method asks for the papers' programs, and --keep"),
        (("--checkpoint", "run.npz", "--solver", "auto"), "--solver asks for the papers' programs, and --checkpoint"),
        (("--keep", "weights"), "'weights' is not one of 'biases', 'first-layer'"),
        (("--huber-threshold", 2), "--huber-threshold is for --loss huber"),
        (("--loss", "absolute"), "'absolute' is not one of 'squared', 'huber'"),
        (("--monotone", "a"), "NAME=increasing"),
        (("--monotone", "a=up"), "increasing or decreasing is needed, got 'up'"),
        (("--monotone", "aa=increasing"), "no input 'aa'; did you mean 'a'?"),
        (("--monotone", "y=increasing"), "no input 'y'"),
        (("--monotone", "a=increasing", "--monotone", "a=decreasing"), "twice"),
        (("--monotone", "a=increasing", "--slope-limit", "a=-2:-1"), "leave no slope"),
        (("--slope-limit", "a=1"), "NAME=LOW:HIGH is needed"),
        (("--slope-limit", "a=2:1"), "the first being the lower one"),
        (("--slope-limit", "a=flat:1"), "LOW and HIGH are numbers"),
        (("--slope-limit", "a=1:2"), "excludes 0"),
        (("--sample-weight", "w"), "no column 'w' (--sample-weight)"),
        (("--sample-weight", "y"), "named by --target and by --sample-weight"),
        (("--sample-weight", "a"), "1 columns for the inputs"),
        (("--target", "a"), "--target names 2"),
        (("--validation", "absent.csv"), "absent.csv does not exist"),
        (("--time-limit", 0), "--time-limit must be"),
    ],
)
def test_options_that_do_not_go_together(refined, more, message):
    code, _, err, out = refined(*more)
    assert code == 2
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert not out.exists()


def test_columns_of_categories(run, tmp_path):  # noqa: F811
    """As inputs of 0 and 1; held-out rows need the same ones."""
    rng = np.random.default_rng(6)
    net = ShallowNetwork(rng.standard_normal((5, 3)), rng.standard_normal(5), rng.standard_normal(5), 0.0)
    model_file, data, held = net.save(tmp_path / "m.npz"), tmp_path / "d.csv", tmp_path / "h.csv"
    rows = [(float(x), ("f", "m")[i % 2], float(x * x)) for i, x in enumerate(rng.standard_normal(20))]
    data.write_text("a,sex,y\n" + "".join(f"{a!r},{sex},{y!r}\n" for a, sex, y in rows))
    held.write_text("a,sex,y\n1,f,1\n2,x,4\n")
    words = ("refine", model_file, "--data", data, "--target", "y", "--effort", "quick", "--out", tmp_path / "r.npz")
    code, _, err = run(*words)
    assert code == 2
    assert "2 columns for the inputs" in err
    code, _, err = run(*words, "--categorical", "sex", "--validation", held)
    assert code == 2
    assert "hold other categories, or in other columns: name all of them" in err
    code, out, err = run(*words, "--categorical", "sex=m,f", "--json")
    assert code == 0, err
    X, y, names = load_table(data, "y", form=TableFormat(categorical=("sex=m,f",)))
    assert names == ("a", "sex_m", "sex_f")
    assert json.loads(out)["mse_before"] == pytest.approx(float(np.mean((net.forward(X)[:, 0] - y) ** 2)))


def test_a_negative_weight_is_told_by_file_and_row(refined, tmp_path):
    path = tmp_path / "w.csv"
    path.write_text("a,b,w,y\n1,2,1,3\n2,1,-0.5,2\n")
    code, _, err, _ = refined("--data", path, "--sample-weight", "w")
    assert code == 2
    assert "w.csv, row 2 below the header: column 'w' holds -0.5, and a weight is at least zero" in err


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
        code, text, err = run("refine", named, "--data", path, "--out", out, "--json", "--effort", "quick", *more)
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


QUICK = ("--effort", "quick")


def test_words_of_the_shell():
    for python, shell in (
        (
            'cells above 1 needs penalty="lipschitz", method="joint"',
            "--cells above 1 needs --penalty lipschitz, --method joint",
        ),
        ("the first program takes 3 s: raise time_limit", "the first program takes 3 s: raise --time-limit"),
        ("max_mse=0.5 was not reached", "--max-mse 0.5 was not reached"),
        ("use effort instead", "use --effort instead"),
        ("the weight charges less for it", "the weight charges less for it"),
    ):
        assert in_shell_words(python) == shell


class TestDepth:
    @pytest.fixture
    def deep(self):
        rng = np.random.default_rng(3)
        sizes = ((5, 2), (5, 5), (1, 5))
        return FeedForward([rng.normal(size=size) for size in sizes], [np.zeros(n) for n, _ in sizes], "relu")

    @pytest.mark.parametrize("suffix", [".npz", ".onnx"])
    def test_two_hidden_layers(self, run, deep, table, samples, tmp_path, suffix):  # noqa: F811
        if suffix == ".onnx":
            pytest.importorskip("onnx")
        file, out = save_model(deep, tmp_path / f"deep{suffix}"), tmp_path / f"out{suffix}"
        code, text, _ = run("refine", file, "--data", table, "--target", "y", "--out", out, *QUICK, "--json")
        told = json.loads(text)
        written = load_model(out)
        assert code == 0
        assert isinstance(written, FeedForward)
        assert told["effort"] == "quick"
        assert told["objective_after"] < told["objective_before"]
        assert told["mse_after"] == pytest.approx(mean_squared_error(written, *samples), rel=1e-12)
        assert run("check", out.with_suffix(".certificate.json"), out)[0] == 0

    def test_default_effort_says_what_its_gap_speaks_of(self, run, deep, table, tmp_path):  # noqa: F811
        file, out = deep.save(tmp_path / "deep.npz"), tmp_path / "out.npz"
        code, text, _ = run("refine", file, "--data", table, "--target", "y", "--out", out)
        assert code == 0
        assert "descent finished" in text
        assert "of the last two layers in their cell" in text or "duality gap" not in text

    def test_standardised(self, run, deep, table, tmp_path):  # noqa: F811
        file, out = deep.save(tmp_path / "deep.npz"), tmp_path / "out.npz"
        more = ("--standardise", "--target-lipschitz", "0.8", *QUICK, "--monotone", "a=increasing", "--json")
        code, text, _ = run("refine", file, "--data", table, "--target", "y", "--out", out, *more)
        told = json.loads(text)
        assert code == 0
        assert told["objective_units"] == "standardised"
        assert told["slopes"]["a"][0] >= 0.0
        assert Certificate.load(out.with_suffix(".certificate.json")).check(load_model(out))

    def test_what_a_file_cannot_hold_is_refused_first(self, run, deep, table, tmp_path, monkeypatch):  # noqa: F811
        pytest.importorskip("torch")
        monkeypatch.setattr(module, "_refined", None)
        file, out = deep.save(tmp_path / "deep.npz"), tmp_path / "out.pt"
        code, _, err = run("refine", file, "--data", table, "--target", "y", "--out", out)
        assert code == 2
        assert "a state dict does not tell the activations" in " ".join(err.split())

    def test_programs_are_for_one_hidden_layer(self, run, deep, table, tmp_path):  # noqa: F811
        file = deep.save(tmp_path / "deep.npz")
        more = ("--out", tmp_path / "o.npz", "--cells", 1)
        code, _, err = run("refine", file, "--data", table, "--target", "y", *more)
        assert code == 2
        assert "is not a one-hidden-layer ReLU network" in err


class TestHeldOut:
    @pytest.fixture
    def held_out(self, tmp_path):
        """Rows of another truth than the table's: what fits one does not fit the other."""
        X = np.random.default_rng(5).standard_normal((20, 2))
        path = tmp_path / "held_out.csv"
        rows = np.column_stack([X, 1.0 - X[:, 0]])
        np.savetxt(path, rows, delimiter=",", header="a,b,y", comments="", fmt="%.17g")
        return path, rows

    def test_errors_are_told_and_what_rose_is_said(self, refined, held_out, network):  # noqa: F811
        path, rows = held_out
        code, told, _, out = refined(*QUICK, "--validation", path)
        after = mean_squared_error(ShallowNetwork.load(out), rows[:, :2], rows[:, 2])
        assert code == 0
        assert told["validation"]["mse_before"] == pytest.approx(mean_squared_error(network, rows[:, :2], rows[:, 2]))
        assert told["validation"]["mse_after"] == pytest.approx(after)
        rose = told["validation"]["mse_after"] > told["validation"]["mse_before"]
        assert any("error on held-out rows rose" in note for note in told["notes"]) == rose
        assert not any("CertifiedRegressor" in note for note in told["notes"])

    def test_a_steeper_network_is_said_to_be_one(self, run, table, tmp_path):  # noqa: F811
        flat = ShallowNetwork(0.01 * np.eye(2), np.ones(2), np.ones(2) * 0.01, 0.0).save(tmp_path / "flat.npz")
        more = ("--weight", "1e-4", "--out", tmp_path / "o.npz", *QUICK)
        code, text, err = run("refine", flat, "--data", table, "--target", "y", *more, "--validation", table)
        assert code == 0
        assert "mean squared error on held-out rows" in text
        assert "the certified L rose from" in err
        assert "error on held-out rows rose" not in err


class TestConstraints:
    def test_monotone_and_limited(self, refined):
        code, told, _, out = refined(*QUICK, "--monotone", "a=increasing", "--slope-limit", "b=-0.5:0.25")
        proof = SlopeIntervals.of(ShallowNetwork.load(out))
        assert code == 0
        assert proof.lower[0, 0] >= 0.0
        assert proof.lower[0, 1] >= -0.5
        assert proof.upper[0, 1] <= 0.25
        assert told["slopes"] == {
            "a": [proof.lower[0, 0], proof.upper[0, 0]],
            "b": [proof.lower[0, 1], proof.upper[0, 1]],
        }

    def test_the_proof_is_told(self, refined):
        code, text, _, _ = refined(*QUICK, "--monotone", "b=decreasing", as_json=False)
        assert code == 0
        assert "the slope along 'b' is proved to lie between" in text

    def test_nothing_is_written_that_breaks_a_limit(self, refined, monkeypatch):
        def ended(start, *args, **options):
            return replace(library(start, *args, **options), objective_after=np.inf)

        monkeypatch.setattr("certnet.refinement.refine", ended)
        code, _, err, out = refined(*QUICK, "--slope-limit", "a=0:1e-6")
        assert code == 3
        assert "no network within the limits was found: nothing was written" in " ".join(err.split())
        assert not out.exists()

    def test_what_is_kept_stays(self, refined, network):  # noqa: F811
        code, _, _, out = refined(*QUICK, "--keep", "biases")
        written = ShallowNetwork.load(out)
        assert code == 0
        assert (written.b == network.b).all()
        assert written.c == network.c
        assert (written.W != network.W).any()

    def test_units_that_move_nothing_are_dropped(self, run, table, tmp_path):  # noqa: F811
        W = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        file = ShallowNetwork(W, np.zeros(3), np.array([0.5, 0.5, 0.0]), 0.0).save(tmp_path / "idle.npz")
        more = ("--out", tmp_path / "o.npz", "--prune", "--keep", "first-layer", *QUICK, "--json")
        code, text, _ = run("refine", file, "--data", table, "--target", "y", *more)
        told = json.loads(text)
        assert code == 0
        assert told["widths"][1] < 3
        assert ShallowNetwork.load(tmp_path / "o.npz").n_hidden == told["widths"][1]


def test_a_checkpoint_is_gone_on_from_and_refused_to_another_run(refined, tmp_path):
    file = tmp_path / "run.npz"
    code, one, _, _ = refined(*QUICK, "--checkpoint", file)
    assert code == 0
    assert file.exists()
    code, two, _, _ = refined(*QUICK, "--checkpoint", file, "--force")
    assert code == 0
    assert two["objective_after"] == one["objective_after"]
    code, _, err, _ = refined(*QUICK, "--checkpoint", file, "--force", "--weight", 0.5)
    assert code == 2
    assert "Traceback" not in err


class TestWeights:
    def test_a_weight_of_two_is_a_row_twice(self, run, model, table, tmp_path):  # noqa: F811
        rows = np.loadtxt(table, delimiter=",", skiprows=1)
        weights = np.arange(len(rows)) % 3
        counted, repeated = tmp_path / "counted.csv", tmp_path / "repeated.csv"
        np.savetxt(counted, np.column_stack([rows, weights]), delimiter=",", header="a,b,y,n", comments="", fmt="%.17g")
        np.savetxt(repeated, rows.repeat(weights, axis=0), delimiter=",", header="a,b,y", comments="", fmt="%.17g")
        told = []
        for path, more in ((counted, ("--sample-weight", "n")), (repeated, ())):
            out = tmp_path / f"{path.stem}.npz"
            code, text, _ = run("refine", model, "--data", path, "--target", "y", "--out", out, *QUICK, *more, "--json")
            assert code == 0
            told.append(json.loads(text))
        assert told[0]["mse_before"] == pytest.approx(told[1]["mse_before"], rel=1e-12)
        assert told[0]["objective_after"] == pytest.approx(told[1]["objective_after"], rel=1e-2)


class TestParquet:
    @pytest.fixture
    def parquet(self, samples, tmp_path):
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        X, y = samples
        path = tmp_path / "data.parquet"
        columns = {"y": y, "b": X[:, 1], "a": X[:, 0], "w": np.ones(len(y)), "name": ["x"] * len(y)}
        parquet.write_table(pyarrow.table(columns), path)
        return path

    def test_the_same_as_from_csv(self, run, network, table, parquet, tmp_path):  # noqa: F811
        file, out = network.described(About(inputs=("a", "b"))).save(tmp_path / "named.npz"), tmp_path / "o.npz"
        more = ("--target", "y", "--out", out, "--monotone", "a=increasing", "--json", "--force", *QUICK)
        code, one, _ = run("refine", file, "--data", table, *more)
        assert code == 0
        code, two, _ = run("refine", file, "--data", parquet, "--drop", "name", "--drop", "w", *more)
        assert code == 0
        for name in ("objective_before", "objective_after", "mse_after", "slopes"):
            assert json.loads(one)[name] == json.loads(two)[name]
        code, three, _ = run("refine", file, "--data", parquet, "--drop", "name", "--sample-weight", "w", *more)
        assert code == 0
        assert json.loads(three)["mse_before"] == pytest.approx(json.loads(one)["mse_before"], rel=1e-12)

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ((), "4 columns for the inputs ('b', 'a', 'w', 'name'), the model takes 2: leave columns out by --drop"),
            (
                ("--drop", "a", "--drop", "b"),
                "real numbers are needed; encode it as numbers, or leave it out by --drop",
            ),
            (
                ("--drop", "b", "--drop", "name", "--sep", ";"),
                "--no-header and --categorical are for CSV",
            ),
        ],
    )
    def test_bad_input(self, run, model, parquet, tmp_path, more, message):  # noqa: F811
        out = tmp_path / "o.npz"
        code, _, err = run("refine", model, "--data", parquet, "--target", "y", "--out", out, *more)
        assert code == 2
        assert message in " ".join(err.split())
        assert not out.exists()

    def test_a_damaged_file(self, run, model, parquet, tmp_path):  # noqa: F811
        parquet.write_bytes(parquet.read_bytes()[:100])
        code, _, err = run("refine", model, "--data", parquet, "--target", "y", "--out", tmp_path / "o.npz")
        assert code == 2
        assert "is not a readable Parquet file" in " ".join(err.split())


def test_several_outputs(run, table, samples, tmp_path):  # noqa: F811
    rng = np.random.default_rng(0)
    both = ShallowNetwork(rng.normal(size=(4, 1)), np.zeros(4), rng.normal(size=(2, 4)), np.zeros(2))
    file, out = both.save(tmp_path / "both.npz"), tmp_path / "o.npz"
    more = ("--target", "y", "--target", "b", "--out", out, *QUICK, "--json")
    code, text, _ = run("refine", file, "--data", table, *more)
    X, y = samples
    assert code == 0
    error = mean_squared_error(load_model(out), X[:, :1], np.column_stack([y, X[:, 1]]))
    assert json.loads(text)["mse_after"] == pytest.approx(error, rel=1e-12)


def test_a_robust_loss(refined):
    code, told, _, _ = refined(*QUICK, "--loss", "huber", "--huber-threshold", 0.5)
    assert code == 0
    assert told["objective_after"] < told["objective_before"]
