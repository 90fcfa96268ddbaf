"""Study files: what is refused, on which line, under which name; what is read."""

from __future__ import annotations

import hashlib
import pickle
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from studies import TINY, tiny_study, write_study

from certnet.core.errors import CertnetWarning, DatasetError, FileFormatError, InvalidInputError
from certnet.study import builtin_studies, load_study, run_study
from certnet.study.kinds import KINDS, kind_named
from certnet.study.load import kind_of
from certnet.study.tasks import parse_shard, seed_for, shard
from certnet.study.toml_lines import key_lines, line_of


def refusal(folder: Path, old: str, new: str) -> str:
    with pytest.raises(FileFormatError) as caught:
        tiny_study(folder, TINY.replace(old, new))
    return str(caught.value)


def line(text: str, part: str) -> int:
    return next(i for i, one in enumerate(text.splitlines(), 1) if part in one)


def test_the_built_in_studies_are_valid_quick_and_full():
    assert {"yin-objectives", "yin-robustness"} <= set(builtin_studies())
    for name in builtin_studies():
        full, quick = (load_study(name, quick=quick) for quick in (False, True))
        assert len(kind_of(quick).tasks(quick)) < len(kind_of(full).tasks(full))
        assert quick.digest != full.digest


WRITTEN = {
    "couellan-coupling": ("92009cb0d9c56a13", "f9acc68302cff22e"),
    "yin-objectives": ("a3b504d2730db5d7", "927b84465b795206"),
    "yin-robustness": ("521cf0707bfec2f3", "7141591aa3e153f4"),
}
"""Of the digests of all tasks, full and quick, as version 0.1 named the rows of its folders."""


@pytest.mark.parametrize("name", WRITTEN)
def test_folders_of_older_versions_keep_the_names_of_their_rows(name):
    for quick, said in zip((False, True), WRITTEN[name]):
        study = load_study(name, quick=quick)
        digests = "".join(task.digest for task in kind_of(study).tasks(study))
        assert hashlib.sha256(digests.encode()).hexdigest()[:16] == said


@pytest.mark.parametrize("name", builtin_studies())
def test_a_worker_reads_the_task_that_was_made(name):
    study = load_study(name, quick=True)
    for task in kind_of(study).tasks(study):
        again = pickle.loads(pickle.dumps(task))
        assert (again.settings, again.digest) == (task.settings, task.digest)


def test_settings_are_validated_where_the_task_is_made(tmp_path):
    study = tiny_study(tmp_path)
    settings = kind_of(study).tasks(study)[0].settings
    fields = {name: getattr(settings, name) for name in type(settings).model_fields}
    assert type(settings)(**fields) == settings
    for wrong in ({"hidden": "many"}, {"attack": {"steps": 0}}, {"widht": 3}):
        with pytest.raises(ValidationError):
            type(settings)(**fields | wrong)
    with pytest.raises(ValidationError, match="frozen"):
        settings.hidden = 5


def test_yin_objectives_has_all_that_table_1_has():
    study = load_study("yin-objectives")
    tasks = kind_of(study).tasks(study)
    assert len(tasks) == 5 * 10 * (3 + 8)  # C-lip and joint from both ADMM starts
    assert {task.settings.hidden for task in tasks} == {100}
    assert len({task.digest for task in tasks}) == len({task.name for task in tasks}) == len(tasks)


