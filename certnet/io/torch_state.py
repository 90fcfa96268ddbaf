"""The layers that the names and shapes of a state dict tell, or a refusal: a state dict is not a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.io.affine import Dense, Scale, Shift, Step, fold
from certnet.io.networks import build
from certnet.networks.about import About
from certnet.networks.activations import Activation, activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

__all__ = ["Activations", "Entry", "batch_norm_steps", "described", "network_of_state", "spelled"]

Activations = str | Activation | Sequence[str | Activation | tuple[float, float]]
"""One activation for all hidden layers, or one for each."""

_MODULE: Final = "pass the module itself, from_torch(module), which tells what it computes"
_STATISTICS: Final = ("running_mean", "running_var")
_NAMES_SHOWN: Final = 12
_BESIDE: Final = re.compile(
    r"(?:^|[._])((heads|branches|experts|towers|critics|actors|members)\.|(head|branch|expert|tower|critic|actor|qf?)_?)#",
    re.IGNORECASE,
)
"""Numbers behind these words count what stands side by side."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A tensor of a state dict: its shape, and its float64 values on demand (the argument names it in messages)."""

    shape: tuple[int, ...]
    values: Callable[[str], Float]


@dataclass(eq=False)
class _Group:
    """The entries of one prefix, ``prefix.weight`` and so on."""

    prefix: str
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def normalises(self) -> bool:
        return any(kind in self.entries for kind in _STATISTICS)

    @property
    def outputs(self) -> int:
        return self.entries["weight"].shape[0]

    @property
    def inputs(self) -> int:
        return self.entries["weight"].shape[1]

    @property
    def numbered(self) -> tuple[str, int]:
        """The prefix with its last number left out, and that number (−1 where there is none)."""
        found = list(re.finditer(r"[0-9]{1,18}", self.prefix))
        if not found:
            return self.prefix, -1
        start, end = found[-1].span()
        return f"{self.prefix[:start]}#{self.prefix[end:]}", int(self.prefix[start:end])

    def steps(self, names: tuple[str, str]) -> list[Step]:
        weight = self.entries["weight"].values(names[0])
        if "bias" not in self.entries:
            return [Dense(weight)]
        bias = self.entries["bias"].values(names[1])
        if bias.shape != weight.shape[:1]:
            raise InvalidInputError(f"{names[1]} has shape {bias.shape}, and {names[0]} has {len(weight)} rows")
        return [Dense(weight), Shift(bias)]


