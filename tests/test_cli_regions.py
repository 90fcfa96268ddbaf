"""Regions on the command line: what is certified, how it is told, and every kind of bad input."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from certnet import Ball, Box, Certificate, FeedForward, ShallowNetwork, certify, certify_features, cli
from certnet.networks.about import About
from certnet.proofs.slopes import SlopeIntervals

NAMES = ("age", "bmi", "sugar")


@pytest.fixture
def run(capsys, monkeypatch):
    """Call the command line with arguments; returns exit code, stdout, and stderr in one line."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["certnet", *map(str, arguments)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, " ".join(err.split())

    return call


@pytest.fixture
def plain() -> FeedForward:
    rng = np.random.default_rng(4)
    weights = [rng.standard_normal(shape) for shape in ((7, 3), (6, 7), (1, 6))]
    return FeedForward(weights, [rng.standard_normal(7), rng.standard_normal(6), np.zeros(1)], "relu")


@pytest.fixture
def network(plain) -> FeedForward:
    return plain.described(About(inputs=NAMES))


@pytest.fixture
def model(network, tmp_path) -> Path:
    return network.save(tmp_path / "model.npz")


@pytest.fixture
def unnamed(plain, tmp_path) -> Path:
    return plain.save(tmp_path / "unnamed.npz")


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(5).normal([40.0, 25.0, 5.0], [10.0, 3.0, 0.5], size=(60, 3))


@pytest.fixture
def write(tmp_path):
    """A CSV file of a name; numbers are written exactly."""

    def file(name: str, header: str, *lines: object) -> Path:
        body = [line if isinstance(line, str) else ",".join(map(repr, np.asarray(line).tolist())) for line in lines]
        path = tmp_path / name
        path.write_text("\n".join([header, *body] if header else body) + "\n")
        return path

    return file


@pytest.fixture
def table(write, rows) -> Path:
    return write("d.csv", "age,bmi,sugar,y", *np.column_stack([rows, rows.sum(axis=1)]))


