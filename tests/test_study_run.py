"""Running studies: nothing is lost or done twice, whoever runs them and whatever kills them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from studies import CERTNET, ENVIRONMENT, NO_ARRAYS, TINY, same, table, tiny_study, until, write_study

from certnet import ShallowNetwork, certify, objective
from certnet.core import files
from certnet.core.errors import FileFormatError, InvalidInputError, OutputError
from certnet.refinement import mean_squared_error
from certnet.robust import adversarial_mse
from certnet.study import Progress, Store, collect, load_study, pools, progress_of, run_study
from certnet.study.kinds import KINDS, Kind, Outcome
from certnet.study.kinds.splits import split_of
from certnet.study.leases import Leases, me
from certnet.study.load import kind_of
from certnet.study.pools import InlinePool, LokyPool
from certnet.study.progress import clock, seconds_left, underway
from certnet.study.tasks import Settings, Task
from certnet.study.work import perform

BESIDE = {
    **ENVIRONMENT,
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
}
"""The environment of a process that imports this file."""


def slow(monkeypatch, study, do=lambda task: None) -> list[str]:
    """Replace the kind's work by an instant one, and note what was done."""
    done: list[str] = []
    kind = kind_of(study)

    def execute(task, artifacts):
        done.append(task.name)
        do(task)
        return Outcome({"value": task.seed, "method": task.settings.method}, NO_ARRAYS)

    fake = Kind(kind.name, kind.model, kind.tasks, execute, kind.report, kind.pictures)
    monkeypatch.setitem(KINDS, kind.name, fake)
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny study, run in this process."""
    folder = tmp_path_factory.mktemp("study")
    study = tiny_study(folder)
    run_study(study, folder / "out")
    return study, folder / "out"


def test_rows_hold_what_networks_and_data_say(finished):
    """Every figure again, from the stored network and the table."""
    study, folder = finished
    rows = table(study, folder)
    assert [row["status"] for row in rows] == ["done"] * 6
    for row in rows:
        network = ShallowNetwork.load(folder / "networks" / f"{row['digest']}.npz")
        data = split_of(study, "mine", row["trial"]).load(study.folder)
        train, test = (data.X_train, data.y_train), (data.X_test, data.y_test)
        assert row["objective"] == pytest.approx(
            objective(network, *train, weight=0.01, penalty=row["penalty"]), rel=1e-6
        )
        assert row["mse"] == pytest.approx(mean_squared_error(network, *train))
        assert row["mse_test"] == pytest.approx(mean_squared_error(network, *test))
        assert row["lower"] <= row["upper"]
        assert row["upper"] == pytest.approx(certify(network).upper, rel=1e-5)
        curve = adversarial_mse(network, *test, [0.0, 0.2], lipschitz=row["upper"])
        assert row["adversarial_mse"]["0"] == pytest.approx(row["mse_test"])
        assert row["adversarial_mse"]["0.2"] == pytest.approx(curve.adversarial[1], rel=1e-2)
        assert row["certified_mse"]["0.2"] == pytest.approx(curve.certified[1])
        assert row["adversarial_mse"]["0.2"] <= row["certified_mse"]["0.2"]
    starts = {row["trial"]: row for row in rows if row["method"] == ""}
    for row in rows:
        if row["method"]:
            before = starts[row["trial"]][f"objective_{row['penalty']}"]
            assert row["objective_start"] == pytest.approx(before, rel=1e-5)
            assert row["objective"] <= before


def test_a_second_run_does_nothing(finished, monkeypatch):
    study, folder = finished
    done = slow(monkeypatch, study)
    before = {path: path.stat().st_mtime_ns for path in (folder / "rows").iterdir()}
    run_study(study, folder)
    assert done == []
    assert {path: path.stat().st_mtime_ns for path in (folder / "rows").iterdir()} == before
    assert not list((folder / "claims").iterdir())


def test_shards_together_are_the_whole(finished, tmp_path):
    study, folder = finished
    for part in ("1/3", "2/3", "3/3"):
        run_study(study, tmp_path / "out", part=part)
    assert same(table(study, tmp_path / "out"), table(study, folder))


@pytest.mark.slow
def test_worker_processes_give_the_same_rows(finished, tmp_path):
    study, folder = finished
    run_study(study, tmp_path / "out", n_jobs=2)
    assert same(table(study, tmp_path / "out"), table(study, folder))


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*CERTNET, "study", *words, str(folder / "tiny.toml"), "--out", str(folder / "out")],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_killed_in_mid_run_and_resumed(finished, tmp_path):
    """kill -9 after the first row: what was finished stays as it is, the rest is added, the table is the same."""
    reference, folder = finished
    write_study(tmp_path)
    rows = tmp_path / "out" / "rows"
    process = command(tmp_path, "run")
    until(lambda: rows.is_dir() and len(list(rows.glob("*.json"))) >= 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    study = load_study(tmp_path / "tiny.toml")
    before = {path.name: path.read_bytes() for path in rows.glob("*.json")}
    assert 1 <= len(before) < 6
    again = command(tmp_path, "resume")
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert {name: (rows / name).read_bytes() for name in before} == before
    assert same(table(study, tmp_path / "out"), table(reference, folder))
    assert not list((tmp_path / "out" / "claims").iterdir())


def _turn(folder: str, log: str, other: str) -> None:
    """A process of its own that runs the study in a shared folder, notes what it does, and waits for the other."""
    study = load_study(Path(folder) / "tiny.toml")
    kind = kind_of(study)

    def execute(task, artifacts):
        with open(log, "a") as file:
            file.write(f"{task.name}\n")
        until(Path(other).exists)
        return Outcome({"value": task.seed, "method": task.settings.method}, NO_ARRAYS)

    KINDS[kind.name] = Kind(kind.name, kind.model, kind.tasks, execute, kind.report, kind.pictures)
    run_study(study, Path(folder) / "out")


@pytest.mark.slow
def test_two_processes_share_a_folder(tmp_path):
    """Both take part, every task is done once, and both end when all is done."""
    write_study(tmp_path, TINY.replace("trials = 2", "trials = 12"))
    code = "import sys; from test_study_run import _turn; _turn(*sys.argv[1:])"
    logs = [tmp_path / f"{k}.log" for k in range(2)]
    both = [
        subprocess.Popen([CERTNET[0], "-c", code, str(tmp_path), str(log), str(other)], env=BESIDE)
        for log, other in (logs, logs[::-1])
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    done = [name for log in logs for name in log.read_text().split("\n") if name]
    assert len(done) == len(set(done)) == 36
    assert len(list((tmp_path / "out" / "rows").iterdir())) == 36
    assert all(log.read_text() for log in logs)


def test_ctrl_c_keeps_rows_and_gives_leases_back(tmp_path, monkeypatch):
    study = tiny_study(tmp_path)

    def stop(task):
        if "joint" in task.name:
            raise KeyboardInterrupt

    slow(monkeypatch, study, do=stop)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, tmp_path / "out")
    assert 0 < len(list((tmp_path / "out" / "rows").iterdir())) < 6
    assert not list((tmp_path / "out" / "claims").iterdir())
    slow(monkeypatch, study)
    run_study(study, tmp_path / "out")
    assert len(table(study, tmp_path / "out")) == 6


def test_a_failure_is_a_row_with_its_reason_and_can_be_run_again(tmp_path, monkeypatch):
    study = tiny_study(tmp_path)

    def fail(task):
        if task.name == "mine/trial 0/mlp":
            raise ValueError("out of luck")

    slow(monkeypatch, study, do=fail)
    store = run_study(study, tmp_path / "out")
    tasks = kind_of(study).tasks(study)
    rows = {row["task"]: row for row in table(study, tmp_path / "out")}
    assert rows["mine/trial 0/mlp"]["reason"] == "ValueError: out of luck"
    assert "Traceback" in rows["mine/trial 0/mlp"]["traceback"]
    assert rows["mine/trial 0/mlp/joint"]["reason"].startswith("it needs mine/trial 0/mlp, which failed: ValueError")
    assert progress_of(store, tasks) == Progress(3, 3, 0, 0, 0.0)
    slow(monkeypatch, study)
    run_study(study, tmp_path / "out")
    assert progress_of(store, tasks).failed == 3
    run_study(study, tmp_path / "out", retry_failed=True)
    assert progress_of(store, tasks) == Progress(6, 0, 0, 0, 0.0)


def test_an_attack_above_its_certificate_fails_the_row(tmp_path, monkeypatch):
    from certnet.study.kinds.refinement import evaluation

    study = tiny_study(tmp_path)
    task = kind_of(study).tasks(study)[0]
    assert perform(task, [])[0]["status"] == "done"
    true = evaluation.certify

    def wrong(network, **options):
        proof = true(network, **options)
        object.__setattr__(proof, "upper", 0.1 * proof.lower)
        return proof

    monkeypatch.setattr(evaluation, "certify", wrong)
    row, artifact = perform(task, [])
    assert row["status"] == "failed"
    assert "the certified error" in row["reason"]
    assert "at radius 0.2 is below" in row["reason"]
    assert row["mse"] > 0.0
    assert artifact is not None


def test_a_full_disk_keeps_finished_rows(tmp_path, monkeypatch):
    study = tiny_study(tmp_path)
    slow(monkeypatch, study)
    true, count = os.fsync, [0]

    def full(handle):
        count[0] += 1
        if count[0] > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        true(handle)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device; 2 finished rows are kept .* and resume"):
        run_study(study, tmp_path / "out")
    monkeypatch.setattr(files.os, "fsync", true)
    rows = {path: path.read_bytes() for path in (tmp_path / "out" / "rows").iterdir()}
    assert len(rows) == 2
    assert all(json.loads(content)["status"] == "done" for content in rows.values())
    run_study(study, tmp_path / "out")
    assert len(table(study, tmp_path / "out")) == 6
    assert {path: path.read_bytes() for path in rows} == rows


def test_folders_of_something_else(finished, tmp_path):
    study, _ = finished
    folder = tmp_path / "out"
    with pytest.raises(OutputError, match="holds no study"):
        Store.open(folder, study)
    Store.create(folder, study)
    other = load_study("couellan-coupling", quick=True)
    with pytest.raises(OutputError, match=r"another kind of study \(tiny, kind 'objectives'\), this one is 'regular"):
        Store.create(folder, other)
    manifest = folder / "study.json"
    said = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(said | {"certnet": "0.0.1"}))
    with pytest.raises(OutputError, match=r"begun by certnet 0.0.1, .* rows of two versions do not mix"):
        Store.create(folder, study)
    assert Store.open(folder, study).finished() == set()  # reading is allowed
    manifest.write_text(json.dumps(said | {"format": "certnet-study-0"}))
    with pytest.raises(OutputError, match="has the format 'certnet-study-0'"):
        Store.open(folder, study)
    manifest.write_text("{")
    with pytest.raises(FileFormatError, match=r"study.json cannot be read .*: remove it and `run` again"):
        Store.open(folder, study)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        Store.create(tmp_path / "file", study)


def test_a_damaged_row_is_named(finished, tmp_path):
    study, _ = finished
    store = Store.create(tmp_path / "out", study)
    store.row_path("0" * 32).write_text('{"status": "do')
    with pytest.raises(FileFormatError, match=r"0000.json cannot be read .*: remove it and resume"):
        store.row("0" * 32)
    for content in ("{}", '{"status": "done"}'):
        store.row_path("0" * 32).write_text(content)
        with pytest.raises(
            FileFormatError, match=r"0000.json is no row of a study \(it lacks task, .*remove it and resume"
        ):
            store.row("0" * 32)


@pytest.mark.parametrize("content", [b"junk", b"", b"PK\x03\x04 and no more", None])
def test_a_damaged_network_is_made_again(tmp_path, monkeypatch, content):
    study = tiny_study(tmp_path)
    slow(monkeypatch, study)
    store = run_study(study, tmp_path / "out")
    start, refined = kind_of(study).tasks(study)[:2]

    def damage():
        if content is None:
            store.artifact_path(start.digest).unlink()
        else:
            store.artifact_path(start.digest).write_bytes(content)
        store.forget(refined.digest)

    damage()
    with pytest.raises(FileFormatError):
        store.artifact(start.digest)
    told = []
    run_study(study, tmp_path / "out", tell=told.append)
    assert told == [f"{store.artifact_path(start.digest)} is damaged: {start.name} is run again"]
    assert len(table(study, tmp_path / "out")) == 6
    assert not list((tmp_path / "out" / "claims").iterdir())

    damage()  # where it cannot be mended, what needs it fails, and nothing else does
    monkeypatch.setattr(Store, "write_artifact", lambda *_: None)
    run_study(study, tmp_path / "out")
    assert [row["status"] for row in table(study, tmp_path / "out")].count("failed") == 1
    assert "remove" in store.row(refined.digest)["reason"]


def test_a_row_that_is_no_json_is_a_failed_row(tmp_path, monkeypatch):
    study = tiny_study(tmp_path)
    kind = kind_of(study)
    execute = lambda task, artifacts: Outcome({"value": object()}, NO_ARRAYS)  # noqa: E731
    fake = Kind(kind.name, kind.model, kind.tasks, execute, kind.report, kind.pictures)
    monkeypatch.setitem(KINDS, "objectives", fake)
    run_study(study, tmp_path / "out")
    rows = table(study, tmp_path / "out")
    assert [row["status"] for row in rows] == ["failed"] * 6
    assert "not JSON serializable" in rows[0]["reason"]


def test_a_table_that_changed_is_told(tmp_path):
    Store.create(tmp_path / "out", tiny_study(tmp_path))
    (tmp_path / "mine.csv").write_text((tmp_path / "mine.csv").read_text().replace("0.", "1.", 1))
    assert "the content of mine.csv, which has changed" in (
        Store.create(tmp_path / "out", load_study(tmp_path / "tiny.toml")).changed
    )


def test_more_trials_use_the_rows_that_there_are(finished, tmp_path, monkeypatch):
    """Rows are named by what they depend on, so a study may say something else than its folder's."""
    study, folder = finished
    shutil.copytree(folder, tmp_path / "out")
    rows = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "rows").iterdir()}
    more = tiny_study(tmp_path, TINY.replace("trials = 2", "trials = 3"))
    ran, told = [], []
    monkeypatch.setattr(pools, "perform", lambda task, artifacts: ran.append(task.name) or perform(task, artifacts))
    run_study(more, tmp_path / "out", tell=told.append)
    assert len(ran) == 3
    assert all(name.startswith("mine/trial 2") for name in ran)
    assert {path: path.stat().st_mtime_ns for path in rows} == rows
    assert told == [
        f"the study is not the one that {tmp_path / 'out'} was last run with (different: trials): 6 of its 9 rows are "
        "there and are used"
    ]
    assert len(table(more, tmp_path / "out")) == 9
    assert json.loads((tmp_path / "out" / "study.json").read_text())["digest"] == more.digest
    assert len(table(study, tmp_path / "out")) == 6  # the smaller one can still be read
    told.clear()
    run_study(more, tmp_path / "out", tell=told.append)
    assert told == []
    wider = tiny_study(tmp_path, TINY.replace("hidden = 4", "hidden = 5").replace("trials = 2", "trials = 1"))
    run_study(wider, tmp_path / "out", tell=told.append)
    assert told[0].endswith("0 of its 3 rows are there and are used; 9 row(s) of other settings stay in the folder")