def network_of_state(
    entries: Mapping[str, Entry],
    *,
    activations: Activations | None,
    layers: Sequence[str] | None,
    batch_norm_eps: float | None,
    units: str,
    source: str = "state",
) -> ShallowNetwork | FeedForward:
    """The network of a state dict of linear layers, as far as names and shapes are certain.

    The layers are the prefixes that have a ``weight`` of two dimensions (and a ``bias`` of one); their order is

    1. that of ``layers``, where it is given; it may leave layers out, which the remarks of the network then name;
    2. otherwise that of names and shapes, never that of the mapping. Prefixes that differ in nothing but their last
       number (``net.0``, ``net.2``, ``net.10``) are one group, in the order of the numbers, and must chain in it;
       numbers behind words such as ``heads.`` or ``critic`` count what stands side by side, and are refused. A prefix
       without a number is a group alone. Groups are joined by their shapes, if in exactly one order each takes what
       the one before gives. Two groups that take equally many inputs may be heads beside each other (mean and
       deviation, actor and critic) or change places; two orders that chain are as doubtful: both are refused.

    BatchNorm (``running_mean``, ``running_var``) is read with ``batch_norm_eps`` if its place is certain: the prefixes
    end in numbers, as in nn.Sequential, and BatchNorm's number is next to that of one linear layer alone, so the
    activation is on the other side.

    Raises
    ------
    UnsupportedModelError
        ``activations`` is None; the order is doubtful; other entries; shapes that do not chain.
    InvalidInputError
        ``layers`` or ``activations`` do not fit; weights that are NaN or infinite.
    """
    groups = _groups(entries)
    if layers is not None:
        order, left_out = _chosen(groups, layers)
    else:
        _check_kinds(groups, entries)
        order, left_out = _ordered([group for group in groups.values() if not group.normalises], source), []
    norms = [group for group in groups.values() if group.normalises and group.prefix not in left_out]
    _check_chain(order)
    read = _joined((order[0].inputs, *(group.outputs for group in order)))
    places = _places(order, norms, batch_norm_eps)
    if activations is None:
        raise UnsupportedModelError(
            f"the state dict holds layers {read} ({_listed([group.prefix for group in order])}), and does not tell the "
            f'activations between them: say which, as in from_torch({source}, activations="relu") or, in a shell, '
            f"--activation relu; or {_MODULE}"
        )
    phis = _phis(activations, len(order) - 1)
    segments = _segments(order, norms, places, batch_norm_eps)
    folded = [fold(segment) for segment in segments]
    about = About(
        read=f"{read}, {spelled(phis)}, from {_listed([_entry(g.prefix, 'weight') for g in order])}",
        remarks=(
            *(
                f"BatchNorm {norm.prefix} is read {'behind' if behind else 'before'} {order[k].prefix}, with eps = "
                f"{batch_norm_eps:g}"
                for norm, (k, behind) in zip(norms, places)
            ),
            *([f"left out: {_listed(left_out)}"] if left_out else []),
        ),
    )
    return build([W for W, _ in folded], [b for _, b in folded], phis, units, about)


def spelled(phis: Sequence[Activation]) -> str:
    """The activations in words: once where they are all the same."""
    names = list(map(str, phis))
    return names[0] if len(set(names)) == 1 else _listed(names)


def described(widths: Sequence[int], phis: Sequence[Activation], source: str, remarks: Sequence[str] = ()) -> About:
    """Words such as "6 → 64 → 1, relu, from MyNet"."""
    return About(read=f"{_joined(widths)}, {spelled(phis)}, from {source}", remarks=tuple(remarks))


def _joined(widths: Sequence[int]) -> str:
    if len(widths) > 2 * _NAMES_SHOWN:
        return f"{_joined(widths[:_NAMES_SHOWN])} → … → {widths[-1]} ({len(widths) - 1} layers)"
    return " → ".join(map(str, widths))


def batch_norm_steps(mean: Float, variance: Float, eps: float, gamma: Float | None, beta: Float | None) -> list[Step]:
    """``x ↦ γ ∘ (x − mean) / sqrt(variance + eps) + β``."""
    with np.errstate(invalid="ignore", divide="ignore"):  # what is no number is refused by the network
        steps: list[Step] = [Shift(-mean), Scale(1.0 / np.sqrt(variance + eps))]
    if gamma is not None:
        steps.append(Scale(gamma))
    if beta is not None:
        steps.append(Shift(beta))
    return steps


# ------------------------------------------------------------------------------------------------------------- entries


def _entry(prefix: str, kind: str) -> str:
    return f"{prefix}.{kind}" if prefix else kind


def _listed(names: Sequence[str]) -> str:
    """Names in a message, a long list cut."""
    shown = [name[:80] if name.isprintable() else repr(name[:80]) for name in names[:_NAMES_SHOWN]]
    return ", ".join(shown) + (f", … ({len(names)} in all)" if len(names) > _NAMES_SHOWN else "") or "nothing"


def _groups(entries: Mapping[str, Entry]) -> dict[str, _Group]:
    groups: dict[str, _Group] = {}
    for name, entry in entries.items():
        prefix, _, kind = name.rpartition(".")
        groups.setdefault(prefix, _Group(prefix)).entries[kind] = entry
    return groups


