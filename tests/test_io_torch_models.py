"""Kinds of PyTorch models: what is read has the model's own outputs, anything else is refused with the right word."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from certnet.certification import certify
from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.io import from_torch
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

torch = pytest.importorskip("torch", reason='PyTorch is not installed: pip install "certnet[torch]"')
nn = torch.nn
prune = pytest.importorskip("torch.nn.utils.prune")
F = torch.nn.functional


def seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    """A module in eval mode, its random state local, with BatchNorm statistics that are not the initial ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make()
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm1d) and layer.running_mean is not None:
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2.0)
                if layer.affine:
                    layer.weight.data.normal_()
                    layer.bias.data.normal_()
        return module.eval()


def of(forward: Callable[..., Any], *, d: int = 4, h: int = 6, m: int = 2, **parts: Callable[[], Any]) -> Any:
    """A module with ``a`` (d → h), ``b`` (h → m), further parts, and this forward(self, x)."""

    class MyNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(d, h), nn.Linear(h, m)
            for name, part in parts.items():
                value = part()
                if isinstance(value, nn.Module | nn.Parameter):
                    setattr(self, name, value)
                else:
                    self.register_buffer(name, value)

        def forward(self, x: Any) -> Any:
            return forward(self, x)

    return seeded(MyNet)


def outputs(module: Any, X: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        got = module(torch.as_tensor(X, dtype=next(module.parameters()).dtype))
        return np.asarray(got.double().numpy()).reshape(len(X), -1)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return x + torch.relu(self.inner(x))


class Swish(nn.Module):
    def forward(self, x: Any) -> Any:
        return x * torch.sigmoid(x)


def noisy(self: Any, x: Any) -> Any:
    warnings.warn(f"seen {len(x)}", stacklevel=1)
    return self.b(torch.relu(self.a(x)))


READ: dict[str, Callable[[], Any]] = {
    "forward with torch.relu": lambda: of(lambda s, x: s.b(torch.relu(s.a(x)))),
    "forward with F.gelu": lambda: of(lambda s, x: s.b(F.gelu(s.a(x)))),
    "gelu, tanh form": lambda: of(lambda s, x: s.b(F.gelu(s.a(x), approximate="tanh"))),
    "in-place relu": lambda: of(lambda s, x: s.b(F.relu_(s.a(x)))),
    "method relu": lambda: of(lambda s, x: s.b(s.a(x).relu())),
    "view of the batch": lambda: of(lambda s, x: s.b(torch.relu(s.a(x.view(x.size(0), -1))))),
    "view with -1 first": lambda: of(lambda s, x: s.b(torch.relu(s.a(x.view(-1, 4))))),
    "view with int(size)": lambda: of(lambda s, x: s.b(torch.relu(s.a(x.view(int(x.size(0)), -1))))),
    "reshape, contiguous, clone": lambda: of(
        lambda s, x: s.b(torch.relu(s.a(x.contiguous().clone().reshape(len(x), 4))))
    ),
    "flatten": lambda: of(lambda s, x: s.b(torch.relu(s.a(torch.flatten(x, 1))))),
    "squeeze(-1)": lambda: of(lambda s, x: s.b(torch.relu(s.a(x))).squeeze(-1), m=1),
    "squeeze()": lambda: of(lambda s, x: s.b(torch.relu(s.a(x))).squeeze(), m=1),
    "first column of the outputs": lambda: of(lambda s, x: s.b(torch.relu(s.a(x)))[:, 0]),
    "some columns of the inputs": lambda: of(
        lambda s, x: s.b(torch.relu(s.a(x[:, 1:]))), d=3, first=lambda: nn.Linear(4, 1)
    ),
    "float()": lambda: of(lambda s, x: s.b(torch.relu(s.a(x.float())))),
    "standardised inputs": lambda: of(
        lambda s, x: s.b(torch.relu(s.a((x - s.mean) / s.scale))),
        mean=lambda: torch.tensor([1.0, -2.0, 3.0, 0.5]),
        scale=lambda: torch.tensor([1.5, 2.0, 0.1, 7.0]),
    ),
    "scaled outputs": lambda: of(lambda s, x: 3.0 * s.b(torch.tanh(s.a(2 * x - 1))) + 0.5),
    "reversed sums": lambda: of(lambda s, x: 1 - s.b(torch.tanh(2 - s.a(-x)))),
    "alpha of a sum": lambda: of(lambda s, x: torch.add(torch.ones(2), s.b(torch.tanh(s.a(x))), alpha=3)),
    "in-place sum": lambda: of(lambda s, x: s.b(torch.relu(s.a(x).add_(1.0)))),
    "constants made in forward": lambda: of(lambda s, x: s.b(torch.relu(s.a(x)) + torch.tensor([1.0, 2, 3, 4, 5, 6]))),
    "F.linear of parameters": lambda: of(
        lambda s, x: F.linear(torch.relu(x @ s.W + 1.0), s.V),
        W=lambda: nn.Parameter(torch.randn(4, 5)),
        V=lambda: nn.Parameter(torch.randn(3, 5)),
    ),
    "product with a vector": lambda: of(lambda s, x: torch.relu(s.a(x)) @ s.v, v=lambda: nn.Parameter(torch.randn(6))),
    "addmm": lambda: of(lambda s, x: torch.addmm(s.b.bias, torch.relu(s.a(x)), s.b.weight.t(), beta=2, alpha=0.5)),
    "mean of the outputs": lambda: of(lambda s, x: s.b(torch.relu(s.a(x))).mean(-1)),
    "BatchNorm before": lambda: of(lambda s, x: s.b(torch.relu(s.a(s.n(x)))), n=lambda: nn.BatchNorm1d(4)),
    "BatchNorm between": lambda: of(lambda s, x: s.b(torch.relu(s.n(s.a(x)))), n=lambda: nn.BatchNorm1d(6)),
    "BatchNorm behind the activation": lambda: of(
        lambda s, x: s.b(s.n(torch.relu(s.a(x)))), n=lambda: nn.BatchNorm1d(6, eps=0.1)
    ),
    "BatchNorm after": lambda: of(lambda s, x: s.n(s.b(torch.relu(s.a(x)))), n=lambda: nn.BatchNorm1d(2, affine=False)),
    "Dropout in eval": lambda: of(lambda s, x: s.b(s.n(torch.relu(s.a(x)))), n=nn.Dropout),
    "AlphaDropout in eval": lambda: of(lambda s, x: s.b(s.n(torch.selu(s.a(x)))), n=nn.AlphaDropout),
    "ReLU at the end": lambda: of(lambda s, x: torch.relu(s.b(torch.relu(s.a(x))))),
    "sigmoid at the end": lambda: seeded(
        lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1), nn.Sigmoid())
    ),
    "tanh at the end": lambda: seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh())),
    "activation first": lambda: of(lambda s, x: s.b(torch.relu(s.a(torch.tanh(x))))),
    "two activations in a row": lambda: of(lambda s, x: s.b(torch.tanh(F.softplus(s.a(x))))),
    "clamp at 0": lambda: of(lambda s, x: s.b(s.a(x).clamp(min=0))),
    "clamp at 0.3": lambda: of(lambda s, x: s.b(s.a(x).clamp(min=0.3))),
    "clamp from above": lambda: of(lambda s, x: s.b(s.a(x).clamp(max=0.3))),
    "clamp between": lambda: of(lambda s, x: s.b(s.a(x).clamp(-0.3, 0.4))),
    "maximum with 0": lambda: of(lambda s, x: s.b(torch.maximum(s.a(x), torch.zeros(1)))),
    "maximum with a vector": lambda: of(
        lambda s, x: s.b(torch.maximum(s.c, s.a(x))), c=lambda: torch.tensor([0.1, 0.2, -0.3, 0.0, 1.0, -1.0])
    ),
    "minimum": lambda: of(lambda s, x: s.b(torch.minimum(s.a(x), torch.tensor(0.5)))),
    "one-dimensional inputs": lambda: of(lambda s, x: s.b(torch.relu(s.a(x.unsqueeze(-1)))).squeeze(-1), d=1, m=1),
    "a dimension of 1 between": lambda: of(lambda s, x: s.b(torch.relu(s.a(x[:, None, :]))).flatten(1)),
    "BatchNorm first in Sequential": lambda: seeded(
        lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    ),
    "activation first in Sequential": lambda: seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    ),
    "unflattened outputs": lambda: seeded(
        lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Unflatten(1, (2, 3)))
    ),
    "a dictionary of one": lambda: of(lambda s, x: {"y": s.b(torch.relu(s.a(x)))}),
    "written swish": lambda: of(lambda s, x: s.b(s.act(s.a(x))), act=Swish),
    "written mish": lambda: of(lambda s, x: s.b((lambda z: z * torch.tanh(F.softplus(z)))(s.a(x)))),
    "F.softsign": lambda: of(lambda s, x: s.b(F.softsign(s.a(x)))),
    "F.threshold(0, 0)": lambda: of(lambda s, x: s.b(F.threshold(s.a(x), 0.0, 0.0))),
    "PReLU": lambda: seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.PReLU(), nn.Linear(6, 2))),
    "RReLU in eval": lambda: seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.RReLU(), nn.Linear(6, 2))),
    "ModuleList": lambda: of(
        lambda s, x: s.layers[2](torch.tanh(s.layers[1](torch.tanh(s.layers[0](x))))),
        layers=lambda: nn.ModuleList([nn.Linear(4, 5), nn.Linear(5, 6), nn.Linear(6, 1)]),
    ),
    "used in another order than made": lambda: of(
        lambda s, x: s.last(torch.relu(s.a(x))), last=lambda: nn.Linear(6, 3)
    ),
    "weights shared by two layers": lambda: of(
        lambda s, x: s.b(torch.relu(s.c(torch.relu(s.c(s.a(x)))))), c=lambda: nn.Linear(6, 6)
    ),
    "two linear layers in a row": lambda: of(lambda s, x: s.b(s.a(x))),
    "weight norm": lambda: seeded(
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 2))
    ),
    "spectral norm": lambda: seeded(
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 2))
    ),
    "pruned": lambda: seeded(
        lambda: nn.Sequential(
            prune.random_unstructured(nn.Linear(4, 6), "weight", 0.5).cpu(), nn.ReLU(), nn.Linear(6, 2)
        )
    ),
    "warns while it runs": lambda: of(noisy),
    "no_grad inside": lambda: of(lambda s, x: s.b(torch.no_grad()(lambda z: torch.relu(s.a(z)))(x))),
    "a graph of torch.fx": lambda: torch.fx.symbolic_trace(of(lambda s, x: s.b(torch.relu(s.a(x))))),
    "DataParallel": lambda: nn.DataParallel(of(lambda s, x: s.b(torch.relu(s.a(x))))),
    "torch.compile": lambda: torch.compile(of(lambda s, x: s.b(torch.relu(s.a(x)))), backend="eager"),
    "compiled Sequential": lambda: torch.compile(
        seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))), backend="eager"
    ),
    "float64": lambda: of(lambda s, x: s.b(torch.relu(s.a(x)))).double(),
    "bfloat16": lambda: of(lambda s, x: s.b(torch.relu(s.a(x)))).bfloat16(),
    "float16": lambda: of(lambda s, x: s.b(torch.relu(s.a(x)))).half(),
    "returns a tuple of one": lambda: of(lambda s, x: (s.b(torch.relu(s.a(x))),)),
    "residual": lambda: seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Residual(), nn.Linear(4, 1))),
    "concatenation": lambda: of(lambda s, x: s.b(torch.cat([s.a(x)[:, :3], x[:, :3]], 1))),
}


