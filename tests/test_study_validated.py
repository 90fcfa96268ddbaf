"""Studies whose weights are chosen on validation data: every choice made again, from the data and the networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from studies import TINY, tiny_study, write_study
from test_study_pages import made_up, needs_matplotlib

from certnet import PGDAttack, ShallowNetwork, refine
from certnet.core.errors import FileFormatError, InvalidInputError, SolverError
from certnet.study import load_study, run_study
from certnet.study.kinds.artifacts import unpacked
from certnet.study.kinds.refinement import validated
from certnet.study.kinds.refinement.choosing import Choice, Pair, ValidatedSettings, middle_radii, validated_execute
from certnet.study.kinds.refinement.methods import Method
from certnet.study.kinds.refinement.starts import AdmmStart, MlpStart, SgdStart
from certnet.study.kinds.refinement.steps import Given, Made
from certnet.study.load import kind_of
from certnet.study.tasks import Task

TEXT = (
    TINY.split("[methods.C-l2]")[0]
    .replace('"objectives"', '"validated"')
    .replace("weights = [0.01]", 'weights = [0.01, 0.1, 1.0]\nleader = "joint"\nvalidation_fraction = 0.3')
    .replace("epsilons = [0.0, 0.2]", "epsilons = [0.0, 0.2, 0.4]")
    + "[methods.joint]\n\n[methods.ADMM.admm]\nmax_iterations = 2\n\n[quick]\ntrials = 1\n"
)


def tasks_of(folder: Any, text: str = TEXT) -> list[Task[ValidatedSettings]]:
    study = tiny_study(folder, text)
    return list(kind_of(study).tasks(study))


def network(artifact: bytes, letter: str) -> ShallowNetwork:
    arrays = {key[1:]: a for key, a in unpacked(artifact).items() if key[0] == letter}
    return ShallowNetwork(arrays["W"], arrays["b"], arrays["V"], arrays["c"], units=str(arrays["units"]))


def parted(task: Task[ValidatedSettings]) -> tuple[Any, ...]:
    """The whole training part; what candidates see of it; what they are measured on."""
    data = task.settings.data.load(task.folder)
    order = np.random.default_rng(task.settings.validation_seed).permutation(len(data.y_train))
    held = round(task.settings.validation_fraction * len(order))
    return (
        data,
        (data.X_train[order[held:]], data.y_train[order[held:]]),
        (
            data.X_train[order[:held]],
            data.y_train[order[:held]],
        ),
    )


def attacked(net: ShallowNetwork, X: Any, y: Any, task: Task[ValidatedSettings]) -> float:
    worst = PGDAttack(n_steps=2, n_restarts=1, random_state=task.settings.attack_seed).perturb(net, X, y, 0.2)
    hidden = np.maximum(worst @ net.W.T + net.b, 0.0)
    return float(np.mean((hidden @ net.V[0] + net.c[0] - y) ** 2))


def test_the_choice_made_again(tmp_path):
    start, joint, _ = tasks_of(tmp_path)[:3]
    assert (start.name, joint.name) == ("mine/trial 0/mlp", "mine/trial 0/mlp/joint")
    assert joint.needs == (start.digest,)
    begun = validated_execute(start, [])
    assert begun.row["validation"].keys() == {"0.01"}  # a start without a weight has nothing to choose
    done = validated_execute(joint, [begun.artifact])
    data, part, held = parted(joint)
    for weight, score in done.row["validation"].items():
        before = network(begun.artifact, "p")
        net = refine(before, *part, float(weight), cells=1, random_state=joint.seed).network
        assert attacked(net, *held, joint) == pytest.approx(score, rel=1e-6)
    best = min(done.row["validation"], key=done.row["validation"].get)
    assert done.row["weight"] == float(best)
    final = refine(
        network(begun.artifact, "w"), data.X_train, data.y_train, float(best), cells=1, random_state=joint.seed
    )
    X, y = data.X_test, data.y_test
    assert float(np.mean((final.network.predict(X) - y) ** 2)) == pytest.approx(done.row["mse_test"], rel=1e-6)
    assert done.row["objective"] == pytest.approx(final.objective_after, rel=1e-6)


def test_what_is_held_out_and_what_is_tested_train_nothing(tmp_path):
    """Networks of candidates are the same whatever stands in the rows that they are measured on."""
    start, joint, _ = tasks_of(tmp_path)[:3]
    begun = validated_execute(start, [])
    data, (X, y), _ = parted(joint)
    given = Given(data, network(begun.artifact, "p"), 4, 0.1, joint.seed)
    settings = joint.settings.model_copy(update={"weights": [0.1]})
    networks = []
    for shift in (0.0, 100.0):
        seen = replace(data, X_train=X, y_train=y, X_test=data.X_test + shift, y_test=data.y_test - shift)
        networks.append(Choice.of(settings, seen, given.before, joint.seed).network)
    assert networks[0] == networks[1]


class Failing(Method):
    """Fails at every weight up to one."""

    up_to: float = 0.05

    def make(self, given: Given) -> Made:
        if given.weight <= self.up_to:
            raise SolverError("the training diverged")
        return super().make(given)


def test_candidates_that_fail_are_not_chosen(tmp_path):
    start, joint, _ = tasks_of(tmp_path)[:3]
    artifact = validated_execute(start, []).artifact
    settings = joint.settings.model_copy(update={"options": Failing()})
    row = validated_execute(Task("validated", "x", settings, joint.seed, folder=joint.folder), [artifact]).row
    assert row["validation"]["0.01"] is None
    assert row["weight"] in (0.1, 1.0)
    settings = joint.settings.model_copy(update={"options": Failing(up_to=2.0)})
    with pytest.raises(SolverError, match="no candidate of the weight could be trained: the training diverged"):
        validated_execute(Task("validated", "x", settings, joint.seed, folder=joint.folder), [artifact])


def test_a_pair_is_read_as_it_was_written():
    rng = np.random.default_rng(0)
    pair = Pair(*(ShallowNetwork(*(rng.standard_normal(s) for s in ((h, 2), (h,), (1, h), (1,)))) for h in (3, 5)))
    again = Pair.read(pair.written())
    assert (again.part, again.whole) == (pair.part, pair.whole)


@pytest.mark.parametrize(
    ("radii", "middle"),
    [([0.3], [0.3]), ([0.0, 0.1], [0.0, 0.1]), ([0.0, 0.1, 0.4], [0.1]), ([0.0, 0.1, 0.4, 0.5], [0.1, 0.4])],
)
def test_the_middle_radii_give_the_median(radii, middle):
    assert middle_radii(radii) == middle
    errors = {radius: 1.0 + radius**2 for radius in radii}
    assert np.mean([errors[radius] for radius in middle]) == pytest.approx(np.median(list(errors.values())))


def test_all_of_it_runs_and_the_page_counts(tmp_path):
    study = tiny_study(tmp_path, TEXT)
    run_study(study, tmp_path / "out")
    tasks = kind_of(study).tasks(study)
    assert len(tasks) == 2 * (1 + 2)
    assert len({task.settings.validation_seed for task in tasks}) == 2
    assert all((tmp_path / "out" / "rows" / f"{task.digest}.json").exists() for task in tasks)


def rows_of(trials: int = 2, **errors: float) -> list[dict[str, Any]]:
    return [
        made_up(
            trial,
            "sgd",
            method.replace("start", ""),
            value + 0.01 * trial,
            weight=(0.01, 0.1)[trial],
            validation={"0.01": 1.0, "0.1": 2.0} if method != "start" else {"0.01": 1.0},
        )
        for method, value in errors.items()
        for trial in range(trials)
    ]


def test_the_page_says_who_is_ahead_and_by_how_much():
    study = load_study("yin-robustness-validated")
    report = validated.report(study, rows_of(start=1.0, joint=0.9, refine=0.5))
    assert report.notes[0].startswith("**refine has the least median in 1 of the 1 cases** (among ADMM, C-lip, joint")
    assert report.notes[1] == (
        "**servo, from sgd**: refine is 44.2 % below the next, sgd+joint; below it in 2 of 2 trials."
    )
    weights = {line[1]: line[2] for line in report.tables[2].rows[1:]}
    assert weights == {"sgd": "none", "sgd+joint": "0.055 (0.01 to 0.1)", "sgd+refine": "0.055 (0.01 to 0.1)"}
    assert len(report.tables[0].rows) == 2  # one case: weights that were chosen do not part it
    report = validated.report(study, rows_of(start=0.4, refine=0.5))
    assert report.notes[0].startswith("**refine has the least median in 0 of the 1 cases**")
    assert "refine is 24.7 % above the next, sgd; below it in 0 of 2 trials" in report.notes[1]
    assert "nothing to compare refine with yet" in validated.report(study, rows_of(start=0.4)).notes[1]
    assert validated.report(study, []).notes == ()


@needs_matplotlib
def test_a_picture_of_every_case():
    drawn = validated.pictures(load_study("yin-robustness-validated"), rows_of(start=1.0, refine=0.5))
    assert list(drawn) == ["validated-servo-sgd"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('leader = "joint"', 'leader = "zzz"', "leader: speaks of 'zzz', which is not among the methods (joint, ADMM)"),
        ("validation_fraction = 0.3", "validation_fraction = 1.0", "validation_fraction: should be less than 1"),
        ("weights = [0.01, 0.1, 1.0]", "weights = [0.1, 0.1]", "weights: holds 0.1 more than once"),
        ("[methods.joint]", '[methods.joint]\neffort = "much"', "methods.joint.effort: should be 'quick', 'default'"),
        (
            "[methods.joint]",
            '[methods.joint]\neffort = "quick"\ncells = 3\npenalty = "l2"',
            "methods.joint: effort chooses the programs itself: remove it, or cells, penalty",
        ),
    ],
)
def test_what_does_not_go_is_told_before_any_work(tmp_path, old, new, said):
    with pytest.raises(FileFormatError) as caught:
        tiny_study(tmp_path, TEXT.replace(old, new))
    assert said in str(caught.value)


def test_too_few_rows_to_part(tmp_path):
    task = tasks_of(tmp_path, TEXT.replace("validation_fraction = 0.3", "validation_fraction = 0.01"))[0]
    with pytest.raises(InvalidInputError, match=r"mine has 32 training rows: validation_fraction=0\.01 leaves none"):
        validated_execute(task, [])


def test_who_has_a_weight():
    assert [step.weighted for step in (SgdStart(), SgdStart(weight_decay=0.1), MlpStart(), AdmmStart(), Method())] == [
        True,
        False,
        False,
        True,
        True,
    ]


def test_a_method_without_effort_is_named_as_before_there_was_one(tmp_path):
    assert "effort" not in Method().model_dump(mode="json")
    assert Method(effort="quick").model_dump(mode="json")["effort"] == "quick"
    text = TEXT.replace("[methods.joint]", '[methods.joint]\n[methods.best]\neffort = "quick"')
    study = load_study(write_study(tmp_path, text))
    plain = {task.settings.method: task.settings.plain()["options"] for task in kind_of(study).tasks(study)}
    assert "effort" not in plain["joint"]
    assert plain["best"]["effort"] == "quick"
