"""Torch modules with skips, convolutions, pooling and concatenations: values, gradients, and what the layers are."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from certnet.core.errors import UnsupportedModelError  # noqa: E402
from certnet.core.validation import Float  # noqa: E402
from certnet.io import from_torch, load_model, save_model, to_torch  # noqa: E402
from certnet.networks import operators  # noqa: E402
from certnet.networks.operators import Blocks, Convolution  # noqa: E402
from certnet.networks.shallow import ShallowNetwork  # noqa: E402

IMAGE = (2, 6, 6)


def made(forward: Callable[[Any, Any], Any], **layers: Callable[[], Any]) -> Any:
    """A module with these layers, its BatchNorm with statistics."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, layer in layers.items():
                setattr(self, name, layer())

    Net.forward = lambda self, x: forward(self, x)  # type: ignore[method-assign]
    return with_statistics(Net())


def with_statistics(module: Any) -> Any:
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if getattr(layer, "running_mean", None) is not None:
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2.0, generator=generator)
            with torch.no_grad():
                layer.weight.normal_(generator=generator)
                layer.bias.normal_(generator=generator)
    return module.eval()


def outputs(module: Any, X: Float, shape: tuple[int, ...]) -> Float:
    double = copy.deepcopy(module).double()
    with torch.no_grad():
        return double(torch.from_numpy(X).reshape(-1, *shape)).reshape(len(X), -1).numpy()


def check(module: Any, shape: tuple[int, ...], tolerance: float = 1e-9) -> Any:
    """Read the module, and compare values and gradients with its own."""
    net = from_torch(module, example=torch.zeros(2, *shape))
    X = np.random.default_rng(3).normal(size=(20, net.n_inputs))
    expected = outputs(module, X, shape)
    np.testing.assert_allclose(net.forward(X), expected, rtol=0, atol=tolerance * (1.0 + np.abs(expected).max()))
    double = copy.deepcopy(module).double()
    x = torch.from_numpy(X[:2]).reshape(-1, *shape)
    for k in range(2):
        J = torch.autograd.functional.jacobian(lambda z: double(z[None]).ravel(), x[k]).reshape(-1, net.n_inputs)
        found = net.gradients(X[k : k + 1])[0]
        np.testing.assert_allclose(found, J.numpy(), rtol=0, atol=tolerance * (1.0 + float(J.abs().max())))
    return net


# ------------------------------------------------------------------------------------------------------- architectures


class Block(nn.Module):
    """A block of ResNet, with a 1 x 1 convolution in the skip where the size changes."""

    def __init__(self, c: int, d: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c, d, 3, stride, 1, bias=False),
            nn.BatchNorm2d(d),
            nn.ReLU(inplace=True),
            nn.Conv2d(d, d, 3, 1, 1, bias=False),
            nn.BatchNorm2d(d),
        )
        same = stride == 1 and c == d
        self.skip = nn.Identity() if same else nn.Sequential(nn.Conv2d(c, d, 1, stride, bias=False), nn.BatchNorm2d(d))

    def forward(self, x: Any) -> Any:
        return torch.relu(self.body(x) + self.skip(x))


class Dense(nn.Module):
    """A layer of DenseNet."""

    def __init__(self, c: int, growth: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(c), nn.Conv2d(c, growth, 3, padding=1)

    def forward(self, x: Any) -> Any:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 4, 3, padding=1)])
        self.up = nn.Conv2d(6, 2, 3, padding=1)
        self.last = nn.Conv2d(2, 1, 1)

    def forward(self, x: Any) -> Any:
        a = torch.relu(self.down[0](x))
        b = torch.relu(self.down[1](F.max_pool2d(a, 2)))
        c = F.interpolate(b, scale_factor=2, mode="nearest")
        return self.last(torch.relu(self.up(torch.cat([a, c], dim=1))))


def lenet() -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3),
    )  # fmt: skip


def plain_convolutions() -> Any:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, 2, 1), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 2),
    )  # fmt: skip