@pytest.mark.parametrize("content", ["", '{"status": "do', "{}", "[1]"])
def test_a_damaged_row_is_computed_again(finished, tmp_path, content):
    study, folder = finished
    shutil.copytree(folder, tmp_path / "out")
    store = Store.open(tmp_path / "out", study)
    first = kind_of(study).tasks(study)[0]
    store.row_path(first.digest).write_text(content)
    with pytest.raises(FileFormatError):
        collect(store, kind_of(study).tasks(study))
    told = []
    run_study(study, tmp_path / "out", tell=told.append)
    assert told == [f"{store.row_path(first.digest)} is damaged: {first.name} is run again"]
    assert same(table(study, tmp_path / "out"), table(study, folder))


def test_columns_of_categories_in_a_table(tmp_path):
    """One input of 0 and 1 for every category of the file, the same ones in every trial."""
    write_study(tmp_path)
    lines = (tmp_path / "mine.csv").read_text().splitlines()
    colours = ["colour", *(("red", "green", "blue")[i % 3] for i in range(len(lines) - 2)), "rare"]
    (tmp_path / "mine.csv").write_text("".join(f"{line},{colour}\n" for line, colour in zip(lines, colours)))
    said = TINY.replace('inputs = ["a", "b"]', 'inputs = ["a", "colour"]')
    (tmp_path / "tiny.toml").write_text(said)
    with pytest.raises(InvalidInputError, match=r"line 2: column 'colour' holds text .* categorical = \['colour'\]"):
        run_study(load_study(tmp_path / "tiny.toml"), tmp_path / "out")
    (tmp_path / "tiny.toml").write_text(said.replace("[attack]", 'categorical = ["colour"]\n\n[attack]'))
    study = load_study(tmp_path / "tiny.toml")
    data = split_of(study, "mine", 0).load(tmp_path)
    assert data.feature_names == ("a", "colour_blue", "colour_green", "colour_rare", "colour_red")
    run_study(study, tmp_path / "out")
    assert {row["status"] for row in table(study, tmp_path / "out")} == {"done"}
    wrong = load_study(tmp_path / "tiny.toml", overrides=["tables.0.categorical=['color']"])
    with pytest.raises(InvalidInputError, match=r"--set tables.0.categorical: .*did you mean 'colour'\?"):
        run_study(wrong, tmp_path / "out")


