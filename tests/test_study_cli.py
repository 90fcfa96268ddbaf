"""``certnet study``: as a user types it."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
import warnings
from pathlib import Path

import pytest
from studies import TINY, table, write_study

from certnet import cli
from certnet.study import Store, load_study
from certnet.study.kinds.lifted import images
from certnet.study.load import kind_of
from certnet.study.packages import missing_packages


@pytest.fixture
def run(capsys, monkeypatch):
    """Call the command line with arguments; returns exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["certnet", "study", *map(str, arguments)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return call


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    write_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_whole_way(run, here):
    """List, run the reduced version, look, collect, and go on."""
    code, out, _ = run("list")
    assert code == 0
    assert "yin-objectives" in out
    assert json.loads(run("list", "--json")[1])["yin-robustness"]["kind"] == "robustness"
    code, out, err = run("run", "tiny.toml", "--quick")
    assert code == 0
    assert "joint is never worse than its start: holds in all 1 cases" in out
    assert "3 of 3 rows in out/tiny-quick" in out
    assert "3 of 3 done" in err
    code, out, _ = run("status", "tiny.toml", "--quick", "--json")
    assert {name: json.loads(out)[name] for name in ("total", "done", "failed", "running", "left")} == {
        "total": 3,
        "done": 3,
        "failed": 0,
        "running": 0,
        "left": 0,
    }
    code, out, _ = run("collect", "tiny.toml", "--quick", "--no-parquet")
    assert code == 0
    with (here / "out/tiny-quick/table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == ["mine/trial 0/mlp", "mine/trial 0/mlp/C-l2", "mine/trial 0/mlp/joint"]
    assert all(float(row["lower"]) <= float(row["upper"]) for row in rows)
    assert run("resume", "tiny.toml", "--quick")[0] == 0


def test_plot_writes_the_page(run, here):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (certnet[plot])")
    run("run", "tiny.toml", "--quick")
    code, out, _ = run("plot", "tiny.toml", "--quick")
    assert code == 0
    assert "page.md and 2 pictures" in out
    assert "reduced by `[quick]`" in (here / "out/tiny-quick/page.md").read_text()


def test_a_failed_row_is_told_and_ends_with_1(run, here):
    study = load_study("tiny.toml")
    store = Store.create("out/tiny", study)
    for task in kind_of(study).tasks(study):
        row = {"task": task.name, "status": "failed", "reason": "no luck", "seconds": 0.0}
        store.write_row(task.digest, row)
    code, out, _ = run("run", "tiny.toml")
    assert code == 1
    assert "failed: mine/trial 0/mlp: no luck" in out
    assert "`certnet study resume tiny.toml --retry-failed` tries the failed tasks again" in out
    code, out, _ = run("status", "tiny.toml")
    assert code == 0
    assert "6 of 6 done, 6 failed, 0 running" in out


def test_a_required_check_that_does_not_hold_ends_with_1(run, here, monkeypatch):
    from certnet.study.kinds import KINDS, Check, Kind, Report

    kind = KINDS["objectives"]
    report = Report((), (Check("up is up", 1, ("down",)),))
    fake = Kind(kind.name, kind.model, lambda study: [], kind.execute, lambda *_: report, kind.pictures)
    monkeypatch.setitem(KINDS, "objectives", fake)
    code, out, _ = run("run", "tiny.toml")
    assert code == 1
    assert "up is up: does not hold in 1 of 1 cases" in out


def test_checks_without_a_case_are_not_printed(run, here, monkeypatch):
    from certnet.study.kinds import KINDS, Check, Kind, Report, ReportTable

    kind = KINDS["objectives"]
    table = ReportTable("Numbers", (("a",), ("1",)), "`a` is a number.")
    report = Report((table,), (Check("seen", 2), Check("not seen", 0)))
    fake = Kind(kind.name, kind.model, lambda study: [], kind.execute, lambda *_: report, kind.pictures)
    monkeypatch.setitem(KINDS, "objectives", fake)
    code, out, _ = run("run", "tiny.toml", "--quick", "--out", "a b")
    assert code == 0
    assert "seen: holds in all 2 cases" in out
    assert "nothing to look at yet" not in out
    assert "`a` is a number." in out
    assert "`certnet study plot tiny.toml --quick --out 'a b'` writes the page" in out


def test_help_loses_no_brackets():
    """Rich takes ``[word]`` for markup and prints nothing."""
    from rich.markup import render
    from typer.main import get_command

    from certnet.cli.study import study_app

    commands = get_command(study_app).commands
    texts = [command.help for command in commands.values()]
    texts += [option.help for command in commands.values() for option in command.params if option.help]
    assert len(texts) > 2 * len(commands)
    for text in texts:
        assert render(text).plain == text.replace("\\[", "["), text


def test_help_names_the_table_of_the_reduced_version(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert "declares in [quick]." in run("run", "--help")[1]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["run", "nothing.toml"], "neither a built-in study"),
        (["status", "tiny.toml"], "out/tiny holds no study: run `certnet study run tiny.toml` first, or"),
        (["status", "./tiny.toml", "--quick"], "run `certnet study run ./tiny.toml --quick` first, or name its --out"),
        (["plot", "tiny.toml", "--out", "my out"], "run `certnet study run tiny.toml --out 'my out'` first\n"),
        (["resume", "tiny.toml"], "holds no study"),
        (["run", "tiny.toml", "--shard", "5/2"], "i goes from 1 to n"),
        (["run", "tiny.toml", "--backend", "slurm"], "'slurm' is not one of 'loky', 'dask'"),
        (["run", "tiny.toml", "--backend", "dask"], "needs a scheduler, and --scheduler is missing"),
        (
            ["run", "tiny.toml", "--n-jobs", "-5"],
            "--n-jobs must be a number of processes from 1, or -1 for one per core, got -5",
        ),
        (["run", "tiny.toml", "--timeout", "nan"], "--timeout, in seconds) must be a finite positive number, got nan"),
        (["run", "bad.toml"], "line 3: hiden: unknown key"),
    ],
)
def test_bad_input_ends_with_2(run, here, words, match):
    (here / "bad.toml").write_text(TINY.replace("hidden", "hiden"))
    code, _, err = run(*words)
    assert code == 2
    assert match in err
    assert not (here / "out").exists()