def claimed(run, *arguments: object) -> dict:
    code, out, err = run("certify", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


# ---------------------------------------------------------------------------------------------------- what is certified


def test_a_box_is_certified_and_its_file_is_checked(run, model, network, write, tmp_path):
    low, high = write("l.csv", "age,bmi,sugar", "-1,-inf,0.25"), write("h.csv", "age,bmi,sugar", "1,2,0.25")
    proof = tmp_path / "c.json"
    code, out, _ = run("certify", model, "--box", low, high, "--out", proof)
    assert code == 0
    assert "for inputs within these limits, 1 held, 1 without a limit, and no others" in out
    assert "an input that is held counts with the slope that it would have" in out
    box = Box([-1, -np.inf, 0.25], [1, 2, 0.25])
    certificate = Certificate.load(proof)
    assert certificate.upper == pytest.approx(certify(network, region=box).upper, rel=1e-9)
    assert [end.tolist() for end in certificate.box] == [box.lower.tolist(), box.upper.tolist()]
    code, out, _ = run("check", proof, model)
    assert code == 0
    assert out.startswith("holds")
    for name, low_end, high_end in zip(NAMES, ("-1", "no limit", "0.25"), ("1", "2", "0.25")):
        line = next(line for line in out.splitlines() if name in line)
        assert line.split("│")[2].strip() == low_end
        assert line.split("│")[3].strip() == high_end
    told = json.loads(run("check", proof, model, "--json")[1])
    assert told["box"] == {"lower": [-1.0, None, 0.25], "upper": [1.0, 2.0, 0.25]}


def test_columns_are_matched_by_name_where_the_model_has_names(run, model, write):
    low, high = write("l.csv", "sugar,age,bmi", "3,1,2"), write("h.csv", "bmi,sugar,age", "5,6,4")
    assert claimed(run, model, "--box", low, high)["box"] == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def test_columns_keep_their_order_where_nothing_has_names(run, model, unnamed, write):
    low, high = write("l.csv", "", "1,2,3"), write("h.csv", "", "4,5,6")
    for file in (model, unnamed):
        assert claimed(run, file, "--box", low, high, "--no-header")["box"] == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    code, out, _ = run("certify", unnamed, "--box", low, high, "--no-header")
    assert code == 0
    assert "input 2" in out
    assert "x2" not in out


def test_around_data_is_the_box_of_python(run, model, network, table, rows):
    found = claimed(run, model, "--around-data", table, "--margin", "0.1", "--target", "y")
    box = Box.around(rows, margin=0.1)
    assert found["box"] == [box.lower.tolist(), box.upper.tolist()]
    assert found["upper"] == pytest.approx(certify(network, region=box).upper, rel=1e-9)
    assert found["upper"] <= certify(network).upper * (1.0 + 1e-9)
    without = claimed(run, model, "--around-data", table, "--drop", "y")
    assert without["box"] == [rows.min(axis=0).tolist(), rows.max(axis=0).tolist()]


def test_around_data_of_a_parquet_file(run, model, rows, tmp_path):
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "d.parquet"
    pandas.DataFrame(np.column_stack([rows, rows[:, 0]]), columns=[*NAMES, "y"]).to_parquet(path)
    found = claimed(run, model, "--around-data", path, "--target", "y")
    assert found["box"] == [rows.min(axis=0).tolist(), rows.max(axis=0).tolist()]
    code, _, err = run("certify", model, "--around-data", path, "--drop", "y")
    assert code == 2
    assert "name the column to predict by --target" in err


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_ball_around_a_row_in_a_norm(run, model, network, table, rows, tmp_path, norm):
    proof = tmp_path / "c.json"
    arguments = ("--around", table, "--row", 4, "--target", "y", "--radius", 0.5, "--norm", norm)
    code, out, _ = run("certify", model, *arguments, "--out", proof)
    assert code == 0
    assert "within 0.5 of this point" in out
    certificate = Certificate.load(proof)
    wanted = certify(network, region=Ball(rows[3], 0.5), norm=norm)
    assert certificate.upper == pytest.approx(wanted.upper, rel=1e-9)
    told = json.loads(run("check", proof, model, "--json")[1])
    assert told["ball"] == {"centre": rows[3].tolist(), "radius": 0.5, "norm": norm}


def test_every_output_or_difference_in_a_region(run, write, tmp_path):
    rng = np.random.default_rng(6)
    net = FeedForward([rng.standard_normal((6, 2)), rng.standard_normal((3, 6))], [np.ones(6), np.zeros(3)], "tanh")
    path = net.save(tmp_path / "three.npz")
    low, high = write("l.csv", "a,b", "-1,-1"), write("h.csv", "a,b", "0,1")
    found = claimed(run, path, "--box", low, high, "--each", "differences")
    box = Box([-1, -1], [0, 1])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        one = found[f"{i}-{j}"]
        assert one["upper"] == pytest.approx(certify(net, region=box, output=(i, j)).upper, rel=1e-6)
        assert one["box"] == [[-1.0, -1.0], [0.0, 1.0]]
    assert claimed(run, path, "--box", low, high, "--output", 1)["output"] == [1]


# --------------------------------------------------------------------------------------------------------------- units


def test_limits_in_standard_deviations_of_the_data(run, model, table, rows, write):
    low, high = write("l.csv", "age,bmi,sugar", "-1,-2,-inf"), write("h.csv", "age,bmi,sugar", "1,0,0.5")
    arguments = ("--units", "standardised", "--data", table, "--target", "y")
    found = claimed(run, model, "--box", low, high, *arguments)["box"]
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    low_end, high_end = np.array([-1.0, -2.0]), np.array([1.0, 0.0, 0.5])
    np.testing.assert_allclose(found[0][:2], (mean[:2] + scale[:2] * low_end).tolist(), rtol=1e-12)
    assert found[0][2] is None
    np.testing.assert_allclose(found[1], mean + scale * high_end, rtol=1e-12)
    # rounded outward
    assert found[1][0] > mean[0] + scale[0] * (1.0 - 1e-15)


def test_a_radius_in_standard_deviations_is_a_box_and_says_so(run, model, table, rows):
    arguments = ("--around", table, "--row", 3, "--radius", 0.5, "--data", table, "--target", "y")
    code, _, err = run("certify", model, *arguments, "--units", "standardised")
    assert code == 0
    assert "the region is the box of 0.5 to either side of the point" in err
    found = claimed(run, model, *arguments, "--units", "standardised")["box"]
    reach = 0.5 * rows.std(axis=0)
    np.testing.assert_allclose(found, [rows[2] - reach, rows[2] + reach], rtol=1e-12)
    assert np.all(found[0] <= rows[2] - reach * (1.0 - 1e-12))


def test_a_table_in_other_units_than_the_standardised_model(run, model, table, rows, write):
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    low, high = write("l.csv", ",".join(NAMES), mean - 1.0), write("h.csv", ",".join(NAMES), mean + 2.0)
    found = claimed(run, model, "--box", low, high, "--units", "table", "--data", table, "--target", "y")["box"]
    np.testing.assert_allclose(found, [-1.0 / scale, 2.0 / scale], rtol=1e-10)
    found = claimed(run, model, "--around-data", table, "--target", "y", "--units", "table")["box"]
    standard = (rows - mean) / scale
    np.testing.assert_allclose(found, [standard.min(axis=0), standard.max(axis=0)], rtol=1e-10)
    point = write("x.csv", ",".join(NAMES), mean)
    arguments = ("--around", point, "--radius", 1.5, "--units", "table", "--data", table, "--target", "y")
    found = claimed(run, model, *arguments)["box"]
    np.testing.assert_allclose(found, [-1.5 / scale, 1.5 / scale], rtol=1e-10)


def test_a_constant_column_has_the_deviation_one(run, model, write):
    table = write("d.csv", ",".join(NAMES), "1,7,3", "2,7,3.5")
    low, high = write("l.csv", ",".join(NAMES), "-1,-1,-1"), write("h.csv", ",".join(NAMES), "1,1,1")
    found = claimed(run, model, "--box", low, high, "--units", "standardised", "--data", table)["box"]
    np.testing.assert_allclose(found, [[1.0, 6.0, 3.0], [2.0, 8.0, 3.5]], rtol=1e-12)


# ----------------------------------------------------------------------------------------------------- words of warning


def test_a_region_beyond_the_data_is_told(run, model, table, rows, write):
    names = ",".join(NAMES)
    above = rows.max(axis=0) + np.array([0.0, 100.0, 0.0])
    low, high = write("l.csv", names, rows.min(axis=0)), write("h.csv", names, above)
    code, _, err = run("certify", model, "--box", low, high, "--data", table, "--target", "y")
    assert code == 0
    assert "the region goes beyond the data (bmi: " in err
    assert "age" not in err
    high = write("h.csv", names, rows.max(axis=0))
    code, _, err = run("certify", model, "--box", low, high, "--data", table, "--target", "y")
    assert (code, err) == (0, "")


def test_a_ball_beyond_the_data_is_told(run, model, table, write):
    point = write("x.csv", ",".join(NAMES), "40,25,5000")
    code, _, err = run("certify", model, "--around", point, "--radius", 0.1, "--data", table, "--target", "y")
    assert code == 0
    assert "beyond the data (sugar: 4999.9 to 5000.1" in err


def test_limits_nearer_than_rounding_are_told_and_right(run, model, network, write):
    low = write("l.csv", ",".join(NAMES), [1.0, 2.0, 3.0])
    high = write("h.csv", ",".join(NAMES), [1.0 + 2.0**-51, 2.5, 3.0])
    code, out, err = run("certify", model, "--box", low, high, "--json")
    assert code == 0
    assert "the limits of age are 4.4e-16 apart" in err
    assert "1 such inputs" in err
    wide = certify(network, region=Box([0.99, 2.0, 2.99], [1.01, 2.5, 3.01]))
    assert json.loads(out)["upper"] <= wide.upper * (1.0 + 1e-9)


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        ("age,bmi,sugar\n1,5,1\n", "age,bmi,sugar\n2,4,2\n", "bmi would lie between 5 and 4 (1 such inputs)"),
        ("age,bmi,sugar\n1,nan,1\n", "age,bmi,sugar\n2,4,2\n", "column 'bmi' has no value ('nan'): write inf"),
        ("age,bmi,sugar\n1,,1\n", "age,bmi,sugar\n2,4,2\n", "column 'bmi' has no value"),
        ("age,bmi,sugar\n1,low,1\n", "age,bmi,sugar\n2,4,2\n", "column 'bmi' holds text ('low')"),
        ("age,bmi,sugar\n1,inf,1\n", "age,bmi,sugar\n2,inf,2\n", "bmi would lie between inf and inf"),
        ("age,bmi\n1,1\n", "age,bmi,sugar\n2,4,2\n", "no input 'sugar', which the model takes"),
        (
            "age,BMI,sugar\n1,1,1\n",
            "age,bmi,sugar\n2,4,2\n",
            "no input 'bmi', which the model takes; did you mean 'BMI'?",
        ),
        ("age,bmi,sugar,sex\n1,1,1,1\n", "age,bmi,sugar\n2,4,2\n", "the columns 'sex', which the model does not take"),
        ("age,bmi,sugar\n1,1,1\n2,2,2\n", "age,bmi,sugar\n2,4,2\n", "has 2 rows, one is needed: limits are one row"),
        ("age,bmi,sugar\n1,1\n", "age,bmi,sugar\n2,4,2\n", "2 cells, the header has 3"),
        ("age,bmi,sugar\n", "age,bmi,sugar\n2,4,2\n", "has a header and no rows"),
        ("", "age,bmi,sugar\n2,4,2\n", "is empty"),
        ("1,2,3\n", "age,bmi,sugar\n2,4,2\n", "--no-header"),
    ],
)
def test_bad_limits(run, model, tmp_path, low, high, reason):
    files = [tmp_path / name for name in ("l.csv", "h.csv")]
    for file, text in zip(files, (low, high)):
        file.write_text(text)
    code, out, err = run("certify", model, "--box", *files, "--out", tmp_path / "c.json")
    assert (code, out) == (2, "")
    assert reason in err
    assert not (tmp_path / "c.json").exists()


