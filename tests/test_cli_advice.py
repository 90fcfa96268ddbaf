"""What refusals and reports of the shell say: separators, words in any case, names of inputs, seconds of compiling."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_cli import model, network, run, table  # noqa: F401 - fixtures

from certnet import CertifiedRegressor, certify, refine
from certnet.cli import told
from certnet.data.table import separator_hint
from certnet.errors import InvalidInputError, SolverUnavailableError
from certnet.proofs.slopes import SlopeIntervals


@pytest.fixture
def refined(run, model, table, tmp_path):  # noqa: F811
    def call(*more: object, data: Path = table) -> tuple[int, str, str]:
        out = tmp_path / "refined.npz"
        return run("refine", model, "--data", data, "--target", "y", "--out", out, "--force", *more)

    return call


@pytest.mark.parametrize(("sep", "word"), [(";", "';'"), ("\t", "tab"), ("|", "'|'")])
def test_a_table_with_another_separator_names_it(run, refined, model, table, tmp_path, sep, word):  # noqa: F811
    other = tmp_path / "other.csv"
    other.write_text(table.read_text().replace(",", sep))
    calls = (
        refined(data=other),
        run("certify", model, "--around-data", other, "--target", "y"),
        run("certify", model, "--around", other, "--row", 1, "--radius", 1),
        run("lifted", "train", other, "--target", "y", "--regress", "--out", tmp_path / "l.npz"),
        run("lifted", "train", other, "--objective", "unsupervised", "--out", tmp_path / "l.npz"),
    )
    for code, _, err in calls:
        assert code == 2
        assert "looks as if it were separated by" in err
        assert f"(--sep {word})" in err
    typed = "tab" if sep == "\t" else sep
    assert refined("--sep", typed, "--effort", "quick", data=other)[0] == 0


def test_a_table_with_several_columns_has_its_separator():
    assert separator_hint(["a;b", "c"]) == separator_hint(["a"]) == ""


def test_words_are_taken_in_any_case(run, refined, model):  # noqa: F811
    plain = run("certify", model, "--norm", "linf", "--json")
    for words in (("--norm", "LINF"), ("--norm", "linf", "--method", "Shallow"), ("--norm", "Linf", "--form", "ARROW")):
        code, text, _ = run("certify", model, *words, "--json")
        assert code == 0
        assert json.loads(text)["upper"] == json.loads(plain[1])["upper"]
    told = [json.loads(refined("--effort", effort, "--json")[1]) for effort in ("quick", "QUICK")]
    assert told[0]["effort"] == told[1]["effort"] == "quick"
    assert refined("--keep", "Biases", "--loss", "Huber", "--effort", "quick")[0] == 0


def test_a_misspelt_word_is_told_the_nearest(run, refined, model, network, table):  # noqa: F811
    assert "did you mean 'quick'?" in refined("--effort", "quik")[2]
    assert "did you mean 'neuron'?" in " ".join(run("certify", model, "--method", "nueron")[2].split())
    rows = np.loadtxt(table, delimiter=",", skiprows=1)
    X, y = rows[:, :2], rows[:, 2]
    for call, meant in (
        (lambda: certify(network, method="neurn"), "neuron"),
        (lambda: certify(network, norm="L2"), "l2"),
        (lambda: network.labelled("standardized"), "standardised"),
        (lambda: refine(network, X, y, effort="thorogh"), "thorough"),
        (lambda: refine(network, X, y, loss="hubr"), "huber"),
        (lambda: refine(network, X, y, penalty="lipshitz"), "lipschitz"),
        (lambda: CertifiedRegressor(network, method="jont").fit(X, y), "joint"),
    ):
        with pytest.raises(InvalidInputError, match=f"did you mean '{meant}'"):
            call()
    with pytest.raises(SolverUnavailableError, match="did you mean 'CLARABEL'"):
        certify(network, solver="clarabl")


def test_certnets_own_search_has_the_name_of_its_solver(network):  # noqa: F811
    assert certify(network, solver="CERTNET").upper == certify(network).upper
    assert certify(network, solver="certnet").method == certify(network, solver="auto").method
    assert "CERTNET" in str(certify.__doc__)


def test_a_table_names_the_inputs_whose_slopes_are_asked_for(run, model, table, tmp_path):  # noqa: F811
    out = tmp_path / "slopes.json"
    code, text, _ = run("certify", model, "--features", "--data", table, "--target", "y", "--out", out)
    assert code == 0
    assert "for all inputs" in text
    assert list(SlopeIntervals.load(out).input_names) == ["a", "b"]
    plain = json.loads(run("certify", model, "--features", "--json")[1])
    assert json.loads(out.read_text())["upper"] == plain["upper"]
    assert run("check", out, model)[0] == 0
    code, _, err = run("certify", model, "--features", "--data", table)
    assert code == 2
    assert "3 columns for the inputs" in err
    code, _, err = run("certify", model, "--data", table, "--target", "y")
    assert code == 2
    assert "--data needs --box or --around, or --features" in err


def test_seconds_of_compiling_are_printed_where_they_are_noticed(refined, monkeypatch):
    for seconds, printed in ((0.3, False), (1.5, True)):
        monkeypatch.setattr(told.Told, "_compiling", staticmethod(lambda seconds=seconds: seconds))
        assert ("compiled kernels were made or loaded" in refined("--effort", "quick")[1]) == printed
        assert json.loads(refined("--effort", "quick", "--json")[1])["compile_seconds"] == seconds