def test_a_page_that_cannot_be_written_ends_with_2(run, here, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (certnet[plot])")
    run("run", "tiny.toml", "--quick")
    (here / "out/tiny-quick/pictures").touch()  # as a folder that is read-only, which root may write all the same
    code, _, err = run("plot", "tiny.toml", "--quick")
    assert code == 2
    assert "cannot make the folder out/tiny-quick/pictures: File exists" in err


def test_a_damaged_row_is_named_and_computed_again(run, here):
    run("run", "tiny.toml", "--quick")
    store = Store.open("out/tiny-quick", load_study("tiny.toml", quick=True))
    path = store.row_path(kind_of(store.study).tasks(store.study)[0].digest)
    path.write_text("{}")
    for command, *more in (("status",), ("collect", "--no-parquet")):
        code, out, err = run(command, "tiny.toml", "--quick", *more)
        assert code == 0, command
        assert f"{path.name} is no row of a study (it lacks task, status, reason, seconds): remove it" in err
        assert "it is left out here, and `certnet study run` computes it again" in err
        assert "2 of 3" in out
    code, out, err = run("run", "tiny.toml", "--quick")
    assert code == 0
    assert f"{path.name} is damaged: mine/trial 0/mlp is run again" in err
    assert "3 of 3 rows" in out


def test_more_trials_go_on_in_the_same_folder(run, here):
    run("run", "tiny.toml", "--quick", "--out", "o")
    (here / "tiny.toml").write_text(TINY.replace("[quick]\ntrials = 1", "[quick]\ntrials = 2"))
    code, out, err = run("run", "tiny.toml", "--quick", "--out", "o")
    assert code == 0
    assert "(different: trials): 3 of its 6 rows are there and are used" in err
    assert "6 of 6 rows in o" in out


def test_keys_from_the_shell(run, here):
    """A key beside the file changes the study as in it, and what is typed next has it too."""
    code, out, _ = run(
        "run", "tiny.toml", "--quick", "--set", "trials=2", "--set", "methods.joint.cells=2", "--out", "o"
    )
    assert code == 0
    assert "6 of 6 rows in o; `certnet study plot tiny.toml --quick --set trials=2 --set methods.joint.cells=2" in out
    said = json.loads((here / "o/study.json").read_text())
    assert said["overrides"] == ["trials=2", "methods.joint.cells=2"]
    assert said["settings"]["methods"]["joint"]["cells"] == 2
    code, out, err = run("status", "tiny.toml", "--quick", "--out", "o")
    assert code == 0
    assert "2 of 3 done" in out
    assert "was last run with other settings (different: methods.joint.cells, trials)" in err
    code, out, err = run(
        "status", "tiny.toml", "--quick", "--set", "trials=2", "--set", "methods.joint.cells=2", "--out", "o"
    )
    assert ("6 of 6 done" in out, err) == (True, "")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trials", "KEY=VALUE is needed"),
        ("trials=[1", "the value is read as TOML"),
        ("trials=many", "--set trials: should be a valid integer, got 'many'"),
        ("trial=3", "--set trial: unknown key; did you mean 'trials'?"),
        ("tables.0.inputs=['a', 'y']", "--set tables.0.inputs: "),
        ("tables.1.csv=x.csv", "there is no tables.1 to change: --set tables.0.KEY=VALUE"),
    ],
)
def test_keys_from_the_shell_that_are_wrong(run, here, override, said):
    code, _, err = run("run", "tiny.toml", "--set", override)
    assert code == 2
    assert said in err
    assert not (here / "out").exists()