def test_a_model_without_names_needs_files_that_agree(run, unnamed, write):
    low, high = write("l.csv", "a,b,c", "1,2,3"), write("h.csv", "a,c,b", "4,5,6")
    code, _, err = run("certify", unnamed, "--box", low, high)
    assert code == 2
    assert "name their columns differently" in err
    code, _, err = run("certify", unnamed, "--box", write("l.csv", "a,b", "1,2"), high)
    assert code == 2
    assert "has 2 columns for the inputs (a, b), the model takes 3" in err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--radius", "1"), "--radius needs --around x.csv"),
        (("--around", "d.csv"), "--around needs --radius"),
        (("--margin", "0.1"), "--margin needs --around-data d.csv"),
        (("--row", "1"), "--row needs --around x.csv"),
        (("--data", "d.csv"), "--data needs --box or --around"),
        (("--target", "y"), "give --around-data d.csv"),
        (("--around-data", "d.csv", "--around", "d.csv", "--radius", "1"), "each name a region: give one"),
        (("--around-data", "d.csv", "--target", "y", "--margin", "-0.5"), "--margin must be a finite non-negative"),
        (("--around", "d.csv", "--radius", "nan"), "--radius must be a finite non-negative number"),
        (("--around", "d.csv", "--radius", "-1"), "--radius must be a finite non-negative number"),
        (("--around", "d.csv", "--target", "y", "--radius", "1"), "has 60 rows, one is needed: name one by --row"),
        (("--around", "d.csv", "--target", "y", "--radius", "1", "--row", "61"), "--row 61 is none of them"),
        (("--around-data", "d.csv"), "the columns 'y', which the model does not take: name the column to predict"),
        (("--around-data", "d.csv", "--target", "z"), "no file of the region has the column 'z'"),
        (("--around-data", "absent.csv", "--target", "y"), "absent.csv does not exist"),
        (
            ("--around-data", "d.csv", "--target", "y", "--units", "inches"),
            "'inches' is not one of 'model', 'standardised'",
        ),
        (("--around-data", "d.csv", "--target", "y", "--units", "standardised"), "leave out --units"),
        (("--units", "table"), "--units table is of a region"),
        (("--around", "d.csv", "--radius", "1", "--units", "table"), "needs the table whose mean and deviation"),
        (("--around-data", "d.csv", "--target", "y", "--method", "product"), "a region is for method"),
    ],
)
def test_options_that_do_not_go_together(run, model, table, tmp_path, monkeypatch, options, reason):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("certify", model, *options)
    assert (code, out) == (2, "")
    assert reason in err