@pytest.mark.parametrize(
    ("old", "new", "on", "said"),
    [
        ("epochs = 30", "epocs = 30", "epocs", "starts.mlp.epocs: unknown key"),
        ("epochs = 30", 'epochs = "30"', "epochs =", "starts.mlp.epochs: should be a valid integer, got '30'"),
        ("steps = 2", "steps = 0", "steps =", "attack.steps: should be greater than or equal to 1"),
        ("epsilons = [0.0, 0.2]", "epsilons = [0.2, 0.2]", "[attack]", "attack: epsilons must increase"),
        ('target = "y"', 'targt = "y"', "targt", "tables.0.targt: unknown key"),
        ('target = "y"', "", "[[tables]]", "tables.0.target: is missing"),
        ("weights = [0.01]", "weights = [0.01, -1.0]", "weights", "weights.1: should be greater than 0"),
        ("[methods.joint]", '[methods.joint]\nmethod = "jiont"', "jiont", "methods.joint.method: should be 'joint' or"),
        ("[methods.joint]", "[methods.joint]\ncells = 2\npenalty = 'l2'", "[methods.joint]", "joint: cells above 1"),
        ("trials = 2", "trials = true", "trials = true", "trials: should be a valid integer, got true"),
        ("weights = [0.01]", "weights = []", "weights", "weights: at least one is needed"),
        ("weights = [0.01]", "weights = [0.01, 0.1, 0.01]", "weights", "weights: holds 0.01 more than once"),
        ('name = "mine"', 'name = "../x"', "../x", "tables.0.name: must begin with a letter or digit and hold at most"),
        ('inputs = ["a", "b"]', 'inputs = ["a", "a"]', "inputs", "tables.0.inputs: holds 'a' more than once"),
        (
            "test_fraction = 0.2",
            'test_fraction = 0.2\ntest_column = "held"',
            "test_fraction",
            "tables.0.test_fraction: does not go with test_column",
        ),
        (
            "trials = 2",
            'trials = 2\ndatasets = ["mine"]',
            "name =",
            "tables.0.name: two data sets have the name 'mine'",
        ),
        ("trials = 2", 'trials = 2\ndatasets = ["a", "a"]', "datasets", "datasets: holds 'a' more than once"),
        (
            "trials = 2",
            "trials = 2\nacknowledge_ethics = 1",
            "ethics",
            "acknowledge_ethics: must be true or false, got 1",
        ),
        (
            "[methods.joint]",
            '[methods.joint]\nsolver = "gurobi"',
            "gurobi",
            "methods.joint.solver: must be one of 'auto'",
        ),
        (
            "[starts.mlp]",
            '[starts.sgd]\ndevice = "foo"\n[starts.mlp]',
            "foo",
            "starts.sgd.device: must be 'auto', 'cpu',",
        ),
        ("trials = 1", "trails = 1", "trails", "quick.trails: unknown key"),
    ],
)
def test_an_error_names_line_and_key(tmp_path, old, new, on, said):
    text = TINY.replace(old, new)
    message = refusal(tmp_path, old, new)
    (where,) = (one for one in message.splitlines() if said in one)
    assert where.strip().startswith(f"line {line(text, on)}: ")


def test_all_errors_are_told_at_once(tmp_path):
    text = TINY.replace("epochs = 30", "epocs = 30").replace("steps = 2", "steps = 'two'").replace("hidden", "hiden")
    with pytest.raises(FileFormatError) as caught:
        tiny_study(tmp_path, text)
    said = str(caught.value)
    assert all(key in said for key in ("starts.mlp.epocs", "attack.steps", "hiden"))
    assert f"line {line(text, 'epocs')}: starts.mlp.epocs" in said
    assert f"line {line(text, 'two')}: attack.steps" in said


def test_what_does_not_fit_together(tmp_path):
    assert "no start: add a table" in refusal(tmp_path, "[starts.mlp]\nepochs = 30", "[starts]")
    assert "admm starts from 'sgd', which is missing" in refusal(tmp_path, "[starts.mlp]\nepochs = 30", "[starts.admm]")
    changed = '[methods.joint]\nstarts = ["sgd"]'
    assert "methods.joint.starts: speaks of 'sgd'" in refusal(tmp_path, "[methods.joint]", changed)
    assert "'nothing', which is not among the methods" in refusal(tmp_path, '["joint", "C-l2"]', '["nothing"]')
    head = TINY[: TINY.index("[[tables]]")]
    with pytest.raises(FileFormatError, match="no data: name a built-in set"):
        tiny_study(tmp_path, head + TINY[TINY.index("[attack]") :])


