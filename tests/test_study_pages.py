"""Tables, checks, pages and pictures: from rows made up for the purpose, whose figures are known."""

from __future__ import annotations

import csv
import importlib.util
import io
from statistics import fmean
from typing import Any

import pytest
from studies import TINY, tiny_study

from certnet.core.errors import MissingDependencyError
from certnet.study import csv_text, load_study, write_page
from certnet.study.kinds import ReportTable
from certnet.study.kinds.refinement import objectives, robustness
from certnet.study.kinds.refinement.evaluation import median_error
from certnet.study.kinds.refinement.objectives import improvement
from certnet.study.kinds.refinement.rises import what_rose
from certnet.study.page import grid, markdown
from certnet.study.parquet_ import parquet_bytes
from certnet.study.tables import columns_of, flat

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed (certnet[plot])"
)


def made_up(trial: int, start: str, method: str, objective: float, **other: Any) -> dict[str, Any]:
    penalty = "l2" if start == "sgd" else "lipschitz"
    return {
        "task": f"servo/trial {trial}/{start}/{method}".rstrip("/"),
        "status": "done",
        "reason": "",
        "seconds": 1.0,
        "versions": {"certnet": "x"},
        "data": "servo",
        "trial": trial,
        "weight": 0.001,
        "start": start,
        "method": method,
        "penalty": penalty,
        "objective": objective,
        "objective_l2": objective,
        "objective_lipschitz": objective,
        "mse": 0.5 * objective,
        "mse_test": objective,
        "lower": 1.0,
        "upper": 2.0,
        "adversarial_mse": {"0": objective, "0.1": 2.0 * objective, "0.5": 4.0 * objective},
        "certified_mse": {"0": objective, "0.1": 3.0 * objective, "0.5": 9.0 * objective},
        "method_seconds": 1.0,
    } | other


def trial_rows(trial: int, start: float, **objectives_of: float) -> list[dict[str, Any]]:
    seconds = {"C_lip": 5.0, "joint": 1.0}
    rows = [made_up(trial, "admm", "", start)]
    for name, value in objectives_of.items():
        rows.append(made_up(trial, "admm", name.replace("_", "-"), value, method_seconds=seconds.get(name, 1.0)))
    return rows


ROWS = [
    *trial_rows(0, 1.0, C_lip=0.9, joint=0.8, beyond=0.7, samp_lip=1.5),
    *trial_rows(1, 2.0, C_lip=1.0, joint=0.9, beyond=0.9, samp_lip=3.0),
]


def test_improvements_of_trials_and_of_objectives():
    """Y's Min, Max and Avg are not those of the trials' improvements: see the module's docstring."""
    assert improvement(2.0, 1.0) == 50.0
    assert improvement(0.0, 1.0) == 0.0
    one = next(s for s in objectives.summaries(ROWS) if s.method == "C-lip")
    assert one.improvements == pytest.approx((10.0, 50.0))
    assert one.of_least == pytest.approx(10.0)
    assert one.of_largest == pytest.approx(50.0)
    assert one.of_mean == pytest.approx(100.0 * (1.0 - 1.9 / 3.0))
    assert one.seconds == 5.0


def test_the_published_averages_are_no_averages_of_trials():
    """A mean lies between the least and the largest; the paper's do not, so its columns are of something else."""
    spec = load_study("yin-objectives").spec
    assert isinstance(spec, objectives.ObjectivesSpec)
    servo = spec.published["samp-l2"]["servo"]
    assert not min(servo.min, servo.max) <= servo.avg <= max(servo.min, servo.max)
    assert len([1 for rows in spec.published.values() for _ in rows]) == 20


def checks_of(rows: list[dict[str, Any]]) -> dict[str, str]:
    report = objectives.report(load_study("yin-objectives"), rows)
    return {check.statement: check.verdict for check in report.checks}