def resnet() -> Any:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU(), Block(3, 3, 1), Block(3, 4, 2),
        Block(4, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


def seeded(build: Callable[[], Any]) -> Any:
    torch.manual_seed(0)
    return with_statistics(build())


def test_a_chain_of_convolutions_has_one_layer_for_each_activation() -> None:
    net = check(seeded(plain_convolutions), IMAGE)
    assert net.widths == (72, 27, 16, 5, 2)
    assert [type(layer.operator).__name__ for layer in net.layers] == ["Convolution", "Convolution", "Dense", "Dense"]
    assert not any(layer.carried for layer in net.layers)
    assert net.about.read == "72 → 27 → 16 → 5 → 2, relu, from Sequential (torch.export)"
    assert net.about.remarks == ("convolutions are kept as such: 2",)
    module = seeded(plain_convolutions)
    kernel = module[0].weight.detach().double().numpy()
    assert np.array_equal(net.layers[0].operator.kernel, kernel)  # exact where nothing is folded


def test_lenet() -> None:
    net = check(seeded(lenet), (1, 8, 8))
    assert [str(phi) for phi in net.activations] == ["tanh", "identity", "tanh", "identity", "tanh"]


def test_resnet_carries_its_skips_and_needs_no_other_layers() -> None:
    net = check(seeded(resnet), IMAGE)
    assert [str(phi) for phi in net.activations] == [*["relu"] * 7, "identity"]
    assert [layer.carried for layer in net.layers] == [0, 108, 0, 108, 0, 36, 0, 0, 0]
    assert net.about.remarks[-1] == (
        "up to 108 units of a layer are carried past its activation, as skip connections are"
    )


def test_a_small_resnet18() -> None:
    def build() -> Any:
        stages = [(2, 2, 1), (2, 2, 1), (2, 3, 2), (3, 3, 1), (3, 4, 2), (4, 4, 1), (4, 5, 2), (5, 5, 1)]
        return nn.Sequential(
            nn.Conv2d(3, 2, 7, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
            *(Block(*stage) for stage in stages), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(5, 4),
        )  # fmt: skip

    net = check(seeded(build), (3, 32, 32))
    assert net.depth == 1 + 4 + 16 + 1  # the first, max pooling as four, two for each block, average pooling


def test_densenet() -> None:
    module = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 2, 3, padding=1), Dense(2, 2), Dense(4, 2), Dense(6, 2), nn.Conv2d(8, 3, 1), nn.ReLU(),
            nn.AvgPool2d(3), nn.Flatten(), nn.Linear(12, 2),
        )
    )  # fmt: skip
    net = check(module, IMAGE)
    assert isinstance(net.layers[2].operator, Blocks)


def test_unet() -> None:
    net = check(seeded(UNet), (1, 8, 8))
    assert net.n_outputs == 64


def test_preactivation_blocks() -> None:
    def forward(s: Any, x: Any) -> Any:
        y = s.a(x)
        for norm, conv in zip(s.norms, s.convs):
            y = y + conv(F.relu(norm(y)))
        return s.b(F.relu(y).mean((2, 3)))

    net = check(
        made(
            forward,
            a=lambda: nn.Conv2d(2, 3, 1),
            norms=lambda: nn.ModuleList([nn.BatchNorm2d(3) for _ in range(4)]),
            convs=lambda: nn.ModuleList([nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)]),
            b=lambda: nn.Linear(3, 2),
        ),
        IMAGE,
    )
    assert set(net.widths[1:5]) == {216}  # the stream is one value


def test_a_residual_perceptron() -> None:
    module = made(
        lambda s, x: s.c(x + torch.tanh(s.b(torch.relu(s.a(x))))),
        a=lambda: nn.Linear(4, 7),
        b=lambda: nn.Linear(7, 4),
        c=lambda: nn.Linear(4, 2),
    )
    net = from_torch(module)  # the shape is found
    assert net == check(module, (4,))
    assert net.widths == (4, 11, 8, 2)


# ---------------------------------------------------------------------------------------------------------- operators