def test_names_that_do_not_exist_are_told_once_with_all_other_errors(tmp_path):
    """One line per error, although the file is looked at twice, full and reduced."""
    text = TINY.replace('["joint", "C-l2"]', '["joint", "none"]\nat_most = [["joint", "zzz"], ["yyy", "zzz"]]')
    text = text.replace("epochs = 30", "epocs = 30").replace("steps = 2", "steps = 'two'")
    with pytest.raises(FileFormatError) as caught:
        tiny_study(tmp_path, text)
    methods = "which is not among the methods (C-l2, joint)"
    assert sorted(one.strip() for one in str(caught.value).splitlines()[1:]) == sorted(
        [
            f"line {line(text, 'epocs')}: starts.mlp.epocs: unknown key; did you mean 'epochs'?",
            f"line {line(text, 'two')}: attack.steps: should be a valid integer, got 'two'",
            f"line {line(text, 'never')}: expected.never_worse: speaks of 'none', {methods}",
            f"line {line(text, 'at_most')}: expected.at_most: speaks of 'zzz', 'yyy', {methods}",
        ]
    )


def test_an_error_that_a_cut_would_make_is_not_told(tmp_path):
    """Without the wrong key there would be no data, and no start: consequences, not errors of their own."""
    message = refusal(tmp_path, "[[tables]]", 'datasets = "servo"\n[[tables]]')
    assert len(message.splitlines()) == 2
    message = refusal(tmp_path, "[starts.mlp]", "[starts.mpl]")
    assert [one.split(": ", 1)[1] for one in message.splitlines()[1:]] == [
        "starts.mpl: unknown key; did you mean 'mlp'?"
    ]


def test_what_is_wrong_in_the_reduced_version_alone_is_told_there(tmp_path):
    message = refusal(tmp_path, "trials = 1\n", 'trials = 1\nexpected.never_worse = ["zzz"]\n')
    (said,) = message.splitlines()[1:]
    assert "quick.expected.never_worse: speaks of 'zzz'" in said


ROBUST = TINY.replace('"objectives"', '"robustness"').split("[expected]")[0]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('leader = "zzz"', "leader: speaks of 'zzz', which is not among the methods (C-l2, joint)"),
        ('leader = "joint"\nrivals = ["zzz"]', "rivals: speaks of 'zzz', which is not among the methods (C-l2, joint)"),
        ('leader = "joint"\npublished_leads = [["mine"]]', "published_leads: takes pairs"),
        ('leader = "joint"\npublished_leads = [["mine", "sgd"]]', "published_leads: speaks of 'sgd'"),
        ('published_leads = [["mine", "mlp"]]', "published_leads: leader is missing"),
        ("[published.joint]", "published: unknown key"),
    ],
)
def test_leaders_are_looked_up(tmp_path, keys, said):
    with pytest.raises(FileFormatError) as caught:
        tiny_study(tmp_path, ROBUST.replace("trials = 2", f"trials = 2\n{keys}", 1))
    assert sum(said in one for one in str(caught.value).splitlines()) == 1
    fine = 'leader = "joint"\npublished_leads = [["solar", "mlp"]]'
    assert tiny_study(tmp_path, ROBUST.replace("trials = 2", f"trials = 2\n{fine}", 1)).spec.kind == "robustness"


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileFormatError, match=r"neither a built-in study .* did you mean 'yin-objectives'"):
        load_study("yin-objective")
    with pytest.raises(FileFormatError, match=r"not a TOML file: .*line 2"):
        load_study(write_study(tmp_path, 'kind = "objectives"\ntrials = = 2\n'))
    twice = write_study(tmp_path, TINY.replace("hidden = 4", "hidden = 4\nhidden = 5"))
    with pytest.raises(FileFormatError, match=r"line 4: hidden: stands there a second time, after line 3"):
        load_study(twice)
    with pytest.raises(FileFormatError, match=r"methods\.joint: stands there a second time"):
        load_study(write_study(tmp_path, TINY.replace("[methods.joint]", "[methods.joint]\n[methods.joint]")))
    with pytest.raises(FileFormatError, match=r"line 1: kind: is 'objective': it must be one of 'objectives'"):
        load_study(write_study(tmp_path, 'kind = "objective"\n'))
    with pytest.raises(FileFormatError, match="kind: is missing"):
        load_study(write_study(tmp_path, "trials = 2\n"))
    with pytest.raises(InvalidInputError, match=r"no table \[quick\]"):
        load_study(write_study(tmp_path, TINY[: TINY.index("[quick]")]), quick=True)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(FileFormatError, match="not a text file"):
        load_study(tmp_path / "binary.toml")
    with pytest.raises(InvalidInputError, match="kind must be one of"):
        kind_named("other")
    assert kind_named("objectives") is KINDS["objectives"]