def test_checks_that_hold_and_that_do_not():
    said = checks_of(ROWS)
    assert said["joint is at most C-lip in every trial"] == "holds in all 2 cases"
    assert said["joint takes less time than C-lip, on average"] == "holds in all 1 cases"
    assert said["samp-lip is worse than C-lip, on average"] == "holds in all 1 cases"
    assert said["C-l2 is never worse than its start"] == "nothing to look at yet"
    worse = [*ROWS, *trial_rows(2, 1.0, C_lip=1.1, joint=1.2)]
    said = checks_of(worse)
    assert said["C-lip is never worse than its start"] == "does not hold in 1 of 3 cases"
    assert said["joint is at most C-lip in every trial"] == "does not hold in 1 of 3 cases"
    failed = [row | {"status": "failed", "reason": "no"} for row in worse]
    assert set(checks_of(failed).values()) == {"nothing to look at yet"}


def test_the_table_stands_beside_the_published_numbers_and_says_how_they_differ():
    report = objectives.report(load_study("yin-objectives"), ROWS)
    head, *body = report.tables[0].rows
    row = dict(zip(head, next(line for line in body if line[1] == "C-lip")))
    assert (row["data"], row["trials"], row["of avg"], row["avg"]) == ("servo", "2", "+36.67 %", "+5.92 %")
    note = next(note for note in report.notes if note.startswith("**C-lip over admm on servo**"))
    assert "+36.67 % here, +5.92 % published (30.7 points more)" in note
    assert "from 1.5 to 0.95; beyond reaches 0.8" in note
    assert "Why they differ" in report.notes[-1]


def test_columns_are_explained_below_the_table():
    from certnet.study.page import markdown

    study = load_study("yin-objectives")
    text = markdown(study, ROWS, 400, objectives.report(study, ROWS), [])
    improvements, means = (text.split(f"## {title}")[1].split("## ")[0] for title in ("Improvement", "Means"))
    assert all(f"`{name}`" in improvements for name in ("of min", "of max", "of avg", "least"))
    assert "`J l2` is `MSE + λ (‖W‖² + ‖b‖² + ‖V‖²)`" in means


def robust(rows: list[dict[str, Any]]) -> Any:
    return robustness.report(load_study("yin-robustness"), rows)


def test_the_robust_ranking_is_by_the_median_over_radii():
    rows = [
        made_up(0, "sgd", "", 1.0),
        made_up(0, "sgd", "C-lip", 1.0, adversarial_mse={"0": 1.0, "0.1": 1.5, "0.5": 9.0}),
        made_up(0, "sgd", "joint", 1.0, adversarial_mse={"0": 0.1, "0.1": 1.6, "0.5": 1.7}),
    ]
    assert median_error(rows[:1]) == 2.0
    report = robust(rows)
    head, line = report.tables[0].rows
    assert dict(zip(head, line)) == {
        "data": "servo",
        "start": "sgd",
        "alone": "2",
        "C-lip": "1.5",
        "joint": "1.6",
        "least": "sgd+C-lip",
    }
    assert "both in 1: servo from sgd" in report.notes[-1]


def test_a_start_that_no_method_beats_is_said_to_be_so():
    rows = [made_up(0, "sgd", "", 1.0), made_up(0, "sgd", "joint", 2.0)]
    notes = robust(rows).notes
    assert "**servo, from sgd**: no method's median is below the start's." in notes
    assert not any("0.0 %" in note for note in notes)
    better = robust([*rows, made_up(0, "sgd", "C-lip", 0.5)]).notes
    assert "**servo, from sgd**: sgd+C-lip has the least median, 50.0 % below the start's." in better


def test_a_lead_counts_among_the_methods_that_the_paper_compares():
    rows = [made_up(0, "sgd", name, error) for name, error in (("", 1.0), ("joint", 0.3), ("C-lip", 0.5))]
    said = "Among ADMM, C-lip and the start, the paper finds C-lip ahead in 1 of the 1 cases here, we in "
    assert said + "1, both in 1: servo from sgd." in robust([*rows, made_up(0, "sgd", "ADMM", 0.7)]).notes[-1]
    assert said + "0, both in 0: none." in robust([*rows, made_up(0, "sgd", "ADMM", 0.4)]).notes[-1]
    assert "we in 0" in robust([made_up(0, "sgd", "joint", 0.3)]).notes[-1]  # the others' rows failed


def test_a_certificate_below_an_attack_is_found_again_in_the_rows():
    assert robust(ROWS).checks[0].violations == ()
    wrong = made_up(0, "sgd", "joint", 1.0, status="failed", certified_mse={"0": 1.0, "0.1": 1.9, "0.5": 9.0})
    (check,) = robust([*ROWS, wrong]).checks
    assert check.violations == ("servo/trial 0/sgd/joint, radius 0.1: certified 1.9 < attacked 2",)
    assert check.required