def test_categories_are_text_and_advice_follows(run, model, write):
    table = write("d.csv", "age,bmi,sugar", "1,2,high", "1,3,low")
    code, _, err = run("certify", model, "--around-data", table)
    assert code == 2
    assert "column 'sugar' holds text ('high'), numbers are needed: name it as one of categories" in err


def test_a_region_around_a_table_with_categories(run, tmp_path):
    """One input of 0 and 1 for every category, whose names a model may know."""
    rng = np.random.default_rng(4)
    net = ShallowNetwork(rng.standard_normal((5, 3)), rng.standard_normal(5), rng.standard_normal(5), 0.0)
    named = net.described(About(inputs=("age", "sex_f", "sex_m"))).save(tmp_path / "named.npz")
    table = tmp_path / "d.csv"
    table.write_text("sex,age,y\nm,1,2\nf,3,1\nm,2,2\n")
    code, out, err = run("certify", named, "--around-data", table, "--target", "y", "--categorical", "sex", "--json")
    assert code == 0, err
    assert json.loads(out)["box"] == [[1.0, 0.0, 0.0], [3.0, 1.0, 1.0]]
    table.write_text("sex,age,y\nm,1,2\nm,3,1\n")
    code, _, err = run("certify", named, "--around-data", table, "--target", "y", "--categorical", "sex")
    assert code == 2
    assert "has no input 'sex_f'" in err
    code, out, err = run(
        "certify", named, "--around-data", table, "--target", "y", "--categorical", "sex=f,m", "--json"
    )
    assert json.loads(out)["box"] == [[1.0, 0.0, 1.0], [3.0, 0.0, 1.0]]