@pytest.mark.parametrize(
    ("old", "new", "key", "error", "match"),
    [
        ('csv = "mine.csv"', 'csv = "none.csv"', "tables.0.csv", FileFormatError, "relative to the study file"),
        ('csv = "mine.csv"', 'csv = "bad.csv"', "tables.0.csv", InvalidInputError, "line 2: column 'a' holds text"),
        (
            'target = "y"',
            'target = "z"',
            "tables.0.target",
            InvalidInputError,
            "has no column 'z': .* are a, b, held, y",
        ),
        ('inputs = ["a", "b"]', 'inputs = ["a", "c"]', "tables.0.inputs", InvalidInputError, "has no column 'c'"),
        (
            'inputs = ["a", "b"]',
            'inputs = ["a", "y"]',
            "tables.0.inputs",
            InvalidInputError,
            "neither target nor test_",
        ),
        ("test_fraction = 0.2", "test_fraction = 0.001", "tables.0.test_fraction", InvalidInputError, "leaves no row"),
        (
            'inputs = ["a", "b"]\ntest_fraction = 0.2',
            'inputs = ["b"]\ntest_column = "a"',
            "tables.0.test_column",
            InvalidInputError,
            "must hold 0 .* and 1",
        ),
        (
            'csv = "mine.csv"',
            'csv = "flat.csv"',
            "tables.0.target",
            InvalidInputError,
            "'y' is 5 in all rows .* nothing to",
        ),
        ("trials = 2\n", 'trials = 2\ndatasets = ["servoo"]\n', "datasets", DatasetError, "Did you mean 'servo'"),
        (
            "trials = 2\n",
            'trials = 2\ndatasets = ["housing"]\n',
            "datasets",
            DatasetError,
            "ethically problematic.* acknowledge_ethics = true at the top",
        ),
    ],
)
def test_data_are_looked_at_before_any_work(tmp_path, old, new, key, error, match):
    text = TINY.replace(old, new, 1)
    (tmp_path / "bad.csv").write_text("a,b,held,y\nx,1,0,1\n")
    (tmp_path / "flat.csv").write_text("a,b,held,y\n" + "".join(f"{i},{i * i},0,5\n" for i in range(20)))
    on = line(text, f"{key.split('.')[-1]} =")
    where = re.escape(f"tiny.toml, line {on}: {key}: ")
    with pytest.raises(error, match=where + ".*" + match):
        run_study(tiny_study(tmp_path, text), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_acknowledged_set_is_warned_of_once(tmp_path):
    from certnet.study.kinds.splits import check_data

    text = TINY.replace("trials = 2", 'trials = 2\ndatasets = ["housing"]\nacknowledge_ethics = true', 1)
    study = tiny_study(tmp_path, text)
    try:
        with pytest.warns(CertnetWarning, match="housing is ethically problematic") as caught:
            check_data(study)
    except DatasetError:
        pytest.skip("the files of the set are not there")
    assert len(caught) == 1


def test_solvers_and_devices_are_looked_at_before_any_work(tmp_path, monkeypatch):
    from certnet.backends import cvxpy_

    monkeypatch.setattr(cvxpy_, "why_unusable", lambda name: f"{name} has no licence")
    text = TINY.replace("[methods.joint]", '[methods.joint]\nsolver = "MOSEK"')
    match = rf"tiny.toml, line {line(text, 'MOSEK')}: methods.joint.solver: MOSEK has no licence"
    with pytest.raises(InvalidInputError, match=match):
        run_study(tiny_study(tmp_path, text), tmp_path / "out")
    pytest.importorskip("torch", reason="PyTorch is not installed (certnet[torch])")
    text = TINY.replace("[starts.mlp]", '[starts.sgd]\ndevice = "cuda:99"\n[starts.mlp]')
    match = rf"line {line(text, 'cuda')}: starts.sgd.device: device 'cuda:99' cannot be used .*: give 'auto' or 'cpu'$"
    with pytest.raises(InvalidInputError, match=match):
        run_study(tiny_study(tmp_path, text), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("hidden = 4", "hiden = 4", "hiden: unknown key; did you mean 'hidden'?"),
        ("[methods.joint]", "[methods.joint]\ncell = 5", "methods.joint.cell: unknown key; did you mean 'cells'?"),
        ('csv = "mine.csv"', 'csv = "mine.csv"\ninput = ["a"]', "tables.0.input: unknown key; did you mean 'inputs'?"),
        ("[attack]", "[attack]\nwidth = 3", "attack.width: unknown key: there are epsilons, norm, restarts, steps"),
        ("[attack]", '[attack]\nnorm = "l22"', "got 'l22'; did you mean 'l2'?"),
        ('["joint", "C-l2"]', '["jont", "C-l2"]', "(C-l2, joint); did you mean 'joint'?"),
        ('"objectives"', '"objective"', "did you mean 'objectives'?"),
    ],
)
def test_the_nearest_key_or_word_is_named(tmp_path, old, new, said):
    assert refusal(tmp_path, old, new).endswith(said)


