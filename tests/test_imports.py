"""The shape of the house: imports point downwards, optional packages stay at one door, and the checker stands alone."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import certnet

ROOT = Path(certnet.__file__).parent

# bottom to top; a part may import from parts of its own line and of the lines before it
LAYERS: list[tuple[str, ...]] = [
    ("_version",),
    ("core",),
    ("networks",),
    ("claims",),
    ("proofs",),
    ("kernels", "backends"),
    ("searches",),
    ("certification",),
    ("programs",),
    ("solvers",),
    ("data",),
    ("rows",),
    ("io",),
    ("refinement",),
    ("train",),
    ("lifted",),
    ("robust",),
    ("estimators",),
    ("plot",),
    ("report",),
    ("study", "demo"),
    ("cli", "errors", "__init__"),
    ("__main__",),
]

# packages that certnet works without, and the only modules that may name them
OPTIONAL = {
    "torch": (
        "backends.torch_",
        "io.torch_",
        "io.torch_tensors",
        "train.classifier_",
        "train.penalty_",
        "train.torch_",
        "lifted.device_",
        "lifted.device_training_",
        "lifted.torch_",
        "lifted.twin_",
    ),
    "onnx": ("io.onnx_",),
    "onnxruntime": ("io.onnx_",),
    "matplotlib": ("plot.figures",),
    "mosek": ("backends.mosek_",),
    "daqp": ("solvers.box.daqp_",),
    "proxsuite": ("solvers.box.proxqp_",),
    "dask": ("rows.dask_", "study.dask_"),
    "distributed": ("rows.dask_", "study.dask_"),
    "pyarrow": ("rows.parquet_", "study.parquet_"),
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def own(dotted: str) -> str | None:
    """The module of certnet that a dotted name is, without the leading ``certnet.``."""
    if dotted == "certnet":
        return "__init__"
    name = dotted.removeprefix("certnet.")
    return name if dotted.startswith("certnet.") and name in MODULES else None


def names_in(node: ast.AST, module: str) -> Iterator[str]:
    """Dotted names that an import statement needs, submodules told from attributes."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{module}: relative imports hide where they point"
        base = node.module or ""
        if base.split(".")[0] == "certnet":
            subs = [alias.name for alias in node.names if own(f"{base}.{alias.name}")]
            yield from (f"{base}.{sub}" for sub in subs)
            if len(subs) == len(node.names):
                return
        yield base


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk(tree: ast.AST, *, inner: bool, types: bool) -> Iterator[ast.AST]:
    """Nodes of a module; those inside functions and under TYPE_CHECKING only where asked for."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not inner:
            continue
        if for_types_only(node) and not types:
            continue
        yield node
        yield from walk(node, inner=inner, types=types)


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imports(module: str, *, inner: bool = True, types: bool = False) -> frozenset[str]:
    tree = tree_of(module)
    return frozenset(name for node in walk(tree, inner=inner, types=types) for name in names_in(node, module))


def own_imports(module: str, **which: bool) -> set[str]:
    return {name for dotted in imports(module, **which) if (name := own(dotted)) is not None and name != module}


def rank(module: str) -> int:
    part = module.split(".")[0]
    found = [i for i, layer in enumerate(LAYERS) if part in layer]
    assert found, f"certnet/{part} has no place in LAYERS: say which parts it stands on"
    return found[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module: str) -> None:
    upward = sorted(name for name in own_imports(module, types=True) if rank(name) > rank(module))
    assert not upward, f"certnet.{module} imports from above itself: {upward}"


def test_no_import_cycle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for name in sorted(own_imports(module)):
                visit(name, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", MODULES)
def test_optional_packages_are_named_in_one_file_and_imported_in_functions(module: str) -> None:
    for dotted in imports(module):
        package = dotted.split(".")[0]
        assert module in OPTIONAL.get(package, (module,)), f"certnet.{module} imports {package}"
    for dotted in imports(module, inner=False):
        assert dotted.split(".")[0] not in OPTIONAL, f"certnet.{module} imports {dotted} when it is imported"


@pytest.mark.parametrize("module", MODULES)
def test_cvxpy_is_imported_in_functions(module: str) -> None:
    assert not {name for name in imports(module, inner=False) if name.split(".")[0] == "cvxpy"}


# what a proof rests on: these folders import each other in this order, NumPy and the standard library, and nothing else
TRUSTED = ("core", "networks", "claims", "proofs")


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] in TRUSTED])
def test_the_trusted_base_stands_alone(module: str) -> None:
    """Not inside a function either."""
    for dotted in imports(module):
        package, *rest = dotted.split(".")
        if package == "certnet":
            assert (rest or [""])[0] in TRUSTED, f"certnet.{module} imports {dotted}"
        else:
            assert package in sys.stdlib_module_names | {"numpy"}, f"certnet.{module} imports {dotted}"


def test_checking_loads_the_trusted_base_alone(tmp_path: Path) -> None:
    certificates = Path(__file__).parent / "certificates"
    script = f"""
import runpy, sys
sys.argv = ["certnet.proofs", {str(certificates / "tree.json")!r}, {str(certificates / "kinks.npz")!r}]
try:
    runpy.run_module("certnet.proofs", run_name="__main__")
except SystemExit as ended:
    assert ended.code == 0, ended.code