def test_a_region_of_many_inputs_is_told_in_part(run, write, tmp_path):
    rng = np.random.default_rng(7)
    net = FeedForward([rng.standard_normal((4, 40)), rng.standard_normal((1, 4))], [np.zeros(4), np.zeros(1)], "relu")
    path = net.save(tmp_path / "wide.npz")
    low, high = write("l.csv", "", np.zeros(40)), write("h.csv", "", np.ones(40))
    code, out, _ = run("certify", path, "--box", low, high, "--no-header")
    assert code == 0
    assert "40 inputs in all" in out
    assert "input 23" in out
    assert "input 24" not in out


# ---------------------------------------------------------------------------------------------------- slopes by feature


def test_slopes_by_feature_in_a_region_with_file_and_picture(run, model, network, table, rows, tmp_path):
    pytest.importorskip("matplotlib")
    proof, picture = tmp_path / "s.json", tmp_path / "s.png"
    arguments = ("--around-data", table, "--target", "y", "--margin", 0.1)
    code, out, err = run("certify", model, "--features", *arguments, "--out", proof, "--plot", picture)
    assert (code, err) == (0, "")
    held = SlopeIntervals.load(proof)
    wanted = certify_features(network, region=Box.around(rows, margin=0.1))
    np.testing.assert_allclose(held.upper, wanted.upper, rtol=1e-9)
    assert held.check(network)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    first = wanted.table()[0]
    lines = [line.split("│")[1].strip() for line in out.splitlines() if "│" in line]
    assert lines[:3] == [row.name for row in wanted.table()]
    assert first.verdict in out
    assert "for inputs within these limits, and no others" in out
    code, out, _ = run("check", proof, model)
    assert code == 0
    assert "for inputs within these limits, and no others" in out
    told = json.loads(run("check", proof, model, "--json")[1])
    assert told["box"]["lower"] == held.region.lower.tolist()