def test_a_table_is_told_the_nearest_column(tmp_path):
    study = tiny_study(tmp_path, TINY.replace('inputs = ["a", "b"]', 'inputs = ["a", "helt"]'))
    with pytest.raises(InvalidInputError, match=r"has no column 'helt': .* did you mean 'held'\?"):
        run_study(study, tmp_path / "out")


def test_a_byte_order_mark_is_read(tmp_path):
    path = write_study(tmp_path)
    plain = load_study(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    marked = load_study(path)
    assert (marked.spec, marked.text) == (plain.spec, plain.text)


def test_a_place_in_the_reduced_version(tmp_path):
    text = TINY + "weights = [0.1]\n"
    study = load_study(write_study(tmp_path, text), quick=True)
    assert study.place("weights").endswith(f"tiny.toml, line {line(text, 'weights = [0.1]')}: quick.weights")
    assert study.place("tables", 0, "csv").endswith(f"line {line(text, 'csv =')}: tables.0.csv")


def test_columns_that_are_not_used_may_hold_anything(tmp_path):
    study = tiny_study(tmp_path)
    rows = (tmp_path / "mine.csv").read_text().splitlines()
    (tmp_path / "mine.csv").write_text("\n".join([f"note,{rows[0]}", *(f"some text,{row}" for row in rows[1:])]))
    from certnet.study.kinds.splits import check_data, split_of

    check_data(study)
    assert split_of(study, "mine", 0).load(tmp_path).feature_names == ("a", "b")
    with pytest.raises(InvalidInputError, match="column 'note' holds text"):
        check_data(tiny_study_beside(tmp_path, TINY.replace('inputs = ["a", "b"]\n', "")))


def tiny_study_beside(folder: Path, text: str) -> Any:
    """A study file of its own beside the table that is there."""
    (folder / "other.toml").write_text(text)
    return load_study(folder / "other.toml")


def test_a_mask_column_is_no_input_and_the_same_for_all_trials(tmp_path):
    from certnet.study.kinds.splits import split_of

    text = TINY.replace("test_fraction = 0.2", 'test_column = "held"').replace('inputs = ["a", "b"]\n', "")
    study = tiny_study(tmp_path, text)
    first, second = (split_of(study, "mine", trial).load(tmp_path) for trial in (0, 1))
    assert first.feature_names == ("a", "b")
    assert (len(first.y_train), len(first.y_test)) == (30, 10)
    assert (first.X_test == second.X_test).all()
    drawn = tiny_study(tmp_path)
    one, two = (split_of(drawn, "mine", trial).load(tmp_path) for trial in (0, 1))
    assert len(one.y_test) == 8
    assert (one.X_test != two.X_test).any()


def test_words_do_not_change_a_study_and_numbers_and_data_do(tmp_path):
    study = tiny_study(tmp_path)
    assert tiny_study(tmp_path, 'title = "Mine"\n' + TINY).digest == study.digest
    assert tiny_study(tmp_path, TINY.replace("seed", "seed")).digest == study.digest
    assert tiny_study(tmp_path, "seed = 1\n" + TINY).digest != study.digest
    (tmp_path / "mine.csv").write_text((tmp_path / "mine.csv").read_text().replace("0.", "1.", 1))
    assert load_study(tmp_path / "tiny.toml").digest != study.digest


# ------------------------------------------------------------------------------------------------- lines, seeds, shards

TRICKY = '''\
# a comment with [brackets] and key = 1
"quoted key" = 1   # = 2
dotted . "inner" = [
  "a = b", # not a key
  """x
y = 1
""",
]
text = """
[not.a.table]
z = 1
"""
[table]
a = {b = 1, c = [1,
2]}
b.c = 1
[[many]]
n = 0
[many.sub]
x = 1
[[many]]
n = 1
  [[many.deep]]
  y = 'it = is'
'''


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [path, *(leaf for key, one in value.items() for leaf in leaves(one, (*path, key)))]
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return [path, *(leaf for i, one in enumerate(value) for leaf in leaves(one, (*path, i)))]
    return [path]


def test_every_key_has_its_line():
    lines, text = key_lines(TRICKY), TRICKY.splitlines()
    for path in leaves(tomllib.loads(TRICKY))[1:]:
        number = line_of(lines, path)
        assert number is not None
        if path in lines and isinstance(path[-1], str):
            assert path[-1] in text[number - 1], path
    assert lines["many", 1, "n"] == line(TRICKY, "n = 1")
    assert lines["many", 0, "sub", "x"] == line(TRICKY, "x = 1")
    assert lines["many", 1, "deep", 0, "y"] == line(TRICKY, "it = is")
    assert lines["text",] == line(TRICKY, 'text = """')
    assert not any("not" in path or "z" in path for path in lines)
    assert line_of(lines, ("table", "a", "c")) == lines["table", "a"]
    assert line_of(lines, ("nowhere",)) is None


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.one_of(st.integers(), st.text("ab\n#=[]'", max_size=6), st.lists(st.text("x[]#", max_size=3), max_size=3)),
        max_size=6,
    )
)
def test_lines_of_generated_files(content):
    import json

    rows, where = [], {}
    for key, value in content.items():
        where[key,] = len("\n".join(rows).splitlines()) + 1 if rows else 1
        rows.append(f"{key} = {json.dumps(value)}")
        rows.append("# [comment] = ''' \"\"\"")
    text = "\n".join(rows) + "\n"
    assert tomllib.loads(text) == content
    assert key_lines(text) == where