ONE: dict[str, Callable[[Any, Any], Any]] = {
    "same": lambda s, x: nn.functional.conv2d(x, s.c.weight[:, :, :, :2], s.c.bias, padding="same"),
    "stride, padding, dilation": lambda s, x: F.conv2d(x, s.c.weight, None, (1, 2), (2, 1), (2, 1)),
    "groups": lambda s, x: F.conv2d(x, s.c.weight[:, :1], s.c.bias, groups=2),
    "circular": lambda s, x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), s.c.weight),
    "reflect": lambda s, x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), s.c.weight),
    "ZeroPad2d": lambda s, x: s.c(F.pad(x, (0, 1, 2, 0))),
    "scaled inputs": lambda s, x: s.c((x - 0.5) / torch.tensor([2.0, 3.0])[None, :, None, None]),
    "max pooling": lambda s, x: F.max_pool2d(s.c(x), 2),
    "max pooling, overlapping": lambda s, x: F.max_pool2d(x, 3, 2, 1),
    "max pooling, dilated": lambda s, x: F.max_pool2d(x, (2, 3), 1, 0, 2),
    "max pooling, ceil": lambda s, x: F.max_pool2d(x, 4, 4, ceil_mode=True),
    "max pooling, adaptive": lambda s, x: F.adaptive_max_pool2d(x, (2, 4)),
    "max pooling and indices": lambda s, x: F.max_pool2d_with_indices(x, 2)[0],
    "max over a dimension": lambda s, x: x.amax(1).flatten(1) + x.max(dim=1).values.flatten(1),
    "average pooling": lambda s, x: F.avg_pool2d(x, 3, 2, 1),
    "average pooling without padding": lambda s, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "average pooling, divisor": lambda s, x: F.avg_pool2d(x, (1, 2), divisor_override=3),
    "average pooling, adaptive": lambda s, x: F.adaptive_avg_pool2d(x, (2, 4)),
    "mean": lambda s, x: x.mean((2, 3)) + x.sum((-1, -2)),
    "mean, kept": lambda s, x: x - x.mean((2, 3), keepdim=True),
    "BatchNorm alone": lambda s, x: s.n(torch.relu(s.n(x))),
    "difference": lambda s, x: s.c(x)[:, :2, :, :] - torch.relu(x[:, :, 1:-1, 1:-1]),
    "weighted sum": lambda s, x: torch.add(x, torch.relu(x), alpha=-0.3) * 2.0 - x / 4,
    "rsub": lambda s, x: torch.rsub(x, torch.tanh(x), alpha=2),
    "twice": lambda s, x: x + x,
    "spread": lambda s, x: x + torch.tanh(x[:, :1]),
    "maximum": lambda s, x: torch.maximum(x, s.c(F.pad(x, (1, 1, 1, 1)))[:, :2]),
    "minimum": lambda s, x: torch.minimum(x, torch.tanh(x.flip(2))),
    "maxout": lambda s, x: torch.max(*s.c(x).chunk(2, 1)),
    "cat over width": lambda s, x: torch.cat([x, torch.relu(x)], dim=-1),
    "stack": lambda s, x: torch.stack([x, torch.relu(x)], dim=2),
    "split": lambda s, x: (lambda a, b: torch.cat([b, torch.tanh(a)], 1))(*x.split(1, 1)),
    "unbind": lambda s, x: x.unbind(1)[1] - x.unbind(1)[0],
    "permute": lambda s, x: x.permute(0, 3, 1, 2),
    "transpose": lambda s, x: x.flatten(2).transpose(1, 2),
    "slices": lambda s, x: x[:, :, ::2, 1:-1],
    "indices": lambda s, x: x[:, [1, 0, 1]],
    "roll and flip": lambda s, x: x.roll(1, 2).flip(1, 3),
    "upsampling": lambda s, x: s.c(F.interpolate(x, scale_factor=2)),
    "upsampling to a size": lambda s, x: F.interpolate(x, size=(7, 9), mode="nearest"),
    "pixel shuffle": lambda s, x: F.pixel_shuffle(F.pixel_unshuffle(x, 2), 3 - 1),
    "channel shuffle": lambda s, x: F.channel_shuffle(s.c(x), 2),
    "expand": lambda s, x: x[:, :, None].expand(-1, -1, 3, -1, -1),
    "repeat": lambda s, x: x.repeat(1, 2, 1, 1).repeat_interleave(2, dim=3),
    "signals": lambda s, x: F.max_pool1d(F.conv1d(x.flatten(2), s.c.weight[:, :, 0], padding=1, stride=2), 2),
    "signals averaged": lambda s, x: F.avg_pool1d(F.adaptive_avg_pool1d(x.flatten(2), 12), 3, padding=1),
    "swish of a convolution": lambda s, x: F.silu(s.c(x)),
    "written swish": lambda s, x: (lambda z: z * torch.sigmoid(z))(s.c(x)),
    "Dropout2d": lambda s, x: F.dropout2d(s.c(x), training=False),
    "shared weights": lambda s, x: s.c(torch.relu(s.c(x)[:, :2])),
}