@pytest.mark.parametrize("kind", READ)
def test_what_is_read_has_the_outputs_of_the_module(kind: str) -> None:
    module = READ[kind]()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [layer.training for layer in module.modules()]
    net = from_torch(module)
    assert [layer.training for layer in module.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert " → ".join(map(str, net.widths)) in net.about.read
    X = np.random.default_rng(5).normal(size=(100, net.n_inputs))
    if kind in ("returns a tuple of one", "a dictionary of one"):
        module = nn.Sequential(
            module, type("First", (nn.Module,), {"forward": lambda s, x: x["y" if isinstance(x, dict) else 0]})()
        )
    plain = {"DataParallel": lambda: module.module, "torch.compile": lambda: module._orig_mod}.get(
        kind, lambda: module
    )()
    if kind == "pruned":  # the weight has a history, which refuses to be copied
        prune.remove(plain[0], "weight")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = outputs(copy.deepcopy(plain).double() if kind != "float()" else plain, X)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(net.forward(X), expected, rtol=0, atol=(1e-9 if kind != "float()" else 1e-6) * scale)
    if not kind.endswith("float16") and kind != "warns while it runs":
        np.testing.assert_allclose(net.forward(X), outputs(plain, X), rtol=0, atol=1e-6 * scale)


def test_words_about_what_was_read() -> None:
    assert from_torch(READ["forward with torch.relu"]()).about.read == "4 → 6 → 2, relu, from MyNet (torch.export)"
    assert from_torch(READ["sigmoid at the end"]()).about.read == "4 → 6 → 1 → 1, relu, sigmoid, from Sequential"
    assert isinstance(from_torch(READ["squeeze(-1)"]()), ShallowNetwork)
    two = from_torch(READ["two activations in a row"]())
    assert two.activations == (Activation("softplus"), Activation("tanh"))
    assert np.array_equal(two.weights[1], np.eye(6))


def test_weights_are_exact_where_nothing_is_folded() -> None:
    module = READ["forward with torch.relu"]()
    net = from_torch(module)
    assert np.array_equal(net.weights[0], module.a.weight.detach().double().numpy())
    assert np.array_equal(net.biases[1], module.b.bias.detach().double().numpy())


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("as_module", [False, True])
def test_a_last_softmax_is_left_out_and_said(name: str, as_module: bool) -> None:
    layer = nn.Softmax(dim=-1) if name == "softmax" else nn.LogSoftmax(dim=1)
    module = (
        seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), layer))
        if as_module
        else of(lambda s, x: getattr(F, name)(s.b(torch.relu(s.a(x))), dim=-1), m=3)
    )
    net = from_torch(module)
    assert net.about.remarks[0].startswith(f"{name} is left out: the network gives the logits")
    X = np.random.default_rng(0).normal(size=(100, 4))
    logits = torch.tensor(net.forward(X))
    expected = outputs(copy.deepcopy(module).double(), X)
    np.testing.assert_allclose(getattr(F, name)(logits, dim=-1).numpy(), expected, rtol=0, atol=1e-12)