def test_a_row_is_written_once(finished, tmp_path):
    store = Store.create(tmp_path / "out", finished[0])
    row = {"task": "one", "status": "done", "reason": "", "seconds": 0.0}
    assert store.write_row("a" * 32, row | {"value": 1})
    assert not store.write_row("a" * 32, row | {"value": 2})
    assert store.row("a" * 32)["value"] == 1


# ---------------------------------------------------------------------------------------------------- leases


def _lease(folder: Path, generation: int, **owner: object) -> Path:
    path = folder / f"task.{generation}.json"
    path.write_text(json.dumps(me() | owner))
    return path


def test_a_live_lease_is_respected_and_a_dead_one_taken_over(tmp_path):
    with Leases(tmp_path) as mine, Leases(tmp_path) as other:
        assert mine.take("task")
        assert not other.take("task")
        assert other.live() == {"task"}
        mine.release("task")
        assert other.take("task")
    assert not list(tmp_path.iterdir())
    dead = subprocess.Popen([CERTNET[0], "-c", ""])
    dead.wait()
    _lease(tmp_path, 0, pid=dead.pid)
    with Leases(tmp_path) as leases:
        assert leases.live() == set()
        assert leases.take("task")
        assert (tmp_path / "task.1.json").exists()
    assert not list(tmp_path.iterdir())