@pytest.mark.parametrize("kind", ONE)
@pytest.mark.parametrize("ends", [True, False])
def test_operators(kind: str, ends: bool) -> None:
    """Each alone before a ReLU, and between two activations."""
    one = ONE[kind]
    module = made(
        (lambda s, x: torch.relu(one(s, x))) if ends else (lambda s, x: torch.tanh(one(s, torch.tanh(x))).flatten(1)),
        c=lambda: nn.Conv2d(2, 4, 3),
        n=lambda: nn.BatchNorm2d(2),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an even kernel with padding="same"
        check(module, IMAGE)


@pytest.mark.parametrize("seed", range(6))
def test_operators_one_after_another(seed: int) -> None:
    """Random operators with skips between them, brought back to the size of the image."""
    rng = np.random.default_rng(seed)
    kinds = [str(kind) for kind in rng.choice(list(ONE), size=3)]
    skips = rng.random(3) < 0.5

    def forward(s: Any, x: Any) -> Any:
        for kind, skip in zip(kinds, skips):
            y = ONE[kind](s, x)
            y = y.reshape(len(y), 1, 1, -1) if y.ndim != 4 else y
            y = F.adaptive_avg_pool2d(y, (6, 6))
            y = torch.cat([y, y], 1)[:, :2]
            x = torch.relu_(y + x) if skip else torch.tanh(y)
        return s.c(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an even kernel with padding="same"
        check(made(forward, c=lambda: nn.Conv2d(2, 4, 3), n=lambda: nn.BatchNorm2d(2)), IMAGE)


def test_sums_in_place() -> None:
    def forward(s: Any, x: Any) -> Any:
        y = s.c(F.pad(x, (1, 1, 1, 1)))[:, :2]
        y += x
        y = y.relu()
        y = y * 2.0
        return y.sub_(x)

    check(made(forward, c=lambda: nn.Conv2d(2, 4, 3)), IMAGE)


@pytest.mark.parametrize(
    "kind", ["slices", "max pooling, overlapping", "circular", "split", "average pooling", "maxout"]
)
def test_exported_programs(kind: str) -> None:
    one = ONE[kind]
    module = made(lambda s, x: torch.relu(one(s, x)).flatten(1), c=lambda: nn.Conv2d(2, 4, 3))
    for batch in (None, 3):
        shapes = ({0: torch.export.Dim.DYNAMIC},) if batch is None else None
        program = torch.export.export(module, (torch.zeros(batch or 2, *IMAGE),), dynamic_shapes=shapes, strict=False)
        net = from_torch(program)
        X = np.random.default_rng(0).normal(size=(10, net.n_inputs))
        np.testing.assert_allclose(net.forward(X), outputs(module, X, IMAGE), rtol=0, atol=1e-6)


def test_a_convolution_of_a_vector_is_found_without_an_example() -> None:
    module = seeded(
        lambda: nn.Sequential(nn.Linear(5, 18), nn.ReLU(), nn.Unflatten(1, (2, 3, 3)), nn.Conv2d(2, 1, 2), nn.Flatten())
    )
    net = from_torch(module)
    assert net.widths == (5, 18, 4)
    assert isinstance(net.layers[1].operator, Convolution)


def test_moves_that_end_as_matrices_are_dense_layers() -> None:
    module = made(
        lambda s, x: s.b(torch.relu(s.a(x.permute(0, 2, 3, 1).flatten(1)))),
        a=lambda: nn.Linear(72, 5),
        b=lambda: nn.Linear(5, 2),
    )
    net = check(module, IMAGE)
    assert isinstance(net, ShallowNetwork)
    weight = module.a.weight.detach().double().numpy().reshape(5, 6, 6, 2)
    assert np.array_equal(net.weights[0], weight.transpose(0, 3, 1, 2).reshape(5, 72))


def test_a_softmax_at_the_end_of_convolutions_is_left_out() -> None:
    module = seeded(lambda: nn.Sequential(*resnet(), nn.Softmax(1)))
    net = from_torch(module, example=torch.zeros(1, *IMAGE))
    assert net.about.remarks[-1].startswith("softmax is left out")
    X = np.random.default_rng(0).normal(size=(5, 72))
    found = torch.softmax(torch.from_numpy(net.forward(X)), 1).numpy()
    np.testing.assert_allclose(found, outputs(module, X, IMAGE), atol=1e-12)


# ------------------------------------------------------------------------------------------------------------ refusals

REFUSED: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "transposed": (lambda s, x: F.conv_transpose2d(x, s.c.weight[:2]), "transposed convolutions are not read"),
    "three dimensions": (lambda s, x: F.conv3d(x[:, None], s.c.weight[:1, None]), "in three they are not"),
    "a large window": (lambda s, x: F.max_pool2d(F.interpolate(x, scale_factor=2), 9), "81 entries"),
    "ceil": (lambda s, x: F.avg_pool2d(x, 4, 4, ceil_mode=True), "ceil_mode"),
    "a gate": (lambda s, x: x * torch.sigmoid(s.c(F.pad(x, (1, 1, 1, 1)))[:, :2]), r"two paths .* \(mul\)"),
    "squeeze and excite": (lambda s, x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)), r"two paths .* \(mul\)"),
    "a quotient": (lambda s, x: x / (1.0 + torch.relu(x)), r"two paths .* \(div\)"),
    "a kernel of data": (lambda s, x: F.conv2d(x, x[:1, :, :2, :2]), "mixes the samples|two paths|mixed"),
    "bilinear": (lambda s, x: F.interpolate(x, scale_factor=2, mode="bilinear"), "bilinear"),
    "GroupNorm": (lambda s, x: F.group_norm(x, 1), "no bound"),
    "over the batch": (lambda s, x: x + x.flip(0), "samples of a batch are mixed"),
    "a matrix product": (lambda s, x: x.flatten(2) @ x.flatten(2).transpose(1, 2), r"two paths .* \(matmul\)"),
    "padding with ones": (lambda s, x: F.pad(x, (1, 1), value=0.5), "numbers are put in"),
    "LpPool": (lambda s, x: F.lp_pool2d(x, 2.0, 2), "not read"),
    "softmax in between": (lambda s, x: torch.softmax(x, 1) + x, "softmax"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_with_the_reason(kind: str) -> None:
    one, words = REFUSED[kind]
    module = made(lambda s, x: torch.relu(one(s, torch.tanh(x))), c=lambda: nn.Conv2d(2, 4, 3))
    with pytest.raises(UnsupportedModelError, match=words):
        from_torch(module, example=torch.zeros(2, *IMAGE))


def test_padding_with_a_whole_number_is_no_move() -> None:
    module = made(lambda s, x: torch.relu(F.pad(x, (1, 1), value=3.0)))
    with pytest.raises(UnsupportedModelError, match="the samples of a batch are mixed"):
        from_torch(module, example=torch.zeros(2, *IMAGE))


def test_reading_makes_no_matrix_of_an_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(operator: Any) -> Float:
        raise AssertionError(type(operator).__name__)

    monkeypatch.setattr(operators.Structured, "matrix", property(refuse))
    for build, shape in ((lenet, (1, 8, 8)), (resnet, IMAGE), (UNet, (1, 8, 8))):
        net = from_torch(seeded(build), example=torch.zeros(1, *shape))
        with pytest.raises(AssertionError):
            _ = net.weights


def test_an_example_is_asked_for() -> None:
    for build in (lenet, resnet, lambda: nn.Sequential(nn.Conv1d(2, 3, 1), nn.ReLU())):
        with pytest.raises(UnsupportedModelError, match=r"pass one batch, such as example=torch.zeros\(1, "):
            from_torch(seeded(build))


def test_a_state_dict_of_convolutions_says_what_to_do() -> None:
    for build in (lenet, resnet):
        with pytest.raises(UnsupportedModelError, match=r"convolution.*from_torch\(module, example=x\)"):
            from_torch(seeded(build).state_dict(), activations="relu")


def test_structured_networks_are_saved_as_npz_alone(tmp_path: Any) -> None:
    net = from_torch(seeded(resnet), example=torch.zeros(1, *IMAGE))
    again = load_model(save_model(net, tmp_path / "net.npz"))
    assert again == net
    assert again.about == net.about
    with pytest.raises(UnsupportedModelError, match=r"convolutions, skips .* save it as .npz"):
        to_torch(net)
    for suffix in (".pt", ".onnx"):
        with pytest.raises(UnsupportedModelError, match="npz"):
            save_model(net, tmp_path / f"net{suffix}")
        assert not (tmp_path / f"net{suffix}").exists()
