"""An ONNX graph as a network: chains of dense layers here, others by :mod:`certnet.io.onnx_paths`; plain data alone."""

from __future__ import annotations

from typing import Final

from certnet.core.errors import FileFormatError, InvalidInputError, UnsupportedModelError
from certnet.io import expressions as formula
from certnet.io.onnx_chain import Chain, Graph, Layers
from certnet.io.onnx_constants import FOLDED, SHAPES, Node
from certnet.io.onnx_formulas import FORMULAS, FORMULAS_ONLY, term_of
from certnet.io.onnx_operators import READERS
from certnet.io.onnx_paths import ON_PATHS, Paths, meets, paths_of
from certnet.io.onnx_refused import reason
from certnet.networks.activations import Activation

__all__ = ["MORE_OUTPUTS", "OPERATORS", "SUPPORTED", "Graph", "Layers", "Node", "Paths", "layers_of", "read_graph"]

_MAX_FORMULA: Final = 24
"""Most operators of an activation that is written as a formula."""
MORE_OUTPUTS: Final = ("Dropout", "BatchNormalization", "MaxPool", "Split")
"""Operators that may have outputs beside the first; nothing is made of them, but of those of Split."""


def read_graph(graph: Graph) -> Layers | Paths:
    """The function that a graph computes: layers where it is a chain of dense ones, else values whose paths meet.

    Raises
    ------
    UnsupportedModelError, FileFormatError, InvalidInputError
        As :func:`layers_of` and :func:`~certnet.io.onnx_paths.paths_of`; what a chain is refused for is said where no
        paths meet.
    """
    try:
        return layers_of(graph)
    except UnsupportedModelError as error:
        try:
            return paths_of(graph)
        except (UnsupportedModelError, FileFormatError, InvalidInputError) as other:
            raise (other if meets(graph) else error) from None


def layers_of(graph: Graph) -> Layers:
    """Layers of the function that the graph computes in real arithmetic.

    Raises
    ------
    UnsupportedModelError
        The graph is no chain, or an operator is used in a way that is no affine map or activation of one sample.
    FileFormatError, InvalidInputError
        Shapes that do not fit; constants that are NaN or infinite.
    """
    chain = Chain(graph)
    k = 0
    while k < len(graph.nodes):
        k = _follow(chain, k)
    return chain.finish(graph.output)


def _follow(chain: Chain, k: int) -> int:
    """Go past node k, or past the formula that begins there; the next node."""
    node = chain.nodes[k]
    if chain.without_data(node):
        return k + 1
    if chain.left_out and node.operator not in ("Identity", "Cast"):
        raise UnsupportedModelError(
            f"{node} works on the result of the {chain.left_out} before it, which is no layer of a feed-forward "
            f"network unless it is the last{reason(node.operator)}"
        )
    if _begins_formula(chain, k):
        return _formula(chain, k)
    data = chain.data_of(node)
    if data != [chain.value]:
        raise _branches(chain, node, data)
    if node.operator not in READERS:
        raise UnsupportedModelError(
            f"{node} works on data, which is supported for constants only{reason(node.operator)}; {SUPPORTED}"
        )
    READERS[node.operator](chain, node)
    if any(chain.uses[name] for name in node.more_outputs):
        raise UnsupportedModelError(f"{node} has a second output that is used: export it in evaluation mode")
    chain.reach(node.output)
    return k + 1


def _branches(chain: Chain, node: Node, data: list[str]) -> UnsupportedModelError:
    taken = ", ".join(repr(name[:80]) for name in data)
    if node.operator in ("Add", "Sub", "Mul") and len(data) == 2:
        verb = "multiplies" if node.operator == "Mul" else "adds"
        why = f": it {verb} two branches, such as a skip connection"
    else:
        why = reason(node.operator)
    return UnsupportedModelError(
        f"{node} takes {taken}, the value before it is {chain.value[:80]!r}{why}: certnet reads chains of operators, "
        "without branches"
    )


def _begins_formula(chain: Chain, k: int) -> bool:
    """Does the value go into several operators, or into one that occurs in formulas alone?"""
    node = chain.nodes[k]
    if chain.value not in node.inputs or node.operator not in FORMULAS:
        return False
    if chain.uses[chain.value] > 1 or node.operator in FORMULAS_ONLY:
        return True
    logarithm = node.operator == "Sigmoid" and k + 1 < len(chain.nodes) and chain.nodes[k + 1].operator == "Log"
    return logarithm and chain.nodes[k + 1].inputs == (node.output,) and chain.uses[node.output] == 1


def _formula(chain: Chain, start: int) -> int:
    """Activation of the shortest run of operators from ``start`` on that computes one; the next node."""
    found: dict[str, formula.Poly] = {chain.value: formula.X}
    left = {chain.value: chain.uses[chain.value]}
    for k in range(start, min(start + 2 * _MAX_FORMULA, len(chain.nodes))):
        node = chain.nodes[k]
        if chain.without_data(node):
            continue
        data = chain.data_of(node)
        if node.operator not in FORMULAS or not all(name in found for name in data):
            raise _no_formula(chain, node, start)
        try:
            made = FORMULAS[node.operator](chain, node, [term_of(chain, node, name, found) for name in node.inputs])
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{node}: {error}") from error
        found[node.output], left[node.output] = made, chain.uses[node.output]
        for name in data:
            left[name] -= 1
        if any(n > 0 for name, n in left.items() if name != node.output):
            continue
        known = formula.recognise(made) if isinstance(made, tuple) else None
        if known is not None:
            chain.scale(known.inner)
            chain.activate(Activation(known.name), node)
            chain.scale(known.outer)
            chain.reach(node.output)
            return k + 1
    raise _no_formula(chain, None, start)


def _no_formula(chain: Chain, node: Node | None, start: int) -> UnsupportedModelError:
    """Why the operators from ``start`` on are no activation; ``node`` is the first that occurs in no formula."""
    several = chain.uses[chain.value] > 1
    why = reason(node.operator) if node is not None else ""
    if several and not why:
        why = ": certnet reads chains of operators, without branches such as skip connections or several heads"
    if several:
        return UnsupportedModelError(
            f"the value {chain.value[:80]!r} goes into {chain.uses[chain.value]} operators, the first of them "
            f"{chain.nodes[start]}, which make up no activation that certnet knows{why}"
        )
    return UnsupportedModelError(f"{chain.nodes[start]} begins a formula that is no activation certnet knows{why}")


OPERATORS: Final = {
    ("ai.onnx.ml" if name == "Scaler" else "", name) for name in (*READERS, *FOLDED, *SHAPES, *FORMULAS, *ON_PATHS)
}
"""Operators that may occur, each with its domain."""
_ALSO: Final = sorted({*FOLDED, *SHAPES} - {*READERS, *ON_PATHS})

SUPPORTED: Final = (
    f"certnet reads {', '.join(dict.fromkeys((*READERS, *ON_PATHS)))} on one input [N, ...], activations written with "
    f"{', '.join(name for name in FORMULAS_ONLY if name not in ON_PATHS)}, and {', '.join(_ALSO)} for weights and "
    "shapes"
)