def test_slopes_of_a_network_that_rises_and_falls(run, tmp_path):
    net = FeedForward([[[1.0, -1.0], [2.0, 0.0]], [[1.0, 0.5]]], [[0.0, 0.0], [0.0]], "relu")
    path = net.save(tmp_path / "m.npz")
    code, out, _ = run("certify", path, "--features")
    assert code == 0
    rows = {line.split("│")[1].strip(): line for line in out.splitlines() if "│" in line}
    assert "increasing" in rows["input 0"]
    assert "decreasing" in rows["input 1"]
    assert "for all inputs" in out
    told = json.loads(run("certify", path, "--features", "--json")[1])
    np.testing.assert_allclose([told["lower"], told["upper"]], [[[0.0, -1.0]], [[2.0, 0.0]]], rtol=1e-9)


def test_slopes_take_names_from_the_files_of_the_region(run, unnamed, table, tmp_path):
    proof = tmp_path / "s.json"
    code, out, _ = run("certify", unnamed, "--features", "--around-data", table, "--target", "y", "--out", proof)
    assert code == 0
    assert "sugar" in out
    assert "input 2" not in out
    code, out, _ = run("check", proof, unnamed)
    assert code == 0
    assert "│ sugar" in out


def test_slopes_of_several_outputs_or_one_of_them(run, tmp_path):
    rng = np.random.default_rng(8)
    net = FeedForward([rng.standard_normal((4, 2)), rng.standard_normal((2, 4))], [np.ones(4), np.zeros(2)], "tanh")
    path = net.save(tmp_path / "m.npz")
    code, out, _ = run("certify", path, "--features")
    assert code == 0
    assert out.count("output 0") == out.count("output 1") == 2
    told = json.loads(run("certify", path, "--features", "--output", 0, "--output", 1, "--json")[1])
    assert told["output"] == [0, 1]
    code, _, err = run("certify", path, "--features", "--plot", tmp_path / "p.png")
    assert code == 2
    assert "--plot shows one of 2 outputs: choose it by --output" in err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--features", "--exact"), "slopes input by input: leave out --exact"),
        (("--features", "--each", "outputs"), "leave out --each"),
        (("--features", "--solver", "CLARABEL", "--form", "dense"), "leave out --solver, --form"),
        (("--features", "--method", "neuron"), "choose auto, intervals or multipliers"),
        (("--features", "--plot", "p.txt"), "pictures are .png, .svg"),
        (("--plot", "p.png"), "--plot is a picture of --features: give both"),
    ],
)
def test_what_does_not_go_with_slopes_by_feature(run, model, options, reason):
    code, out, err = run("certify", model, *options)
    assert (code, out) == (2, "")
    assert reason in err


def test_an_existing_picture_is_kept(run, model, tmp_path):
    taken = tmp_path / "p.png"
    taken.write_text("precious")
    code, _, err = run("certify", model, "--features", "--plot", taken)
    assert code == 2
    assert "--force" in err
    assert taken.read_text() == "precious"


# ---------------------------------------------------------------------------------------------------------------- exact


def test_exact_in_a_box_and_with_two_processes(run, model, network, write, tmp_path):
    names = ",".join(NAMES)
    low, high = write("l.csv", names, "-0.3,-0.3,-0.3"), write("h.csv", names, "0.3,0.3,0.3")
    proof = tmp_path / "c.json"
    code, out, err = run("certify", model, "--box", low, high, "--exact", "--tol", 1e-4, "--jobs", 2, "--out", proof)
    assert (code, err) == (0, "")
    assert "branch and bound" in out
    claim = Certificate.load(proof)
    assert claim.lower <= claim.upper <= claim.lower * (1.0 + 2e-4)
    assert claim.upper <= certify(network, region=Box([-0.3] * 3, [0.3] * 3)).upper * (1.0 + 1e-9)
    assert run("check", proof, model)[0] == 0
    code, _, err = run("certify", model, "--jobs", 2)
    assert code == 2
    assert "--n-jobs shares out the work of --exact: give both" in err
