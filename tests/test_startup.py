"""What is loaded when: a command loads its own module, and what that needs; nothing is timed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from certnet import cli

CERTIFICATES = Path(__file__).parent / "certificates"
_SHELL = {f"certnet.cli.{name}" for name in ("terminal", "choices", "commands", "words")}
HEAVY = {"scipy", "sklearn", "numba", "cvxpy", "joblib", "pandas", "matplotlib", "torch", "onnx", "dask", "pyarrow"}


def loaded_after(*words: str) -> set[str]:
    """Modules that ``certnet WORDS`` has loaded when it ends with success."""
    script = f"""
import sys
from certnet.__main__ import main
sys.argv = ["certnet", *{list(words)!r}]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_help_and_version_load_neither_commands_nor_numbers(words: tuple[str, ...]) -> None:
    loaded = loaded_after(*words)
    assert not loaded & {*HEAVY, "numpy"}
    assert {name for name in loaded if name.startswith("certnet.cli.")} <= _SHELL


def test_check_loads_what_a_proof_rests_on() -> None:
    loaded = loaded_after("check", str(CERTIFICATES / "tree.json"), str(CERTIFICATES / "kinks.npz"))
    assert not loaded & {*HEAVY, "rich", "numpy.ma"}
    parts = {name.split(".")[1] for name in loaded if name.startswith("certnet.")}
    assert not parts & {"searches", "certification", "kernels", "lifted", "refinement", "rows", "train", "estimators"}


def test_certify_loads_the_searches_of_its_method_alone() -> None:
    loaded = loaded_after("certify", str(CERTIFICATES / "kinks.npz"))
    assert "certnet.searches.shallow" in loaded
    assert not loaded & {"numba", "scipy.linalg", "scipy.sparse", "scipy.optimize", "sklearn", "joblib", "pandas"}
    assert not loaded & {"matplotlib", "urllib.request"}
    assert not loaded & {"certnet.searches.vectors", "certnet.searches.branch", "certnet.searches.parts"}
    assert not {name for name in loaded if name.startswith("certnet.io.") and name.split(".")[2] in ("onnx_", "torch_")}


@pytest.mark.parametrize("name", cli._COMMANDS)
def test_the_line_of_a_command_is_the_first_of_its_own_help(name: str) -> None:
    assert (cli._loaded(name).help or "").partition("\n\n")[0].replace("\n", " ") == cli._COMMANDS[name][1]


def test_help_lists_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "certnet", "--help"], capture_output=True, text=True, timeout=120, check=True
    )
    for name in cli._COMMANDS:
        assert f" {name} " in done.stdout
    assert list(get_command(cli.app).commands) == list(cli._COMMANDS)


def test_a_certificate_is_read_in_a_process_that_has_loaded_nothing_else() -> None:
    """The kinds of proof are registered by then."""
    script = f"""
from certnet import Certificate, ShallowNetwork
certificate = Certificate.load({str(CERTIFICATES / "tree.json")!r})
assert certificate.check(ShallowNetwork.load({str(CERTIFICATES / "kinks.npz")!r}))
"""
    subprocess.run([sys.executable, "-c", script], timeout=120, check=True)


@pytest.mark.parametrize("package", ["certification", "data", "io", "lifted", "refinement"])
def test_packages_hand_their_names_on_when_they_are_used(package: str) -> None:
    script = f"""
import sys
import certnet.{package} as package
within = [name for name in sys.modules if name.startswith("certnet.{package}.")]
assert not within, within
assert set(package.__all__) <= set(dir(package))
try:
    package.nothing_of_the_kind
except AttributeError as error:
    assert "nothing_of_the_kind" in str(error)
else:
    sys.exit(1)
"""
    subprocess.run([sys.executable, "-c", script], timeout=120, check=True)