def test_samples_that_are_no_vectors() -> None:
    module = of(lambda s, x: s.b(torch.relu(s.a((x / 255 - 0.5).flatten(1)))), d=12)
    example = torch.zeros(3, 3, 2, 2)
    net = from_torch(module, example=example)
    X = np.random.default_rng(0).normal(size=(100, 12))
    expected = outputs(copy.deepcopy(module).double(), X.reshape(-1, 3, 2, 2))
    np.testing.assert_allclose(net.forward(X), expected, rtol=0, atol=1e-9)
    channels = of(
        lambda s, x: s.b(torch.relu(s.a((x - s.mean).flatten(1)))), d=12, mean=lambda: torch.randn(1, 3, 1, 1)
    )
    net = from_torch(channels, example=example)
    expected = outputs(copy.deepcopy(channels).double(), X.reshape(-1, 3, 2, 2))
    np.testing.assert_allclose(net.forward(X), expected, rtol=0, atol=1e-9)
    for wrong in (torch.zeros(3), np.zeros((2, 12)), torch.zeros(0, 12)):
        with pytest.raises(InvalidInputError, match="example must be a tensor"):
            from_torch(module, example=wrong)


def branch(s: Any, x: Any) -> Any:
    return s.b(torch.relu(s.a(x))) if x.sum() > 0 else s.b(s.a(x))