def _check_kinds(groups: Mapping[str, _Group], entries: Mapping[str, Entry]) -> None:
    """Refuse what is neither a linear layer nor BatchNorm, each kind with its reason."""
    for group in groups.values():
        for kind, entry in group.entries.items():
            reason = _strange(group, kind, entry)
            if reason:
                raise UnsupportedModelError(
                    f"the entry {_entry(group.prefix, kind)[:100]!r} of shape {entry.shape} is no weight matrix or "
                    f"bias of a linear layer: {reason}; {_MODULE}, or name the linear layers that are the model, "
                    "layers=[...]"
                )
    linear = [group for group in groups.values() if not group.normalises]
    if not all("weight" in group.entries for group in linear) or len(linear) < 2:
        raise UnsupportedModelError(
            f"the state dict holds {_listed(list(entries))}: at least two linear layers, prefix.weight and "
            f"prefix.bias, are needed; {_MODULE}"
        )


def _strange(group: _Group, kind: str, entry: Entry) -> str:
    """Why an entry is not that of a linear layer or of BatchNorm; empty if it is."""
    dims = len(entry.shape)
    if group.normalises:
        known = kind in ("weight", "bias", *_STATISTICS) and dims == 1
        return "" if known or kind == "num_batches_tracked" else "beside running statistics it is not known"
    if {"weight": 2, "bias": 1}.get(kind) == dims:
        return ""
    if kind == "weight" and dims > 2:
        return (
            "it is that of a convolution, whose stride, padding and place are not in a state dict: pass the module and "
            "one batch, from_torch(module, example=x)"
        )
    if kind == "weight" and dims == 1:
        return (
            "it may be that of a LayerNorm (whose slope has no bound), of a BatchNorm without its running statistics, "
            "or of a PReLU"
        )
    if kind in ("original0", "original1", "original", "weight_g", "weight_v", "weight_orig", "weight_mask"):
        return "it is a parametrisation (weight norm, spectral norm, pruning), which must be removed first"
    if "weight_ih" in kind or "weight_hh" in kind:
        return "it is that of a recurrent layer, which is not read"
    if kind == "in_proj_weight":
        return "it is that of an attention layer, which is not read"
    if kind in ("_packed_params", "scale", "zero_point"):
        return "it is that of a quantised layer, which is not read"
    return "what it does is not in a state dict"


# --------------------------------------------------------------------------------------------------------------- order


