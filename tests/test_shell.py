"""The shell's side of all commands: choices, names of options, completion, and the words of refusals."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from test_cli import model, network, run  # noqa: F401
from typer.main import get_command

from certnet import cli
from certnet.certification.bracket import FORMS, NORMS
from certnet.certification.features import METHODS as SLOPES
from certnet.certification.methods import AUTO
from certnet.certification.methods import METHODS as BOUNDS
from certnet.cli import choices
from certnet.cli.words import in_shell_words
from certnet.core.spelling import did_you_mean
from certnet.lifted.bounds.bracket import METHODS as LIFTED
from certnet.lifted.learn.optimisers import OPTIMISERS, SCHEDULES
from certnet.programs.loss import LOSSES
from certnet.refinement.efforts import EFFORTS
from certnet.refinement.refinement import KEPT, METHODS
from certnet.solvers.box import SOLVERS as BOXES
from certnet.solvers.choice import SOLVERS
from certnet.study.runner import BACKENDS

PAGE = Path(__file__).parent.parent / "docs" / "howto.md"


@pytest.mark.parametrize(
    ("choice", "known"),
    [
        (choices.Norm, NORMS),
        (choices.CertifyMethod, (AUTO, *BOUNDS, *(name for name in SLOPES if name != AUTO))),
        (choices.SolverName, SOLVERS),
        (choices.Form, FORMS),
        (choices.RefineMethod, METHODS),
        (choices.Loss, LOSSES),
        (choices.LiftedMethod, LIFTED),
        (choices.BoxSolver, tuple(BOXES)),
        (choices.Optimizer, tuple(OPTIMISERS)),
        (choices.Schedule, tuple(SCHEDULES)),
        (choices.WorkersOf, BACKENDS),
        (choices.Effort, tuple(EFFORTS)),
    ],
)
def test_choices_are_those_that_the_package_knows(choice, known):
    assert get_args(choice) == tuple(known)


def test_what_is_kept_is_what_the_package_keeps():
    assert [part.value.replace("-", " ") for part in choices.KeptPart] == list(KEPT)


def commands() -> Iterator[tuple[str, Any]]:
    """All commands by their words, loaded."""
    for name in cli._COMMANDS:
        command = cli._loaded(name)
        for word, sub in getattr(command, "commands", {"": command}).items():
            yield f"{name} {word}".strip(), sub


def options() -> dict[str, dict[str, Any]]:
    """By option, then by command: its type, as help shows it."""
    found: dict[str, dict[str, Any]] = {}
    for words, command in commands():
        for param in command.params:
            for option in param.opts:
                if option.startswith("--"):
                    found.setdefault(option, {})[words] = param
    return found


# of one name and several kinds; all others are the same everywhere
_SEVERAL_KINDS = {
    "--method": "bounds, refinements and lifted networks are made by other methods each",
    "--solver": "lifted infer solves other programs",
    "--radius": "lifted certify tells several about the samples of a classifier",
    "--data": "an image set by name in lifted certify",
    "--target": "one for every output in refine",
    "--units": "of hidden units in lifted train",
}


def _without_none(hint: Any) -> Any:
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return kinds[0] if isinstance(hint, UnionType) and len(kinds) == 1 else hint


def test_an_option_is_of_one_kind_wherever_it_is():
    kinds: dict[str, set[Any]] = {}
    for _, command in commands():
        hints = get_type_hints(command.callback)
        for param in command.params:
            for option in param.opts:
                if option.startswith("--") and param.name in hints:
                    kinds.setdefault(option, set()).add(_without_none(hints[param.name]))
    assert {option for option, found in kinds.items() if len(found) > 1} == set(_SEVERAL_KINDS)


def test_choices_ignore_case_wherever_they_are():
    found = {}
    for words, command in commands():
        hints = get_type_hints(command.callback, include_extras=True)
        for name, hint in hints.items():
            kind, *more = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            kinds = [get_args(one) or (one,) for one in (kind, *get_args(kind))]
            if any(isinstance(value, str) and value.isalpha() for one in kinds for value in one) or "KeptPart" in str(
                kind
            ):
                found[f"{words} {name}"] = more[-1].case_sensitive
    assert len(found) > 15
    assert not [name for name, sensitive in found.items() if sensitive]


def test_flags_show_no_value(run):  # noqa: F811
    for words in ("", "certify", "refine", "check", "lifted", "lifted train", "study", "study run"):
        code, out, _ = run(*words.split(), "--help")
        assert code == 0
        assert "--help" in out
        assert "<bool>" not in out, words
    assert "<path>" in run("certify", "--help")[1]


def test_worker_processes_and_threads_have_one_name_each():
    found = options()
    assert {"certify", "study run", "study resume"} <= set(found["--n-jobs"])
    assert set(found["--jobs"]) == set(found["--n-jobs"])
    assert set(found["--threads"]) == {"lifted train", "lifted infer"}


def test_every_word_of_a_refusal_is_the_shells():
    for python, shell in (
        ("exact=True is for dense layers", "--exact is for dense layers"),
        (
            'method="shallow" needs no solver: leave solver="auto"',
            "--method shallow needs no solver: leave --solver auto",
        ),
        ("say which, key='a' or, in a shell, --key a", "say which, --key a"),
        ("pass batch_norm_eps=1e-5 or, in a shell, --batch-norm-eps 1e-5, if", "pass --batch-norm-eps 1e-5, if"),
        ("n_jobs must be a number", "--n-jobs must be a number"),
        ("layers=['a', 'b']: wrong", "--layer a --layer b: wrong"),
        ("hidden_layer_sizes[0] must be at least 1", "--layers must be at least 1"),
        ("name the layers of one path, layers=[...]", "name the layers of one path, --layer"),
        ("batch_size is 10", "--batch-size is 10"),
        ("--time-limit 3 is over", "--time-limit 3 is over"),
        ("x.toml, line 3: starts.sgd: learning_rate must be", "x.toml, line 3: starts.sgd: learning_rate must be"),
        ("d.csv, line 3: column 'a' holds text: by columns=", "d.csv, line 3: column 'a' holds text: by --drop"),
    ):
        assert in_shell_words(python) == shell
        assert in_shell_words(shell) == shell


def test_the_nearest_name():
    assert did_you_mean("Wieght", ["weight", "width"]) == "; did you mean 'weight'?"
    assert did_you_mean("WEIGHT", ["weight"]) == "; did you mean 'weight'?"
    assert did_you_mean("zzz", ["weight"]) == ""
    assert did_you_mean(3, ["weight"]) == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("certnet cer", ["certify"]),
        ("certnet study sta", ["status"]),
        ("certnet certify m.npz --norm l", ["l2", "linf"]),
        ("certnet lifted infer n.npz mnist --solver o", ["osqp"]),
        ("certnet refine m.npz --mono", ["--monotone"]),
    ],
)
def test_completion(words, expected):
    given = {"_CERTNET_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    script = "import sys; from certnet.__main__ import main; sys.argv = ['certnet']; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == expected, done.stderr


def test_completion_can_be_installed():
    script = "import sys; from certnet.__main__ import main; sys.argv = ['certnet', *sys.argv[1:]]; main()"
    words = [sys.executable, "-c", script, "--show-completion", "bash"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert "_CERTNET_COMPLETE=complete_bash" in done.stdout, done.stderr
    assert "--install-completion" in {option for param in get_command(cli.app).params for option in param.opts}


def completed(tmp_path: Path, *words: str, home: Path | None = None) -> tuple[int, str, str]:
    script = "import sys; from certnet.__main__ import main; sys.argv = ['certnet', *sys.argv[1:]]; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        env=os.environ | {"HOME": str(home or tmp_path), "USERPROFILE": str(home or tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_completion_is_installed_for_the_shell_that_is_named(tmp_path):
    code, out, err = completed(tmp_path, "--install-completion", "zsh")
    assert code == 0, err
    assert "zsh completion installed" in out
    assert (tmp_path / ".zfunc" / "_certnet").exists()
    assert not (tmp_path / ".bashrc").exists()
    code, out, err = completed(tmp_path, "--install-completion", "zhs")
    assert code == 2
    assert "is for bash, zsh, fish" in err
    assert "did you mean 'zsh'?" in err
    assert completed(tmp_path, "--show-completion", "fish")[1].startswith("complete --command certnet")


def test_completion_that_cannot_be_written_is_one_plain_line(tmp_path):
    home = tmp_path / "home"
    home.write_text("a file, in which there is no .bashrc")
    code, out, err = completed(tmp_path, "--install-completion", "bash", home=home)
    assert (code, out) == (2, "")
    assert err.startswith("error: completion was not installed (")
    assert "--show-completion" in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1


# ---------------------------------------------------------------------------------------------------- exit codes


@pytest.mark.parametrize("words", [words for words, _ in commands()])
def test_misuse_ends_with_2(run, words):  # noqa: F811
    code, out, err = run(*words.split(), "--no-such-option")
    assert (code, out) == (2, "")
    assert "No such option: --no-such-option" in err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("certify", "absent.npz"), 2),
        (("check", "absent.json", "absent.npz"), 2),
        (("refine", "absent.npz", "--data", "d.csv", "--target", "y", "--out", "r.npz"), 2),
        (("lifted", "infer", "absent.npz", "mnist"), 2),
        (("lifted", "certify", "absent.npz"), 2),
        (("lifted", "filters", "absent.npz", "--out", "p.png"), 2),
        (("lifted", "train", "absent.npz", "--out", "n.npz"), 2),
        (("study", "status", "absent"), 2),
        (("study", "run", "absent"), 2),
        (("no-such-command",), 2),
        (("--version",), 0),
    ],
)
def test_what_is_not_there_ends_with_2(run, tmp_path, monkeypatch, words, code):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    assert run(*words)[0] == code


def test_an_error_of_certnets_own_is_no_verdict(run, model, monkeypatch):  # noqa: F811
    """Python exits with 1 after a traceback, and 1 says that a certificate does not hold."""
    monkeypatch.setattr("certnet.cli.certify.certify", lambda *_, **__: 1 / 0)
    code, _, err = run("certify", model)
    assert code == 70
    assert "ZeroDivisionError" in err
    assert "please report it" in err


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not beside the tests")
def test_the_table_of_exit_codes_is_that_of_help(run):  # noqa: F811
    table = PAGE.read_text(encoding="utf-8").split("| Exit code |")[1]
    told = {line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")}
    said = " ".join(run("--help")[1].split()).split("Exit codes:")[1].split(".")[0]
    assert told == set(re.findall(r"\b\d+\b", said)) == {"0", "1", "2", "3", "70", "130"}