def batch_branch(s: Any, x: Any) -> Any:
    return s.b(torch.relu(s.a(x))) if x.shape[0] < 1000 else s.b(s.a(x))


def alone(s: Any, x: Any) -> Any:
    return s.b(torch.relu(s.a(x))) if len(x) > 1 else s.b(s.a(x))


def by_dtype(s: Any, x: Any) -> Any:
    return s.b(torch.relu(s.a(x))) if x.dtype == torch.float32 else s.b(torch.tanh(s.a(x)))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "LayerNorm": (lambda: of(lambda s, x: s.b(s.n(s.a(x))), n=lambda: nn.LayerNorm(6)), "LayerNorm.*no bound"),
    "LayerNorm in Sequential": (
        lambda: seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2))),
        "at LayerNorm.*no bound",
    ),
    "GroupNorm": (lambda: of(lambda s, x: s.b(s.n(s.a(x))), n=lambda: nn.GroupNorm(2, 6)), "GroupNorm.*no bound"),
    "RMSNorm": (lambda: of(lambda s, x: s.b(s.n(s.a(x))), n=lambda: nn.RMSNorm(6)), "RMSNorm.*no bound"),
    "convolution": (
        lambda: of(lambda s, x: s.b(s.n(x).flatten(1)), n=lambda: nn.Conv2d(1, 2, 3)),
        r"pass one batch, such as example=torch.zeros\(1, 1, 32, 32\)",
    ),
    "convolution in Sequential": (
        lambda: seeded(lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))),
        r"pass one batch, such as example=torch.zeros\(1, 1, 32, 32\)",
    ),
    "max pooling over many": (
        lambda: of(lambda s, x: F.max_pool1d(s.a(x)[:, None], 65)[:, 0], h=65),
        "65 entries",
    ),
    "embedding": (lambda: of(lambda s, x: s.b(s.n(x)), n=lambda: nn.Embedding(3, 6)), "embedding looks integers up"),
    "attention": (
        lambda: of(lambda s, x: s.b(F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]), h=4),
        "attention multiplies data by data|two paths",
    ),
    "LSTM": (lambda: of(lambda s, x: s.b(s.n(x)[0]), n=lambda: nn.LSTM(4, 6)), "recurrent"),
    "gate": (lambda: of(lambda s, x: s.b(s.a(x) * torch.tanh(s.a(x)))), r"two paths of the data meet \(mul\)"),
    "square": (lambda: of(lambda s, x: s.b(s.a(x) ** 2)), "the operator pow"),
    "square as product": (lambda: of(lambda s, x: s.b(s.a(x) * s.a(x))), r"two paths of the data meet \(mul\)"),
    "sine": (lambda: of(lambda s, x: s.b(torch.sin(s.a(x)))), "the operator sin is none"),
    "reciprocal": (lambda: of(lambda s, x: s.b(1.0 / s.a(x))), "divided by data|reciprocal"),
    "abs": (lambda: of(lambda s, x: s.b(s.a(x).abs())), "abs"),
    "argmax": (lambda: of(lambda s, x: s.b(s.a(x)).argmax(-1)), "argmax gives a class"),
    "softmax within": (lambda: of(lambda s, x: s.b(F.softmax(s.a(x), -1))), "follows a softmax"),
    "softmax over the batch": (
        lambda: of(lambda s, x: F.softmax(s.b(torch.relu(s.a(x))), 0)),
        "softmax over dimension 0",
    ),
    "branch on the data": (lambda: of(branch), "control flow depends on the data"),
    "branch on the batch": (lambda: of(batch_branch), "depends on how many samples"),
    "a sample alone": (lambda: of(alone), "does not agree|how many samples"),
    "branch on the dtype": (lambda: of(by_dtype), "does not agree"),
    "number from the data": (
        lambda: of(lambda s, x: s.b(torch.relu(s.a(x))) * x.norm().item()),
        "operator linalg_vector_norm|mixes",
    ),
    "noise": (lambda: of(lambda s, x: s.b(torch.relu(s.a(x))) + torch.randn(2)), "does not agree"),
    "hidden state": (
        lambda: of(lambda s, x: s.b(torch.relu(s.a(x))) + s.__dict__.setdefault("n", [0]).append(1) or float(len(s.n))),
        "is not read|agree",
    ),
    "mean over the batch": (
        lambda: of(lambda s, x: s.b(torch.relu(s.a(x - x.mean(0))))),
        "mixes",
    ),
    "transposed": (lambda: of(lambda s, x: s.b(torch.relu(s.a(x))).T), "mixes the samples of a batch|operator numpy_T"),
    "Dropout in training": (
        lambda: of(lambda s, x: s.b(s.n(torch.relu(s.a(x)))), n=nn.Dropout).train(),
        r"Dropout in training mode .*module.eval\(\)",
    ),
    "F.dropout left on": (lambda: of(lambda s, x: s.b(F.dropout(torch.relu(s.a(x))))), "Dropout in training mode"),
    "BatchNorm in training": (
        lambda: of(lambda s, x: s.b(torch.relu(s.n(s.a(x)))), n=lambda: nn.BatchNorm1d(6)).train(),
        r"BatchNorm in training mode .*module.eval\(\)",
    ),
    "BatchNorm without statistics": (
        lambda: of(lambda s, x: s.b(torch.relu(s.n(s.a(x)))), n=lambda: nn.BatchNorm1d(6, track_running_stats=False)),
        "BatchNorm .*mixes the samples",
    ),
    "PReLU with many slopes": (
        lambda: of(
            lambda s, x: s.b(F.prelu(s.a(x), s.slopes)),
            slopes=lambda: nn.Parameter(torch.tensor([0.1, 0.2, 0.3, 0, 0, 0])),
        ),
        "PReLU with a slope for each unit",
    ),
    "Softplus with a low threshold": (
        lambda: of(lambda s, x: s.b(F.softplus(s.a(x), 1, 5))),
        "threshold of at least 20",
    ),
    "Hardshrink": (lambda: of(lambda s, x: s.b(F.hardshrink(s.a(x)))), "operator hardshrink is none"),
    "rounding": (lambda: of(lambda s, x: s.b(torch.round(s.a(x)))), "operator round"),
    "half in the middle": (
        lambda: of(lambda s, x: s.b(s.a(x).half().float().relu())),
        "rounds its data to torch.float16",
    ),
    "two outputs": (lambda: of(lambda s, x: (s.b(torch.relu(s.a(x))), s.a(x))), "gives 2 outputs"),
    "two inputs": (
        lambda: type("Two", (nn.Module,), {"__init__": init_two, "forward": lambda s, x, y: s.a(x) + y})().eval(),
        "positional argument|required",
    ),
    "one linear map": (lambda: of(lambda s, x: s.a(x)), "no hidden layer"),
    "linear on matrices": (
        lambda: of(lambda s, x: s.b(torch.relu(s.n(x.view(-1, 2, 2))).flatten(1)), n=lambda: nn.Linear(2, 3)),
        r"samples of shape \(2, 2\): flatten",
    ),
    "attention layer": (
        lambda: seeded(lambda: nn.TransformerEncoderLayer(8, 2, batch_first=True)),
        "attention multiplies data by data",
    ),
    "GLU": (lambda: seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.GLU(), nn.Linear(3, 1))), "operator glu is none"),
    "made of the batch": (
        lambda: of(lambda s, x: s.b(torch.relu(s.a(x) + torch.zeros(x.shape[0], 6)))),
        "of the size of the batch",
    ),
    "where": (lambda: of(lambda s, x: s.b(torch.where(s.a(x) > 0, 1.0, 0.0))), "operator gt is none"),
    "really quantised": (lambda: quantised(), "quantised layers round"),
    "TorchScript": (lambda: scripted(), "TorchScript.*ONNX"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.Linear(3, 1)), "lazy|no weights yet"),
    "no weights": (lambda: nn.Sequential(nn.ReLU()), "no weights"),
    "quantised": (
        lambda: type("Quantised", (nn.Module,), {"forward": lambda s, x: x.to(torch.int32)})(),
        "no weights",
    ),
    "not copyable": (lambda: not_copyable(), "cannot be copied"),
    "meta": (lambda: nn.Sequential(nn.Linear(3, 4, device="meta"), nn.ReLU(), nn.Linear(4, 1)), "meta device"),
}