def _common(prefixes: Sequence[str]) -> str:
    """The leading words that all prefixes share, with the dot behind them."""
    parts = [prefix.split(".") for prefix in prefixes]
    shared = 0
    while all(len(part) > shared + 1 and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    return "".join(f"{word}." for word in parts[0][:shared])


def _chosen(groups: Mapping[str, _Group], layers: Sequence[str]) -> tuple[list[_Group], list[str]]:
    """The layers that the user names, in that order, and the other prefixes."""
    if isinstance(layers, str) or not isinstance(layers, Sequence):
        raise InvalidInputError(f"layers must be a list of prefixes in the order of use, got {layers!r}")
    wanted = [str(name).removesuffix(".weight") for name in layers]
    linear = [
        prefix
        for prefix, group in groups.items()
        if "weight" in group.entries and len(group.entries["weight"].shape) == 2
    ]
    common = _common(linear) if linear else ""
    found = [name if name in linear else common + name for name in wanted]
    missing = [name for name, prefix in zip(wanted, found) if prefix not in linear]
    if missing or len(set(found)) != len(found) or len(found) < 2:
        wrong = f"{missing[0]!r} is none" if missing else "at least two are needed, each named once"
        raise InvalidInputError(
            f"layers={wanted!r}: {wrong}; the linear layers of the state dict are {_listed(sorted(linear))}"
        )
    for prefix in found:
        strange = [kind for kind in groups[prefix].entries if kind not in ("weight", "bias")]
        if strange:
            raise UnsupportedModelError(f"the layer {prefix} has {_listed(strange)} beside its weight: {_MODULE}")
    between = [group for group in groups.values() if group.prefix not in linear and _beside(group.prefix, found)]
    for group in between:
        if not group.normalises:
            raise UnsupportedModelError(
                f"{group.prefix} ({_listed(list(group.entries))}) may stand between the layers {_listed(found)}, and "
                f"what it does is not in a state dict: {_MODULE}"
            )
    used = [*found, *(group.prefix for group in between)]
    others = [group for prefix, group in groups.items() if prefix not in used]
    left_out = [name for group in others for name in ([group.prefix] if group.prefix else group.entries)]
    return [groups[prefix] for prefix in found], left_out


def _beside(prefix: str, chosen: Sequence[str]) -> bool:
    """Whether something with this prefix may belong to the modules that hold the chosen layers."""
    if not prefix:  # a parameter of the whole model, of its loss say
        return False
    parent = prefix.rpartition(".")[0]
    homes = [name.rpartition(".")[0] for name in chosen]
    return any(_within(parent, home) or _within(home, parent) for home in homes)


def _within(inner: str, outer: str) -> bool:
    return not outer or inner == outer or inner.startswith(f"{outer}.")


def _ordered(linear: Sequence[_Group], source: str) -> list[_Group]:
    """The only order in which the layers can be used, by the rule of :func:`network_of_state`."""
    stems: dict[str, list[_Group]] = {}
    for group in linear:
        stems.setdefault(group.numbered[0], []).append(group)
    runs = [sorted(run, key=lambda group: group.numbered[1]) for run in stems.values()]
    for run in runs:
        numbers = [group.numbered[1] for group in run]
        if len(set(numbers)) != len(numbers):
            raise _doubtful(f"{_listed([group.prefix for group in run])} bear the same number", linear, source)
        if len(run) > 1 and (word := _BESIDE.search(run[0].numbered[0])):
            raise _doubtful(f"{word[0].strip('._#')!r} in names says that they stand beside each other", linear, source)
        _check_chain(run)
    if len(runs) == 1:
        return runs[0]
    taking: dict[int, list[_Group]] = {}
    for run in runs:
        if (first := run[0].inputs) in taking:
            pair = f"{taking[first][0].prefix} and {run[0].prefix}"
            raise _doubtful(
                f"{pair} both take {first} inputs, so they may change places or stand beside each other, as heads do",
                linear,
                source,
            )
        taking[first] = run
    orders = [order for order in (_followed(run, taking) for run in runs) if len(order) == len(runs)]
    if len(orders) > 1:
        said = " as well as ".join(_listed([run[0].prefix for run in order]) for order in orders[:2])
        raise _doubtful(f"{said} chain by their shapes", linear, source)
    if not orders:
        raise UnsupportedModelError(
            f"the layers {_shapes(linear)} do not chain in any order: each must take what the one before gives; "
            f"{_MODULE}, or name the layers of one path, layers=[...]"
        )
    return [group for run in orders[0] for group in run]


def _followed(start: list[_Group], taking: Mapping[int, list[_Group]]) -> list[list[_Group]]:
    """The run ``start`` and those that take, one after another, what the last one gives."""
    order = [start]
    while (following := taking.get(order[-1][-1].outputs)) is not None and following not in order:
        order.append(following)
    return order


def _doubtful(reason: str, linear: Sequence[_Group], source: str) -> UnsupportedModelError:
    names = [group.prefix for group in sorted(linear, key=lambda g: _natural(g.prefix))]
    quoted = [f'"{name[:40]}"' if name.isprintable() else repr(name[:40]) for name in names[:3]]
    example = ", ".join(quoted) + (", ..." if len(names) > 3 else "")
    return UnsupportedModelError(
        f"the state dict holds {_shapes(linear)}, and does not tell their order of use: {reason}; say it, "
        f'from_torch({source}, layers=[{example}], activations="relu"), each prefix in the order of its use; '
        f"or {_MODULE}"
    )


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names as numbers."""
    return [
        (0, int(part), "") if re.fullmatch("[0-9]+", part) else (1, 0, part)
        for part in re.split(r"([0-9]{1,18})", name)
        if part
    ]


def _shapes(linear: Sequence[_Group]) -> str:
    return _listed([f"{_entry(group.prefix, 'weight')} {group.entries['weight'].shape}" for group in linear])


def _check_chain(order: Sequence[_Group]) -> None:
    for before, after in pairwise(order):
        if after.inputs != before.outputs:
            shapes = [group.entries["weight"].shape for group in (before, after)]
            raise UnsupportedModelError(
                f"the layers {before.prefix} and {after.prefix} have weights of shapes {shapes[0]} and {shapes[1]}, "
                f"which do not chain: the second must have {before.outputs} columns; name the layers in the order of "
                f"their use, layers=[...], or {_MODULE}"
            )


# ---------------------------------------------------------------------------------------------------- normalisation


def _places(order: Sequence[_Group], norms: Sequence[_Group], eps: float | None) -> list[tuple[int, bool]]:
    """For each BatchNorm, the linear layer beside it and whether it stands behind (True) or before that layer."""
    if norms and eps is None:
        raise UnsupportedModelError(
            f"the state dict holds BatchNorm ({_listed([norm.prefix for norm in norms])}), whose eps is not in a state "
            f"dict: pass batch_norm_eps=1e-5 or, in a shell, --batch-norm-eps 1e-5, if it has PyTorch's default, or "
            f"{_MODULE}"
        )
    stem = order[0].numbered[0]
    plain = stem == "#" or stem.endswith(".#")
    numbers = {group.numbered[1]: k for k, group in enumerate(order)}
    taken = [norm.numbered[1] for norm in norms]
    places = []
    for norm in norms:
        at = norm.numbered[1]
        behind, before = numbers.get(at - 1), numbers.get(at + 1)
        certain = (
            plain
            and all(group.numbered[0] == stem for group in (*order, norm))
            and (behind is None) != (before is None)
            and at - 1 not in taken
            and at + 1 not in taken
        )
        if not certain:
            raise UnsupportedModelError(
                f"whether the BatchNorm {norm.prefix} stands before or behind an activation is not certain from the "
                f"names {_listed([group.prefix for group in order])}: {_MODULE}"
            )
        places.append((behind, True) if behind is not None else (before, False))
    return [(int(k or 0), side) for k, side in places]


def _segments(
    order: Sequence[_Group], norms: Sequence[_Group], places: Sequence[tuple[int, bool]], eps: float | None
) -> list[list[Step]]:
    names = (
        [("W", "b"), ("V", "c")] if len(order) == 2 else [(f"weights[{k}]", f"biases[{k}]") for k in range(len(order))]
    )
    segments = [group.steps(pair) for group, pair in zip(order, names)]
    for norm, (k, behind) in zip(norms, places):
        width = order[k].outputs if behind else order[k].inputs
        values = {}
        for kind in ("weight", "bias", *_STATISTICS):
            entry = norm.entries.get(kind)
            if (entry is None and kind in _STATISTICS) or (entry is not None and entry.shape != (width,)):
                raise UnsupportedModelError(
                    f"the BatchNorm {norm.prefix} beside the layer {order[k].prefix} has no {kind} of {width} numbers"
                )
            values[kind] = None if entry is None else entry.values(_entry(norm.prefix, kind))
        mean, variance = values["running_mean"], values["running_var"]
        if mean is None or variance is None:
            continue
        steps = batch_norm_steps(mean, variance, float(eps or 0.0), values["weight"], values["bias"])
        segments[k] = [*segments[k], *steps] if behind else [*steps, *segments[k]]
    return segments


def _phis(activations: Activations, hidden: int) -> list[Activation]:
    """The activations of the hidden layers."""
    if isinstance(activations, str | Activation):
        return [activation(activations)] * hidden
    if not isinstance(activations, Sequence):
        raise InvalidInputError(
            f"activations must be one name or a list of one for each hidden layer, got {type(activations).__name__}"
        )
    phis = [activation(phi) for phi in activations]
    if len(phis) != hidden:
        raise InvalidInputError(f"there are {len(phis)} activations and {hidden} hidden layers")
    return phis
