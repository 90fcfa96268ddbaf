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
    "torch": ("io.torch_", "train.torch_", "lifted.torch_", "lifted.twin_"),
    "onnx": ("io.onnx_",),
    "onnxruntime": ("io.onnx_",),
    "matplotlib": ("plot.figures",),
    "mosek": ("backends.mosek_",),
    "daqp": ("solvers.box.daqp_",),
    "proxsuite": ("solvers.box.proxqp_",),
    "dask": ("study.dask_",),
    "distributed": ("study.dask_",),
    "pyarrow": ("study.parquet_",),
}
NOT_BY_THE_CHECKER = {"scipy", "numba", "cvxpy", "clarabel", "scs", "osqp", "mosek", "sklearn", "torch"}


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
def imports(module: str, *, inner: bool = True, types: bool = False) -> frozenset[str]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
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


CHECKERS = {
    f"certify.{name}"
    for name in (
        *("verify", "verify_deep", "verify_chain", "verify_linf", "verify_tree"),
        *("reduce", "claim", "card", "certificate", "sealed"),
    )
} | {f"lifted.bounds.{name}" for name in ("assembly", "verify", "verify_layers", "verify_slope", "certificate")}


@pytest.mark.parametrize("module", sorted(CHECKERS))
def test_the_checker_shares_no_code_with_a_solver(module: str) -> None:
    """Not even through what it imports, and not inside a function either."""
    reached, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo.extend(own_imports(name))
    assert {name.split(".")[0] for name in reached} <= {
        "activations",
        "certify",
        "digits",
        "energy",
        "errors",
        "feedforward",
        "files",
        "lifted",
        "network",
        "validation",
    }
    assert {name for name in reached if name.startswith(("certify", "lifted"))} <= CHECKERS
    for name in reached:
        used = {dotted.split(".")[0] for dotted in imports(name)}
        assert not used & NOT_BY_THE_CHECKER, f"certnet.{name} imports {used & NOT_BY_THE_CHECKER}"


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__main__"}))
def test_public_names_are_listed_and_exist(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    if not ast.parse(text).body[1:]:  # a docstring alone, or nothing
        return
    listed = next(
        (
            ast.literal_eval(node.value)
            for node in ast.parse(text).body
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
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
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


def test_importing_certnet_imports_no_optional_package() -> None:
    loaded = loaded_after("import certnet")
    assert "certnet" in loaded
    assert not loaded & {"torch", "matplotlib", "onnx", "mosek", "cvxpy", "pandas", "dask", "distributed"}


def test_certifying_imports_no_optional_package_either() -> None:
    net = "ShallowNetwork([[1.0]], [0.0], [1.0], 0.0)"
    code = f"from certnet import ShallowNetwork, certify\nnet = {net}\nassert certify(net).check(net)"
    assert not loaded_after(code) & {"torch", "matplotlib", "onnx", "mosek", "cvxpy", "pandas"}