def test_seeds_depend_on_names_alone():
    assert seed_for(0, "servo", 3) == 3098472777  # written down: a change would make every stored row another one
    assert len({seed_for(0, "servo", k) for k in range(50)} | {seed_for(1, "servo", k) for k in range(50)}) == 100
    assert seed_for(0, "a", "bc") != seed_for(0, "ab", "c")


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_shards_are_disjoint_complete_and_closed_under_needs(parts):
    study = load_study("yin-robustness", quick=True)
    tasks = kind_of(study).tasks(study)
    shards = [{task.digest for task in shard(tasks, part, parts)} for part in range(1, parts + 1)]
    assert sum(map(len, shards)) == len(set.union(*shards)) == len(tasks)
    for part in range(parts):
        assert all(set(task.needs) <= shards[part] for task in tasks if task.digest in shards[part])


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "a/b", "1/2/3"])
def test_shards_that_are_none(text):
    with pytest.raises(InvalidInputError, match="shard"):
        parse_shard(text)


PAGE = Path(__file__).parent.parent / "docs" / "studies.md"
needs_page = pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not beside the tests")


def documented() -> list[str]:
    """The study files on the page."""
    return [part.split("```")[0] for part in PAGE.read_text(encoding="utf-8").split("```toml\n")[1:]]