def test_several_studies_in_turn(run, here):
    """One that cannot be run does not keep the others from it; each has its own folder."""
    (here / "other.toml").write_text(TINY.replace("hidden = 4", "hidden = 5"))
    code, out, err = run("run", "tiny.toml", "absent.toml", "other.toml", "--quick")
    assert code == 2
    assert "3 of 3 rows in out/tiny-quick" in out
    assert "3 of 3 rows in out/other-quick" in out
    assert "'absent.toml' is neither a built-in study" in err
    assert "could not be run" in out
    assert run("run", "tiny.toml", "other.toml", "--quick")[0] == 0
    assert run("resume", "tiny.toml", "other.toml", "--quick")[0] == 0
    code, _, err = run("run", "tiny.toml", "other.toml", "--out", "o")
    assert code == 2
    assert "--out is the folder of one study" in err
    assert not (here / "o").exists()


def test_a_study_that_fails_among_several_ends_with_1(run, here):
    (here / "bad.toml").write_text(TINY.replace("[methods.joint]", '[methods.joint]\nsolver = "SCS"\nmax_rounds = 1'))
    study = load_study("bad.toml")
    store = Store.create("out/bad", study)
    for task in kind_of(study).tasks(study):
        store.write_row(task.digest, {"task": task.name, "status": "failed", "reason": "no luck", "seconds": 0.0})
    code, out, _ = run("run", "bad.toml", "tiny.toml", "--set", "seed=0")
    assert code == 1
    assert "a row failed or a check does not hold" in out