def test_columns_have_dotted_names_and_all_digits():
    rows = [{"a": {"b": 0.1 + 0.2, "c": {"0.5": 1}}, "d": [1, "x"]}, {"d": [], "e": None, "f": 'q,\n"'}]
    assert flat(rows[0]) == {"a.b": 0.1 + 0.2, "a.c.0.5": 1, "d": "1; x"}
    assert columns_of(rows)["a.b"] == [0.1 + 0.2, None]
    read = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert float(read[0]["a.b"]) == 0.1 + 0.2
    assert read[1]["f"] == 'q,\n"'
    assert read[1]["a.c.0.5"] == ""


def test_parquet_has_the_columns_of_the_csv(monkeypatch):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (certnet[parquet])")
    import pyarrow.parquet

    mixed = [{"a": 1, "b": True, "c": 1, "d": "x", "e": None}, {"a": 2, "b": False, "c": 0.5, "d": 3}]
    table = pyarrow.parquet.read_table(io.BytesIO(parquet_bytes(mixed)))
    assert table.to_pydict() == {"a": [1, 2], "b": [True, False], "c": [1.0, 0.5], "d": ["x", "3"], "e": [None, None]}
    assert [str(field.type) for field in table.schema] == ["int64", "bool", "double", "string", "bool"]
    monkeypatch.setattr("certnet.study.parquet_.can_write", lambda: False)
    with pytest.raises(MissingDependencyError, match=r"certnet\[parquet\]"):
        parquet_bytes(mixed)


def test_a_grid_is_markdown_and_aligned():
    text = grid(ReportTable("t", (("a", "b|c"), ("long cell", "x"))))
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0] == r"| a         | b\|c |"
    assert set(lines[1]) == {"|", "-", " "}