own = {{name.split(".")[1] for name in sys.modules if name.startswith("certnet.")}}
assert own == {{"_version", "core", "networks", "claims", "proofs"}}, own
others = {{name.split(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names)
print(*sorted(others))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    loaded = {name for name in done.stdout.splitlines()[-1].split() if not name.startswith(("_", "sphinxcontrib"))}
    assert not loaded & {"scipy", "numba", "sklearn", "cvxpy", "typer", "pydantic", "torch", "joblib"}


def functions_listed(module: str) -> Iterator[str]:
    """Names of ``__all__`` that a module defines as functions."""
    tree = tree_of(module)
    own_functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            yield from (name for name in ast.literal_eval(node.value) if name in own_functions)


@pytest.mark.parametrize("module", MODULES)
def test_no_public_function_bears_the_name_of_a_module(module: str) -> None:
    """``certnet.x`` would be the one or the other, as imports have it."""
    last = module.split(".")[-1]
    beside = {name.rpartition(".")[2] for name in MODULES if name.rpartition(".")[0] == module}
    for name in functions_listed(module):
        assert name != last, f"certnet.{module} holds a function of its own name"
        assert name not in beside, f"certnet.{module} holds the function {name} beside the module {name}"


def names_listed(module: str) -> set[str]:
    for node in tree_of(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


@pytest.mark.parametrize("package", [name for name in MODULES if any(m.startswith(f"{name}.") for m in MODULES)])
def test_no_name_that_a_package_hands_on_is_that_of_a_module_in_it(package: str) -> None:
    """The import of the module, whenever it comes, would take the name."""
    beside = {name.rpartition(".")[2] for name in MODULES if name.rpartition(".")[0] == package}
    assert not names_listed(package) & beside


def test_public_names_of_the_package_hide_no_module() -> None:
    parts = {name.split(".")[0] for name in MODULES}
    assert not parts & set(certnet.__all__)


@pytest.mark.parametrize("module", MODULES)
def test_a_problem_is_data(module: str) -> None:
    """What is minimised, and under which limits, stands in the program: no call repeats it."""
    tree = tree_of(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = {arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)}
            assert not names & {"rho_at_most", "fit_at_most", "mse_at_most"}, f"certnet.{module}.{node.name}"


def test_every_kind_of_proof_is_one_class_in_the_registry() -> None:
    from certnet.claims import kinds

    importlib.import_module("certnet.proofs")
    assert set(kinds.known_kinds("feed-forward")) == {
        *("shallow", "tree", "neuron", "layer", "composition", "product", "regional", "parts"),
    }
    assert set(kinds.known_kinds("lifted")) == {"sdp", "layerwise", "theorem"}
    homes = {cls.__module__ for cls in kinds._KINDS.values()}
    assert all(home.startswith("certnet.proofs.") for home in homes)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__main__"}))
def test_public_names_are_listed_and_exist(module: str) -> None:
    if not tree_of(module).body[1:]:  # a docstring alone, or nothing
        return
    listed = next(
        (
            ast.literal_eval(node.value)
            for node in tree_of(module).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ),
        None,
    )
    if module == "_version":
        return
    assert listed is not None, f"certnet.{module} has no __all__"
    assert len(set(listed)) == len(listed)
    loaded = importlib.import_module("certnet" if module == "__init__" else f"certnet.{module}")
    missing = [name for name in listed if not hasattr(loaded, name)]
    assert not missing, f"certnet.{module} lists {missing} and does not define them"


@pytest.mark.parametrize("module", MODULES)
def test_no_assert_and_no_print(module: str) -> None:
    tree = tree_of(module)
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"certnet.{module}:{node.lineno}: python -O drops an assert"
        called = node.func if isinstance(node, ast.Call) else None
        assert not (isinstance(called, ast.Name) and called.id == "print"), f"certnet.{module} prints"


def test_the_walker_sees_what_it_should() -> None:
    text = "import a\ndef f():\n    from b.c import d\nif TYPE_CHECKING:\n    import e\n"
    tree = ast.parse(text)

    def seen(**which: bool) -> set[str]:
        return {name for node in walk(tree, **which) for name in names_in(node, "text")}

    assert seen(inner=False, types=False) == {"a"}
    assert seen(inner=True, types=False) == {"a", "b.c"}
    assert seen(inner=True, types=True) == {"a", "b.c", "e"}
    assert own("certnet.proofs.shallow") == "proofs.shallow"
    assert own("certnet.proofs.shallow.BoundChecker") is None
    assert rank("proofs.shallow") > rank("networks.shallow") > rank("core.errors")


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_certnet_is_lazy() -> None:
    loaded = loaded_after("import certnet")
    assert "certnet" in loaded
    assert not loaded & {"numpy", "scipy", "sklearn", "numba"}


def test_importing_certnet_imports_no_optional_package() -> None:
    loaded = loaded_after("import certnet")
    assert not loaded & {"torch", "matplotlib", "onnx", "mosek", "cvxpy", "pandas", "dask", "distributed"}


def test_certifying_imports_no_optional_package_either() -> None:
    net = "ShallowNetwork([[1.0]], [0.0], [1.0], 0.0)"
    code = f"from certnet import ShallowNetwork, certify\nnet = {net}\nassert certify(net).check(net)"
    assert not loaded_after(code) & {"torch", "matplotlib", "onnx", "mosek", "cvxpy", "pandas"}