def test_a_dry_run(run, here):
    code, out, _ = run("check", "tiny.toml", "--set", "trials=3", "--n-jobs", 2)
    assert code == 0
    assert "tiny.toml is a valid study of the kind 'objectives'" in out
    assert "training samples: mine 32" in out
    assert "0 of 9 tasks have rows in out/tiny" in out
    assert "(a rule of thumb, right within a factor of about three)" in out
    assert not (here / "out").exists()
    run("run", "tiny.toml")
    code, out, _ = run("check", "tiny.toml", "--set", "trials=3", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["parts"] == {
        "start": {"tasks": 3, "done": 2, "failed": 0, "left": 1},
        "refinement": {"tasks": 6, "done": 4, "failed": 0, "left": 2},
    }
    assert (said["problems"], said["missing_images"], said["samples"]) == ([], [], {"mine": 32})
    store = Store.open("out/tiny", load_study("tiny.toml"))
    rows = [store.row(digest) for digest in store.finished()]
    times = {method: [row["seconds"] for row in rows if row["method"] == method] for method in ("", "C-l2", "joint")}
    assert said["seconds_on_one_core"] == pytest.approx(sum(sum(found) / 2 for found in times.values()))
    assert said["tasks_timed_by_rows"] == 3
    assert said["memory_mb_per_worker"] == max(row["memory_mb"] for row in rows) > 50
    code, out, _ = run("check", "tiny.toml")
    assert (code, "nothing is left to compute" in out) == (0, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TINY.replace('csv = "mine.csv"', 'csv = "absent.csv"'), "absent.csv cannot be read"),
        (TINY.replace('target = "y"', 'target = "z"'), "has no column 'z'"),
        (TINY.replace("trials = 2", 'trials = 2\ndatasets = ["servoo"]', 1), "Did you mean 'servo'"),
        (TINY.replace("[starts.mlp]", '[starts.sgd]\ndevice = "cuda:99"\n[starts.mlp]'), "starts.sgd.device"),
    ],
)
def test_a_dry_run_tells_what_is_missing(run, here, text, said):
    if "cuda" in text:
        pytest.importorskip("torch", reason="PyTorch is not installed (certnet[torch])")
    (here / "tiny.toml").write_text(text)
    code, out, _ = run("check", "tiny.toml")
    assert code == 2
    assert said in out
    assert json.loads(run("check", "tiny.toml", "--json")[1])["problems"]


@pytest.fixture
def without_torch(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))