@needs_matplotlib
def test_pages_have_tables_choices_checks_and_pictures(tmp_path):
    for name, rows in (
        ("yin-objectives", ROWS),
        ("yin-robustness", [made_up(t, s, m, 1.0) for t in (0, 1) for s in ("sgd", "admm") for m in ("", "joint")]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        rows = [*rows, made_up(5, "sgd", "", 1.0, status="failed", reason="no luck", task="the one")]
        study = load_study(name)
        page, *drawn = write_page(study, rows, 400, folder)
        text = page.read_text()
        for part in ("## What was run", "## Choices", "## Checks", "## Pictures", "## Failures", "the one: no luck"):
            assert part in text
        assert all(choice in text for choice in study.spec.choices)
        assert {path.suffix for path in drawn} == {".png", ".svg"}
        assert all(path.stat().st_size > 1000 for path in drawn)
        for path in drawn:
            if path.suffix == ".svg":
                assert f"(pictures/{path.name})" in text
        write_page(study, rows, 400, folder)  # again, over what is there


@needs_matplotlib
def test_the_picture_of_improvements_shows_every_trial_and_the_mean():
    from certnet.core.errors import InvalidInputError
    from certnet.plot.figures import COLOURS
    from certnet.study.kinds.refinement.pictures import ImprovementDisplay

    values = {"joint": (1.0, 3.0), "samp": (-90.0, -50.0)}
    display = ImprovementDisplay.from_improvements(values, title="servo")
    lines = display.ax_.get_lines()
    assert list(lines[0].get_xdata()) == [1.0, 3.0]
    assert list(lines[1].get_xdata()) == [fmean(values["joint"])]
    assert [line.get_color() for line in lines[:4:2]] == list(COLOURS[:2])
    assert display.ax_.get_xscale() == "symlog"
    with pytest.raises(InvalidInputError, match="without a trial"):
        ImprovementDisplay({"joint": ()})


def test_several_weights_are_told_apart(tmp_path):
    study = tiny_study(tmp_path, TINY.replace("weights = [0.01]", "weights = [0.01, 0.1]"))
    rows = [row | {"weight": weight} for weight in (0.01, 0.1) for row in ROWS]
    rows = [row for row in rows if row["method"] in ("", "joint")]
    body = objectives.report(study, rows).tables[0].rows[1:]
    assert [line[0] for line in body] == ["servo, weight 0.01", "servo, weight 0.1"]
    tasks = {task.name for task in objectives.KIND.tasks(study)}
    assert "mine/trial 0/weight 0.1/mlp/joint" in tasks


# ---------------------------------------------------------------------------------------------------------- what rose


def overfitted(trial: int) -> list[dict[str, Any]]:
    """A table on which the objective fell by a fifth while test error and L rose."""
    before = made_up(trial, "sgd", "", 1.0, mse=0.8, mse_test=0.506, upper=1.36)
    after = made_up(trial, "sgd", "joint", 0.8, mse=0.5, mse_test=0.603, upper=1.87)
    return [before, after]


def test_a_page_shows_test_error_and_l_beside_the_objective_and_says_that_they_rose(tmp_path):
    study = tiny_study(tmp_path, TINY.replace("[starts.mlp]", "[starts.sgd]"))
    report = objectives.report(study, [*overfitted(0), *overfitted(1)])
    head, line = report.tables[0].rows
    cells = dict(zip(head, line))
    assert cells["mean"] == "+20.00 %"
    assert (cells["test error"], cells["L at most"]) == ("0.506 → 0.603", "1.36 → 1.87")
    test, steep = map(str, report.warnings)
    assert test.startswith("servo: joint over sgd: the test error rose from 0.506 to 0.603 (mean over 2 trials); ")
    assert "too closely: try a larger weight" in test
    assert "the certified L rose from 1.361 to 1.871" in steep


def test_a_page_lists_what_rose_below_each_advice(tmp_path):
    study = tiny_study(tmp_path, TINY.replace("[starts.mlp]", "[starts.sgd]"))
    flat = {"mse": 0.9, "upper": 0.5}
    rows = [*overfitted(0), *(row | {"data": "solar"} for row in overfitted(0))]
    rows += [row | {"data": "wine"} | (flat if row["method"] else {}) for row in overfitted(1)]
    text = markdown(study, rows, 6, objectives.report(study, rows), [])
    section = text.split("## What rose\n\n")[1].split("\n\n## ")[0]
    heads, lists = section.split("\n\n")[::2], section.split("\n\n")[1::2]
    assert [head.split(";")[0] for head in heads] == [
        "The test error rose",
        "The certified L rose",
        "The test error rose",
    ]
    assert heads[0].endswith('or choose it on validation data (kind = "validated").')
    assert "too flat: try a smaller weight" in heads[2]
    assert lists == [
        "- servo: joint over sgd 0.506 → 0.603 (one trial)\n- solar: joint over sgd 0.506 → 0.603 (one trial)",
        "- servo: joint over sgd 1.361 → 1.871 (one trial)\n- solar: joint over sgd 1.361 → 1.871 (one trial)",
        "- wine: joint over sgd 0.506 → 0.603 (one trial)",
    ]


def test_what_rose_in_the_other_kinds():
    rows = overfitted(0)
    flat = [rows[0], rows[1] | {"mse": 0.9, "upper": 0.5}]

    def said(rows: list[dict[str, Any]], **which: bool) -> list[str]:
        return [str(one) for one in what_rose(rows, **which)]

    first = said(flat, by_weight=True, several=True)[0]
    assert "the training error rose as well, so the network was made too flat: try a smaller weight" in first
    assert first.startswith("servo, weight 0.001: joint over sgd: ")
    same = [rows[0], rows[1] | {"mse": 0.8, "upper": 0.5}]
    assert "does not tell which weight is better: choose it on" in said(same, by_weight=True, several=False)[0]
    other = [rows[0], rows[1] | {"weight": 0.1}]  # chosen by each for itself
    assert what_rose(other, by_weight=True, several=False) == ()
    assert "the weight was chosen on validation data" in said(other, by_weight=False, several=False)[0]
    better = [rows[0], rows[1] | {"mse_test": 0.4, "upper": 1.2}]
    assert what_rose(better, by_weight=True, several=False) == ()
    slight = [rows[0], rows[1] | {"mse_test": 0.5064, "upper": 1.2}]
    assert what_rose(slight, by_weight=True, several=False) == ()
    assert what_rose([rows[1]], by_weight=True, several=False) == ()  # the start failed
    study = load_study("yin-robustness", quick=True)
    assert len(robustness.report(study, rows).warnings) == 2