def test_a_number_given_to_another_process_is_no_life(tmp_path):
    _lease(tmp_path, 0, began="long ago")
    with Leases(tmp_path) as leases:
        assert leases.take("task")


def test_another_machine_is_alive_as_long_as_it_touches_its_lease(tmp_path):
    path = _lease(tmp_path, 3, machine="elsewhere")
    with Leases(tmp_path, patience=60.0) as leases:
        assert not leases.take("task")
        old = time.time() - 61.0
        os.utime(path, (old, old))
        assert leases.take("task")
        assert (tmp_path / "task.4.json").exists()


def test_a_lease_that_names_nobody_yet_is_respected(tmp_path):
    path = tmp_path / "task.0.json"
    path.touch()
    with Leases(tmp_path, patience=60.0) as leases:
        assert not leases.take("task")
        old = time.time() - 61.0
        os.utime(path, (old, old))
        assert leases.take("task")


def _lease_until_killed(folder: Path) -> int:
    """A forked process that takes a task and gives it back without end."""
    child = os.fork()
    if child == 0:
        with Leases(folder) as leases:
            while leases.take("task"):
                leases.release("task")
        os._exit(1)
    return child


def _kill_holders(folder: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        child = _lease_until_killed(Path(folder))
        time.sleep(rng.uniform(0.01, 0.03))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        with Leases(Path(folder)) as leases:
            assert leases.take("task"), [path.read_text() for path in Path(folder).iterdir()]
            leases.release("task")
            leases.sweep(["task"])
        assert not list(Path(folder).iterdir())


@pytest.mark.slow
def test_killed_while_leasing(tmp_path):
    """Wherever a process is killed, its lease is known to be stale at once, and nothing of it stays behind."""
    code = "import sys; from test_study_run import _kill_holders; _kill_holders(sys.argv[1])"
    subprocess.run([CERTNET[0], "-c", code, str(tmp_path)], env=BESIDE, check=True, timeout=120)


def test_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with Leases(tmp_path) as mine, Leases(tmp_path) as other:
        assert mine.take("task")
        assert not other.take("task")
        assert other.live() == {"task"}
    assert not list(tmp_path.iterdir())


def test_others_files_that_cannot_be_removed_do_no_harm(tmp_path, monkeypatch):
    """In a folder that is shared with its sticky bit set, everybody removes his own files only."""
    stale = _lease(tmp_path, 0, began="long ago")

    def unlink(path):
        if path == stale:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        os.unlink(path)

    monkeypatch.setattr(Path, "unlink", unlink)
    with Leases(tmp_path) as leases:
        assert leases.take("task")
        leases.release("task")
        leases.sweep(["task"])
    assert list(tmp_path.iterdir()) == [stale]


def test_a_lease_that_cannot_be_opened_is_left_to_its_owner(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    whole = os.open

    def full(path, *given, **options):
        if str(path).endswith("task.0.json"):
            (tmp_path / "task.0.json").write_text(json.dumps(me()))  # another is quicker
            raise OSError(errno.EMFILE, "Too many open files")
        return whole(path, *given, **options)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "open", full)
    with Leases(tmp_path) as leases, pytest.raises(OutputError, match="Too many open files"):
        leases.take("task")
    assert (tmp_path / "task.0.json").exists()


@pytest.mark.parametrize("before", [True, False])
def test_an_interrupted_lease_is_given_back(tmp_path, monkeypatch, before):
    """Ctrl-C beside the moment in which the lease is made, and another process that makes it instead."""
    whole = os.link

    def interrupted(source, target):
        if before:
            _lease(tmp_path, 0, pid=1)
        else:
            whole(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", interrupted)
    with pytest.raises(KeyboardInterrupt), Leases(tmp_path) as leases:
        leases.take("task")
    assert [path.name for path in tmp_path.iterdir()] == (["task.0.json"] if before else [])


@pytest.mark.parametrize("owner", ["[]", "5", "{}", '{"pid": "x"}', '{"pid": 1e400}', "\xff"])
def test_leases_that_are_nonsense_become_stale(tmp_path, owner):
    path = tmp_path / "task.0.json"
    machine = json.dumps(me()["machine"])
    path.write_text(owner.replace("{", '{"machine": ' + machine + ", ").replace(", }", "}"))
    old = time.time() - 61.0
    os.utime(path, (old, old))
    with Leases(tmp_path, patience=60.0) as leases:
        assert leases.take("task")


def test_a_link_whose_answer_was_lost_is_a_lease(tmp_path, monkeypatch):
    """NFS sends a request again when its answer is lost, and then says that the file exists."""
    link = os.link

    def lossy(source, target):
        link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", lossy)
    with Leases(tmp_path) as leases:
        assert leases.take("task")


def test_leases_of_finished_tasks_are_swept(finished, tmp_path):
    """A process that was killed between its row and giving the lease back."""
    study, folder = finished
    shutil.copytree(folder, tmp_path / "out")
    digest = next(path.stem for path in (folder / "rows").iterdir())
    (tmp_path / "out" / "claims" / f"{digest}.0.json").write_text(json.dumps(me() | {"began": "long ago"}))
    run_study(study, tmp_path / "out")
    assert not list((tmp_path / "out" / "claims").iterdir())


def test_signs_of_life(tmp_path):
    with Leases(tmp_path, patience=0.04) as leases:
        leases.take("task")
        path = tmp_path / "task.0.json"
        os.utime(path, (0.0, 0.0))
        until(lambda: path.stat().st_mtime > 0.0)


def test_many_threads_take_a_stale_lease_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    for number in range(20):
        path = tmp_path / f"{number}.0.json"
        path.write_text(json.dumps(me() | {"began": "long ago"}))
    rivals = [Leases(tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda rival: [rival.take(str(number)) for number in range(20)], rivals))
    assert np.sum(won, axis=0).tolist() == [1] * 20


# ------------------------------------------------------------------------------------------------------------- backends


def test_options_that_do_not_exist_or_go_together(finished, tmp_path):
    study, _ = finished
    for options, match in (
        ({"backend": "threads"}, "backend must be one of 'loky', 'dask'"),
        ({"backend": "dask"}, "--scheduler is missing"),
        ({"scheduler": "tcp://127.0.0.1:1"}, "a scheduler is for backend 'dask', got it with 'loky'"),
        ({"part": "3/2"}, "i goes from 1 to n"),
        ({"n_jobs": 0}, "n_jobs must be .* got 0"),
        ({"timeout": float("nan")}, r"--timeout.* must be a finite positive number, got nan"),
        ({"timeout": -1.0}, "positive number, got -1.0"),
        ({"timeout": 0.0}, "positive number, got 0.0"),
        *(
            ({"backend": "dask", "scheduler": address}, r"malformed: tcp://HOST:PORT is needed")
            for address in ("nonsense", "", "tcp://127.0.0.1:abc", "tcp://127.0.0.1:70000", "nonsense://x")
        ),
        ({"n_jobs": -5}, "n_jobs must be .* got -5"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            run_study(study, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_task_that_kills_its_worker_fails_alone(tmp_path, monkeypatch):
    """Its neighbours are run again; it is given a second try with nothing beside it."""
    study = tiny_study(tmp_path, TINY.replace("trials = 2", "trials = 3"))
    tries: list[str] = []

    def submit(self, task, artifacts):
        tries.append(task.name)
        if task.name == "mine/trial 1/mlp/joint":
            return self._executor.submit(os._exit, 1)
        row = {"task": task.name, "status": "done", "reason": "", "seconds": 0.0}
        return self._executor.submit(eval, f"({row!r}, {NO_ARRAYS!r})")

    monkeypatch.setattr(LokyPool, "submit", submit)
    run_study(study, tmp_path / "out", n_jobs=2)
    rows = {row["task"]: row for row in table(study, tmp_path / "out")}
    assert rows.pop("mine/trial 1/mlp/joint")["reason"].startswith("the worker process died 2 times")
    assert {row["status"] for row in rows.values()} == {"done"}
    assert tries.count("mine/trial 1/mlp/joint") == 2
    assert max(map(tries.count, tries)) == 2


def test_a_worker_that_died_idle_is_replaced(tmp_path, monkeypatch):
    study = tiny_study(tmp_path)
    done, restarts, true = slow(monkeypatch, study), [0], InlinePool.submit

    def submit(self, task, artifacts):
        if restarts[0] == 0:
            raise MemoryError
        return true(self, task, artifacts)

    monkeypatch.setattr(InlinePool, "submit", submit)
    monkeypatch.setattr(InlinePool, "worker_died", lambda self, error: isinstance(error, MemoryError))
    monkeypatch.setattr(InlinePool, "restart", lambda self: restarts.__setitem__(0, restarts[0] + 1))
    run_study(study, tmp_path / "out")
    assert restarts == [1]
    assert len(done) == len(set(done)) == 6


def test_a_result_that_cannot_come_back_is_a_failed_row(tmp_path, monkeypatch):
    study = tiny_study(tmp_path)

    def broken(self, task, artifacts):
        from concurrent.futures import Future

        future: Future = Future()
        future.set_exception(TypeError("cannot pickle it"))
        return future

    monkeypatch.setattr(InlinePool, "submit", broken)
    run_study(study, tmp_path / "out")
    rows = table(study, tmp_path / "out")
    assert rows[0]["reason"] == "TypeError: cannot pickle it"
    assert {row["status"] for row in rows} == {"failed"}


# ------------------------------------------------------------------------------------------------------------- progress


def _task(data: str, method: str) -> Task:
    return Task("objectives", f"{data}/{method}", Settings(trial=0), 0, group={"data": data, "method": method})


def test_the_time_left_is_that_of_similar_tasks():
    done = [(_task("a", "x"), 1.0), (_task("a", "x"), 3.0), (_task("b", "y"), 10.0)]
    rows = [(task, {"status": "done", "seconds": seconds}) for task, seconds in done]
    assert seconds_left([_task("a", "x")], rows, 1) == 2.0
    assert seconds_left([_task("b", "y"), _task("a", "x")], rows, 2) == 6.0
    assert seconds_left([_task("b", "x")], rows, 1) == 2.0  # the method says more than the data
    assert seconds_left([_task("a", "z")], rows, 1) == 2.0
    assert seconds_left([_task("c", "z")], rows, 1) == pytest.approx((1.0 + 3.0 + 10.0) / 3)
    assert seconds_left([_task("a", "x")], [], 1) is None
    assert seconds_left([], rows, 1) == 0.0


def test_the_time_left_where_starts_are_cheap_and_refinements_dear(tmp_path):
    """A start takes 1 s, "C-l2" 10 s, "joint" 100 s; over all rows the mean would be far off."""
    study = tiny_study(tmp_path, TINY.replace("trials = 2", "trials = 5"))
    tasks = kind_of(study).tasks(study)
    cost = {"": 1.0, "C-l2": 10.0, "joint": 100.0}

    def finished(wanted):
        return [(t, {"status": "done", "seconds": cost[t.settings.method]}) for t in tasks if wanted(t)]

    def left(done):
        return [task for task in tasks if task not in [one for one, _ in done]]

    starts = finished(lambda task: task.settings.method == "")
    assert seconds_left(left(starts), starts, 1) is None  # nothing is known of refinements
    first = starts + finished(lambda task: task.settings.trial == 0 and task.settings.method)
    assert seconds_left(left(first), first, 1) == 4 * (10.0 + 100.0)
    assert seconds_left(left(first), first, 2) == 2 * (10.0 + 100.0)
    failed = [(task, row | {"status": "failed"}) for task, row in first]
    assert seconds_left(left(first), failed, 1) == 4 * (10.0 + 100.0)  # what fails takes its time too
    not_run = [(task, {"status": "failed", "seconds": 0.0}) for task in left(first)[:2]]
    assert seconds_left(left(first), first + not_run, 1) == 4 * (10.0 + 100.0)


def test_the_time_left_moves_while_a_task_is_in_progress():
    done = [(_task("a", "x"), {"status": "done", "seconds": 10.0})]
    left = [_task("a", "x"), _task("a", "x")]
    ages = {left[0].digest: 4.0}
    assert left[0].digest == left[1].digest  # equal tasks: both have begun
    assert seconds_left(left, done, 1) == 20.0
    assert seconds_left(left, done, 1, ages) == 12.0
    begun = underway(left[:1], done, ages)
    assert begun == ((10.0, 4.0),)
    progress = Progress(1, 0, 1, 2, seconds_left(left, done, 1) - 4.0, begun, 1)
    assert progress.after(0.0) == progress
    assert progress.after(3.0).seconds_left == pytest.approx(13.0)
    assert progress.after(3.0).after(1.0).seconds_left == pytest.approx(12.0)
    longer = [progress.after(seconds).seconds_left for seconds in (5.0, 6.0, 96.0)]
    assert longer == pytest.approx([11.0, 11.0, 20.0])  # a task that takes longer has a tenth of its age to go
    assert Progress(1, 0, 1, 2).after(3.0) == Progress(1, 0, 1, 2)


def test_a_task_is_told_before_it_ends(tmp_path, monkeypatch):
    study, told = tiny_study(tmp_path), []
    slow(monkeypatch, study, do=lambda task: seen.append(told[-1].running))
    seen: list[int] = []
    run_study(study, tmp_path / "out", watch=told.append)
    assert seen == [1] * 6
    assert (told[0].running, told[-1].running, told[-1].left) == (0, 0, 0)


def test_progress_in_words():
    assert str(Progress(3, 1, 2, 6, 200.0)) == "4 of 10 done, 1 failed, 2 running, about 3 min to go"
    assert str(Progress(10, 0, 0, 0, 0.0)) == "10 of 10 done, 0 running"
    assert [clock(s) for s in (0.0, 45.0, 600.0, 36000.0)] == ["1 s", "45 s", "10 min", "10.0 h"]


def test_one_core_per_worker_is_the_default_of_minus_one():
    pool = LokyPool(-1)
    try:
        assert pool.width >= 1
    finally:
        pool.close()