@needs_page
def test_the_documented_study_is_valid(tmp_path):
    text = documented()[0]
    path = write_study(tmp_path, text, "rent.toml")
    assert load_study(path).spec.trials == 5
    assert load_study(path, quick=True).spec.trials == 1
    wrong = text.replace("epsilons =", "epsilon =").replace("epochs = 300", 'epochs = "many"')
    with pytest.raises(FileFormatError) as caught:
        load_study(write_study(tmp_path, wrong, "rent.toml"))
    shown = PAGE.read_text(encoding="utf-8").split("error: rent.toml")[1].split("```")[0]
    assert [one.strip() for one in str(caught.value).splitlines()[1:]] == [
        one.strip() for one in shown.strip().splitlines()[1:]
    ]


@needs_page
def test_the_page_has_a_study_of_every_kind_and_names_every_key(tmp_path):
    (tmp_path / "rent.csv").write_text("area,rooms,rent\n" + "".join(f"{i},{i % 3},{i * i}\n" for i in range(40)))
    seen = set()
    for number, text in enumerate(documented()):
        study = load_study(write_study(tmp_path, text, f"{number}.toml"), quick=True)
        assert kind_of(study).tasks(study)
        seen.add(study.spec.kind)
    assert seen == set(KINDS)
    page = PAGE.read_text(encoding="utf-8")
    for kind in KINDS.values():
        for key in kind.model.model_fields:
            assert f"`{key}`" in page or f"`{key}." in page, (kind.name, key)


@needs_page
def test_the_page_says_which_kinds_refuse_which_shared_keys(tmp_path):
    """Every cell of the column "Refused by", tried; the pages' own examples are the studies."""
    (tmp_path / "rent.csv").write_text("area,rooms,rent\n" + "".join(f"{i},{i % 3},{i * i}\n" for i in range(40)))
    keys = {
        "datasets": 'datasets = ["servo"]',
        "tables": 'tables = [{ name = "other", csv = "rent.csv", target = "rent" }]',
        "acknowledge_ethics": "acknowledge_ethics = false",
        "time_limit": "time_limit = 5.0",
        "attack": "attack = { steps = 3 }",
    }
    lines = PAGE.read_text(encoding="utf-8").split("## Keys of all kinds")[1].split("## ")[0].splitlines()
    said = {line.split("`")[1]: line.rsplit("|", 2)[1] for line in lines if line.startswith("| `")}
    for text in documented():
        kind = text.split('"')[1]
        for key, value in keys.items():
            if f"[{key}]" in text or f"[[{key}]]" in text:
                continue  # used there, so not refused
            path = write_study(tmp_path, f"{value}\n{text}", "one.toml")
            try:
                load_study(path)
                refused = False
            except FileFormatError as error:
                refused = key in str(error)
            assert refused == (f"`{kind}`" in said[key]), (kind, key)