class TestMissingPackages:
    TEXT = TINY.replace("[starts.mlp]", "[starts.sgd]\nepochs = 2\n\n[starts.mlp]")
    SAID = (
        'PyTorch is not installed (certnet[torch]): pip install "torch>=2.10"; 2 of 12 tasks need it '
        "(mine/trial 0/sgd, mine/trial 1/sgd), and 4 go on from what these make"
    )

    def test_are_told_with_the_tasks_that_need_them(self, run, here, without_torch):
        (here / "tiny.toml").write_text(self.TEXT)
        code, out, _ = run("check", "tiny.toml")
        assert code == 2
        assert f"cannot be run: {self.SAID}" in out
        assert "computes what is left" not in out
        assert json.loads(run("check", "tiny.toml", "--json")[1])["problems"] == [self.SAID]

    def test_stop_a_run_that_can_do_nothing_without_them(self, run, here, without_torch):
        (here / "tiny.toml").write_text(TINY.replace("[starts.mlp]", "[starts.sgd]"))
        code, _, err = run("run", "tiny.toml")
        assert code == 2
        assert "2 of 6 tasks need it (mine/trial 0/sgd, mine/trial 1/sgd), and 4 go on from" in " ".join(err.split())
        assert not (here / "out").exists()

    def test_do_not_stop_the_other_tasks(self, run, here, without_torch):
        (here / "tiny.toml").write_text(self.TEXT)
        _, _, err = run("run", "tiny.toml")
        assert f"{self.SAID}: these will fail, the others are computed" in " ".join(err.split())
        rows = table(load_study("tiny.toml"), Path("out/tiny"))
        assert len(rows) == 12
        assert {row["status"] for row in rows if row["start"] == "mlp"} == {"done"}

    def test_are_told_once_where_a_device_is_named(self, run, here, without_torch):
        (here / "tiny.toml").write_text(self.TEXT.replace("epochs = 2", 'epochs = 2\ndevice = "cuda:99"'))
        assert json.loads(run("check", "tiny.toml", "--json")[1])["problems"] == [self.SAID]

    def test_are_of_the_tasks_that_are_left(self, run, here, without_torch):
        """Rows that are there need no package; failed ones do, and are kept where they cannot be tried again."""
        (here / "tiny.toml").write_text(self.TEXT)
        study = load_study("tiny.toml")
        store, tasks = Store.create("out/tiny", study), kind_of(study).tasks(study)
        assert missing_packages(tasks, [task for task in tasks if task.settings.start == "mlp"]) == []
        for task in tasks:
            status = "failed" if task.settings.start == "sgd" else "done"
            row = {"task": task.name, "digest": task.digest, "status": status, "reason": "no luck", "seconds": 1.0}
            store.write_row(task.digest, row)
        code, out, _ = run("check", "tiny.toml")
        assert code == 2
        assert "2 of 6 tasks need it" in out
        assert "runs the 6 failed tasks again, once nothing is missing" in out
        assert run("resume", "tiny.toml", "--retry-failed")[0] == 2
        assert len(store.finished()) == len(tasks)

    def test_none_where_it_is_installed(self, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
        for name in ("yin-objectives", "couellan-coupling", "lifted"):
            study = load_study(name, quick=True)
            tasks = kind_of(study).tasks(study)
            assert missing_packages(tasks, tasks) == []

    def test_of_the_other_kinds(self, without_torch):
        def needing(name: str) -> set[str]:
            study = load_study(name, quick=True)
            kind = kind_of(study)
            return {task.name for task in kind.tasks(study) if kind.packages(task)}

        assert needing("couellan-coupling") == {
            task.name for study in [load_study("couellan-coupling", quick=True)] for task in kind_of(study).tasks(study)
        }
        assert {name.split("/")[-1] for name in needing("lifted")} == {
            "relu-back-propagation",
            "sigmoid-back-propagation",
        }
        assert {name.split("/")[-1] for name in needing("yin-robustness-validated")} == {"sgd", "pgd"}


def test_a_dry_run_tells_failed_tasks_and_how_to_run_them_again(run, here):
    study = load_study("tiny.toml")
    store = Store.create("out/tiny", study)
    for task in kind_of(study).tasks(study):
        row = {"task": task.name, "digest": task.digest, "status": "failed", "reason": "no luck", "seconds": 0.0}
        store.write_row(task.digest, row)
    code, out, _ = run("check", "tiny.toml")
    assert code == 1
    assert "nothing is left to compute but what failed" in out
    assert "failed: mine/trial 0/mlp: no luck" in out
    assert "failed: and 1 more" in out
    assert "`certnet study resume tiny.toml --retry-failed` runs the 6 failed tasks again" in out
    assert run("resume", "tiny.toml", "--retry-failed")[0] == 0
    assert run("check", "tiny.toml")[0] == 0


def test_a_dry_run_tells_image_sets_that_are_not_there(run, here, monkeypatch):
    monkeypatch.setattr(images, "available", lambda name: name == "digits")
    monkeypatch.setenv("CERTNET_DATA_HOME", str(here / "none"))
    code, out, _ = run("check", "lifted-images")
    assert code == 2
    assert "missing: mnist" in out
    assert "tasks will fail without" in out
    assert "mnist" in json.loads(run("check", "lifted-images", "--json")[1])["missing_images"]


def test_a_dry_run_tells_of_a_folder_of_something_else(run, here):
    Store.create("o", load_study("couellan-coupling", quick=True))
    code, out, _ = run("check", "tiny.toml", "--out", "o")
    assert code == 2
    assert "holds rows of another kind of study" in out


def test_a_rule_of_thumb_for_every_built_in_study():
    from certnet.study import builtin_studies
    from certnet.study.estimate import foresee

    for name in builtin_studies():
        study = load_study(name, quick=True)
        whole, part = (foresee(kind_of(study).tasks(study)[:n], [], {}) for n in (None, 1))
        assert whole.seconds > part.seconds > 0.0, name
        assert 100.0 < whole.memory < 10000.0
        assert (whole.measured, whole.memory_measured) == (0, False)


def test_help_tells_all_exit_codes(run):
    assert "130 after Ctrl-C" in " ".join(run("--help")[1].split())


def test_nothing_to_collect_or_plot_yet(run, here):
    Store.create("out/tiny", load_study("tiny.toml"))
    for command in ("collect", "plot"):
        code, _, err = run(command, "tiny.toml")
        assert code == 2
        assert "rows yet: run `certnet study run tiny.toml` first" in err


def test_show_prints_a_file_that_runs_as_it_is(run, here):
    code, out, _ = run("show", "couellan-coupling")
    assert code == 0
    (here / "copy.toml").write_text(out)
    assert load_study(here / "copy.toml").spec == load_study("couellan-coupling").spec