def init_two(self: Any) -> None:
    nn.Module.__init__(self)
    self.a = nn.Linear(3, 3)


def quantised() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)).eval()
        return torch.ao.quantization.quantize_dynamic(module, {nn.Linear})


def scripted() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)))


def not_copyable() -> Any:
    module = of(lambda s, x: s.b(torch.relu(s.a(x))))
    module.held = (k for k in range(3))
    return module


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_with_the_reason(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, words = REFUSED[kind]
    module = make()
    with pytest.raises(UnsupportedModelError, match=words):
        from_torch(module)
    assert capfd.readouterr() == ("", "")


def test_a_tracer_that_lies_is_caught() -> None:
    """The trace of the graph says relu, the module computes tanh where it is not traced."""
    module = of(lambda s, x: s.b(torch.relu(s.a(x)) if torch.compiler.is_exporting() else torch.tanh(s.a(x))))
    with pytest.raises(UnsupportedModelError, match="does not agree with the outputs of the module MyNet: they differ"):
        from_torch(module)


def test_the_symbolic_trace_is_the_second_way(monkeypatch: pytest.MonkeyPatch) -> None:
    export = torch.export.export

    def only_graphs(module: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(module, torch.fx.GraphModule):
            raise RuntimeError("no way")
        return export(module, *args, **options)

    module = READ["BatchNorm between"]()
    expected = from_torch(module)
    monkeypatch.setattr(torch.export, "export", only_graphs)
    assert from_torch(module) == expected
    with pytest.raises(UnsupportedModelError, match=r"torch.export cannot trace it \(no way\)"):
        from_torch(of(branch))


def test_not_a_number() -> None:
    module = of(lambda s, x: s.b(torch.relu(s.a(x))))
    with torch.no_grad():
        module.a.weight[0, 0] = torch.nan
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        from_torch(module)


# exported programs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_exported_programs(batch: int | None) -> None:
    module = of(lambda s, x: s.b(torch.relu(s.n(s.a(x)))), n=lambda: nn.BatchNorm1d(6))
    shapes = ({0: torch.export.Dim.DYNAMIC},) if batch is None else None
    program = torch.export.export(module, (torch.zeros(batch or 2, 4),), dynamic_shapes=shapes, strict=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's own use of itself
        decomposed = program.run_decompositions()
    for each in (program, decomposed):
        net = from_torch(each)
        X = np.random.default_rng(0).normal(size=(100, 4))
        expected = outputs(copy.deepcopy(module).double(), X)
        np.testing.assert_allclose(net.forward(X), expected, rtol=0, atol=1e-9 * np.abs(expected).max())
        assert net.about.read == "4 → 6 → 2, relu, from an exported program"


# state dicts ---------------------------------------------------------------------------------------------------------


def state(*shapes: tuple[str, int, int], seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    named = {}
    for prefix, d, h in shapes:
        named[f"{prefix}.weight"] = torch.tensor(rng.normal(size=(h, d)))
        named[f"{prefix}.bias"] = torch.tensor(rng.normal(size=h))
    return named


def chain(state: dict[str, Any], *prefixes: str, phi: str = "relu") -> FeedForward:
    return FeedForward(
        [state[f"{p}.weight"].numpy() for p in prefixes], [state[f"{p}.bias"].numpy() for p in prefixes], phi
    )


def test_gelu_is_not_taken_for_relu() -> None:
    """The state dict of Linear-GELU-Linear with slope up to 1.129, which was certified with 1."""
    weights = {"0.weight": torch.ones(1, 1), "2.weight": torch.ones(1, 1)}
    with pytest.raises(UnsupportedModelError, match=r'activations="relu".*--activation relu'):
        from_torch(weights)
    gelu = from_torch(weights, activations="gelu")
    assert certify(gelu).upper == pytest.approx(1.1289, abs=1e-3)
    assert gelu.about.read == "1 → 1 → 1, gelu, from 0.weight, 2.weight"


def test_numbers_in_names_are_numbers() -> None:
    numbers = [0, 2, 4, 6, 8, 10, 12]
    held = state(*((f"net.{k}", 3, 3) for k in numbers))
    sorted_as_text = dict(sorted(held.items()))
    assert list(sorted_as_text)[2] == "net.10.bias"
    expected = chain(held, *(f"net.{k}" for k in numbers))
    for order in (held, sorted_as_text, dict(reversed(held.items()))):
        assert from_torch(order, activations="relu") == expected


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([("decoder", 3, 6), ("encoder", 6, 3)], "decoder, encoder as well as encoder, decoder chain"),
        ([("enc.0", 6, 4), ("enc.2", 4, 3), ("dec.0", 3, 4), ("dec.2", 4, 6)], "enc.0, dec.0 as well as dec.0, enc.0"),
        ([("trunk.0", 5, 4), ("mu", 4, 4), ("log_std", 4, 4)], "mu and log_std both take 4 inputs.*as heads do"),
        ([("trunk.0", 5, 4), ("mu", 4, 4), ("value", 4, 1)], "mu and value both take 4 inputs"),
        ([("actor.0", 2, 8), ("actor.2", 8, 2), ("critic.0", 2, 8), ("critic.2", 8, 1)], "both take 2 inputs"),
        ([("q1.0", 1, 8), ("q1.2", 8, 1), ("q2.0", 1, 8), ("q2.2", 8, 1)], "both take 1 inputs"),
        ([("first", 3, 4), ("second", 4, 4), ("third", 4, 1)], "second and third both take 4"),
        ([("fc1", 1, 8), ("fc2", 8, 8), ("out", 8, 1)], "do not tell|does not tell"),
        ([("fc1", 4, 4), ("fc01", 4, 4)], "the same number"),
        ([("trunk", 3, 4), ("heads.0", 4, 4), ("heads.1", 4, 4)], "'heads' in names says that they stand beside"),
        ([("q1", 4, 4), ("q2", 4, 4)], "'q' in names"),
        ([("l.0.linear1", 4, 8), ("l.0.linear2", 8, 4), ("l.1.linear1", 4, 8), ("l.1.linear2", 8, 4)], "both take 4"),
        ([("9" * 5000, 4, 4), ("0", 4, 4)], "order of use"),
        ([("a\nb", 4, 4), ("c", 4, 4)], r"'a\\nb' and c|a\\nb"),
    ],
)
def test_doubtful_orders_are_refused_until_said(shapes: list[tuple[str, int, int]], words: str) -> None:
    held = state(*shapes)
    for order in (held, dict(reversed(held.items()))):
        with pytest.raises(UnsupportedModelError, match="order of use"):
            from_torch(order, activations="relu")
    with pytest.raises(UnsupportedModelError, match=words):
        from_torch(held, activations="relu")


def test_a_tail_without_a_number() -> None:
    held = state(("fc1", 3, 8), ("fc2", 8, 5), ("out", 5, 1))
    shuffled = {name: held[name] for name in sorted(held, reverse=True)}
    assert from_torch(shuffled, activations="relu") == chain(held, "fc1", "fc2", "out")
    nested = state(("body.0.linear", 3, 8), ("body.10.linear", 8, 8), ("body.2.linear", 8, 8), ("head", 8, 1))
    with pytest.raises(UnsupportedModelError, match="order of use") as refusal:
        from_torch({**nested, "side.weight": torch.ones(2, 8)}, activations="relu")
    assert "both take 8 inputs" in str(refusal.value)
    assert from_torch(nested, activations="relu") == chain(
        nested, "body.0.linear", "body.2.linear", "body.10.linear", "head"
    )


@pytest.mark.parametrize("name", ["actor", "head", "q_net", "net.critic", "seq"])
def test_one_sequence_may_have_any_name(name: str) -> None:
    held = state((f"{name}.0", 3, 8), (f"{name}.2", 8, 8), (f"{name}.4", 8, 1))
    assert from_torch(held, activations="relu") == chain(held, *(f"{name}.{k}" for k in (0, 2, 4)))


def test_layers_say_the_order() -> None:
    held = state(("decoder", 3, 6), ("encoder", 6, 3))
    for names in (["encoder", "decoder"], ["encoder.weight", "decoder.weight"]):
        net = from_torch(held, layers=names, activations="tanh")
        assert net == chain(held, "encoder", "decoder", phi="tanh")
    assert net.about.read == "6 → 3 → 6, tanh, from encoder.weight, decoder.weight"
    heads = state(("model.trunk.0", 5, 4), ("model.mu", 4, 4), ("model.log_std", 4, 4))
    net = from_torch(heads, layers=["trunk.0", "mu"], activations="relu")  # the words that all share may be left out
    assert net == from_torch(heads, layers=["model.trunk.0", "model.mu"], activations="relu")
    assert net.about.remarks == ("left out: model.log_std",)
    with_scale = {**heads, "log_scale": torch.zeros(4)}
    net = from_torch(with_scale, layers=["model.trunk.0", "model.mu"], activations="relu")
    assert net.about.remarks == ("left out: model.log_std, log_scale",)
    with pytest.raises(InvalidInputError, match="one name or a list"):
        from_torch(held, layers=["encoder", "decoder"], activations=3)  # type: ignore[arg-type]
    for wrong, words in (
        (["encoder", "middle"], "'middle' is none; the linear layers of the state dict are decoder, encoder"),
        (["encoder", "encoder"], "each named once"),
        (["encoder"], "at least two"),
        ("encoder", "a list of prefixes"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            from_torch(held, layers=wrong, activations="relu")
    with pytest.raises(UnsupportedModelError, match="do not chain"):
        from_torch(state(("a", 3, 4), ("b", 5, 1)), layers=["a", "b"], activations="relu")


def test_layers_do_not_hide_what_stands_between() -> None:
    held = state(("fc1", 3, 4), ("fc2", 4, 1))
    with pytest.raises(UnsupportedModelError, match=r"norm \(weight, bias\) may stand between the layers fc1, fc2"):
        from_torch(
            {**held, "norm.weight": torch.ones(4), "norm.bias": torch.ones(4)},
            layers=["fc1", "fc2"],
            activations="relu",
        )
    statistics = {f"bn.{kind}": torch.ones(4) for kind in ("weight", "bias", "running_mean", "running_var")}
    with pytest.raises(UnsupportedModelError, match=r"the BatchNorm bn stands before or behind .* is not certain"):
        from_torch({**held, **statistics}, layers=["fc1", "fc2"], activations="relu", batch_norm_eps=1e-5)
    apart = state(("actor.0", 3, 4), ("actor.2", 4, 1), ("critic.0", 3, 4), ("critic.2", 4, 1))
    other = {f"critic.1.{kind}": torch.ones(4) for kind in ("weight", "bias", "running_mean", "running_var")}
    net = from_torch({**apart, **other}, layers=["actor.0", "actor.2"], activations="relu")
    assert FeedForward.of(net) == chain(apart, "actor.0", "actor.2")


@pytest.mark.parametrize(
    "layers",
    [
        ("linear", "norm", "relu", "linear"),
        ("linear", "relu", "norm", "linear"),
        ("norm", "linear", "relu", "linear"),
        ("linear", "relu", "linear", "norm"),
        ("linear", "norm", "relu", "drop", "linear", "norm", "relu", "linear"),
    ],
)
def test_batch_norm_in_state_dicts(layers: tuple[str, ...]) -> None:
    made = {"norm": lambda: nn.BatchNorm1d(4), "linear": lambda: nn.Linear(4, 4), "relu": nn.ReLU, "drop": nn.Dropout}
    module = seeded(lambda: nn.Sequential(*(made[layer]() for layer in layers)))
    held = dict(sorted(module.state_dict().items()))
    with pytest.raises(UnsupportedModelError, match=r"whose eps is not in a state dict: pass batch_norm_eps=1e-5"):
        from_torch(held, activations="relu")
    net = from_torch(held, activations="relu", batch_norm_eps=1e-5)
    assert FeedForward.of(net) == FeedForward.of(from_torch(module))
    assert len(net.about.remarks) == layers.count("norm")
    at = layers.index("norm")
    side = f"behind {at - 1}" if at and layers[at - 1] == "linear" else f"before {at + 1}"
    assert net.about.remarks[0] == f"BatchNorm {at} is read {side}, with eps = 1e-05"


@pytest.mark.parametrize("places", [("0", "2", "4"), ("0", "1", "2"), ("fc1", "bn1", "fc2"), ("a.0", "b.1", "a.3")])
def test_batch_norm_whose_place_is_not_certain(places: tuple[str, str, str]) -> None:
    held = state((places[0], 4, 4), (places[2], 4, 4))
    held |= {f"{places[1]}.{kind}": torch.ones(4) for kind in ("weight", "bias", "running_mean", "running_var")}
    with pytest.raises(UnsupportedModelError, match=r"not certain|order of use"):
        from_torch(held, activations="relu", batch_norm_eps=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_tensors_of_any_kind(dtype: Any) -> None:
    held = {name: value.to(dtype).requires_grad_() for name, value in state(("0", 3, 4), ("2", 4, 1)).items()}
    net = from_torch(held, activations="relu")
    assert np.array_equal(net.weights[0], held["0.weight"].detach().double().numpy())
    for make in (lambda t: t.to_sparse(), lambda t: t.to_sparse_csr()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sparse = {**held, "0.weight": make(held["0.weight"].detach())}
        assert from_torch(sparse, activations="relu") == net


def test_checkpoints_in_memory() -> None:
    held = state(("0", 3, 4), ("2", 4, 1))
    one = {"epoch": 3, "state_dict": held, "optimizer": {"state": {0: {"step": 1}}, "param_groups": []}}
    assert from_torch(one, activations="relu") == from_torch(held, activations="relu")
    both = {"model": held, "ema": state(("0", 3, 4), ("2", 4, 1), seed=1)}
    with pytest.raises(
        UnsupportedModelError, match=r"several state dicts, under 'model', 'ema': say which, key='model'"
    ):
        from_torch(both, activations="relu")
    assert from_torch(both, activations="relu", key="ema") == from_torch(both["ema"], activations="relu")
    with pytest.raises(InvalidInputError, match="key='net': the state dicts are under 'model', 'ema'"):
        from_torch(both, activations="relu", key="net")


@pytest.mark.parametrize("seed", [0, 1])
def test_words_of_long_networks_are_short(seed: int) -> None:
    held = state(*((f"{k}", 1, 1) for k in range(500 + seed)))
    read = from_torch(held, activations="relu").about.read
    assert read.startswith("1 → 1 → ")
    assert f"({500 + seed} layers), relu, from 0.weight, 1.weight" in read
    assert len(read) < 500


@pytest.mark.parametrize("seed", range(20))
def test_any_numbered_state_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    widths = rng.integers(1, 6, rng.integers(3, 14))
    held = state(*((f"net.{2 * k}", int(d), int(h)) for k, (d, h) in enumerate(pairwise(widths))))
    names = list(held)
    shuffled = {names[k]: held[names[k]] for k in rng.permutation(len(names))}
    expected = chain(held, *(f"net.{2 * k}" for k in range(len(widths) - 1)))
    assert FeedForward.of(from_torch(shuffled, activations="relu")) == expected
