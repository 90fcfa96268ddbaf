"""from_torch, to_torch and files: bit-exact weights, nothing executed, clear refusals."""

from __future__ import annotations

import io
import os
import pickle
import warnings
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certnet.core.errors import FileFormatError, InvalidInputError, OutputError, UnsupportedModelError
from certnet.io import from_torch, load_torch, save_torch, to_torch
from certnet.networks.activations import ACTIVATIONS, Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork

torch = pytest.importorskip("torch", reason='PyTorch is not installed: pip install "certnet[torch]"')
nn = torch.nn


def random_network(d: int = 3, h: int = 5, m: int = 1, seed: int = 0) -> ShallowNetwork:
    rng = np.random.default_rng(seed)
    return ShallowNetwork(rng.normal(size=(h, d)), rng.normal(size=h), rng.normal(size=(m, h)), rng.normal(size=m))


def sequential(*layers: object) -> object:
    """Linear, ReLU, Linear with some layers replaced or added, its random state local."""
    return nn.Sequential(*layers) if layers else to_torch(random_network())


def evaluate(module: object, X: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.as_tensor(X)).numpy()  # type: ignore[operator]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 8), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_round_trip_is_bit_exact(d: int, h: int, m: int, seed: int) -> None:
    net = random_network(d, h, m, seed)
    module = to_torch(net)
    assert from_torch(module).digest == net.digest
    assert from_torch(module.state_dict(), activations="relu").digest == net.digest
    X = np.random.default_rng(seed).normal(size=(7, d))
    np.testing.assert_allclose(evaluate(module, X), net.forward(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_float_type_is_exact(dtype: str) -> None:
    module = to_torch(random_network()).to(getattr(torch, dtype))
    net = from_torch(module)
    assert np.array_equal(net.W, np.array(module[0].weight.tolist()))
    assert np.array_equal(net.V, np.array(module[2].weight.tolist()))
    X = np.random.default_rng(1).normal(size=(9, 3))
    np.testing.assert_allclose(evaluate(module.double(), X), net.forward(X), rtol=1e-12, atol=1e-12)


def test_predictions_of_a_trained_float32_module() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 16), nn.ReLU(inplace=True), nn.Linear(16, 2))
    X = np.random.default_rng(2).normal(size=(20, 4)).astype(np.float32)
    np.testing.assert_allclose(evaluate(module, X), from_torch(module, units="raw").forward(X), rtol=1e-4, atol=1e-5)
    assert from_torch(module, units="raw").units == "raw"


def test_missing_biases_are_zero() -> None:
    module = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False)).double()
    X = np.random.default_rng(3).normal(size=(9, 3))
    for net in (from_torch(module), from_torch(module.state_dict(), activations="relu")):
        assert not net.b.any()
        assert not net.c.any()
        np.testing.assert_allclose(evaluate(module, X), net.forward(X), rtol=1e-12, atol=1e-12)


def test_nested_sequences_are_opened() -> None:
    module = sequential()
    nested = nn.Sequential(nn.Sequential(module[0], module[1]), nn.Sequential(module[2]))
    assert from_torch(nested) == from_torch(module)


@pytest.mark.parametrize(
    "keys",
    [
        ("0.weight", "0.bias", "2.weight", "2.bias"),
        ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"),
        ("module.body.in.weight", "module.body.in.bias", "module.out.weight", "module.out.bias"),
    ],
)
def test_state_dict_with_any_prefix(keys: tuple[str, ...]) -> None:
    values = list(to_torch(random_network(m=2)).state_dict().values())
    assert from_torch(dict(zip(keys, values)), activations="relu") == random_network(m=2)
    shuffled = {keys[i]: values[i] for i in (1, 2, 0, 3)}  # the order of a mapping says nothing
    assert from_torch(shuffled, activations="relu") == random_network(m=2)


def test_to_torch_is_a_copy_in_float64_and_leaves_the_random_state() -> None:
    net = random_network()
    before = torch.random.get_rng_state()
    module = to_torch(net)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [p.dtype for p in module.parameters()] == [torch.float64] * 4
    assert all(p.requires_grad for p in module.parameters())
    module(torch.ones(2, 3, dtype=torch.float64)).sum().backward()
    digest = net.digest
    with torch.no_grad():
        module[0].weight.zero_()
    assert net.digest == digest


def test_source_is_not_changed_nor_shared() -> None:
    module = sequential()
    net = from_torch(module)
    with torch.no_grad():
        module[0].weight.zero_()
    assert net == random_network()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_weights_are_copied_to_the_host() -> None:
    module = to_torch(random_network()).cuda()
    assert from_torch(module) == random_network()
    assert module[0].weight.is_cuda


def linear(d: int, h: int) -> object:
    return nn.utils.skip_init(nn.Linear, d, h)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: sequential(double(3, 4), nn.Softplus(threshold=5), double(4, 1)), "threshold of at least 20"),
        (lambda: sequential(nn.Flatten(0), linear(3, 4), nn.ReLU(), linear(4, 1)), "is not read"),
        (lambda: sequential(linear(3, 4), nn.ReLU(), nn.Dropout(), linear(4, 1)), r"Dropout.*module.eval\(\)"),
        (
            lambda: sequential(double(3, 4), nn.BatchNorm1d(4).double(), nn.ReLU(), double(4, 1)),
            "BatchNorm in training",
        ),
        (lambda: sequential(linear(3, 1)), "Sequential has no hidden layer"),
        (lambda: nn.Sequential(), "it has no weights"),
        (lambda: double(3, 1), "Linear .*has no hidden layer"),
        (lambda: sequential(linear(3, 4), nn.ReLU(), linear(5, 1)), r"shape \(1, 5\) behind one that gives 4.*chain"),
    ],
)
def test_unsupported_modules(make: object, match: str) -> None:
    with pytest.raises(UnsupportedModelError, match=match):
        from_torch(make())  # type: ignore[operator]


ACTIVATION_MODULES = [
    (lambda: nn.ReLU(inplace=True), Activation("relu")),
    (nn.LeakyReLU, Activation("leaky_relu", (0.01,))),
    (lambda: nn.LeakyReLU(0.3), Activation("leaky_relu", (0.3,))),
    (nn.Tanh, Activation("tanh")),
    (nn.Sigmoid, Activation("sigmoid")),
    (lambda: nn.Softplus(threshold=40), Activation("softplus")),
    (nn.ELU, Activation("elu", (1.0,))),
    (lambda: nn.ELU(0.7), Activation("elu", (0.7,))),
    (nn.Hardsigmoid, Activation("hard_sigmoid", (1 / 6, 0.5))),
    (nn.Identity, Activation("identity")),
    (nn.ReLU6, Activation("relu6")),
    (nn.Hardtanh, Activation("hardtanh", (-1.0, 1.0))),
    (lambda: nn.Hardtanh(-0.5, 2.0), Activation("hardtanh", (-0.5, 2.0))),
    (nn.Hardswish, Activation("hard_swish")),
    (nn.GELU, Activation("gelu")),
    (lambda: nn.GELU(approximate="tanh"), Activation("gelu_tanh")),
    (nn.SiLU, Activation("silu")),
    (nn.Mish, Activation("mish")),
    (nn.SELU, Activation("selu")),
    (lambda: nn.CELU(0.6), Activation("celu", (0.6,))),
    (nn.Softsign, Activation("softsign")),
    (nn.LogSigmoid, Activation("log_sigmoid")),
    (lambda: nn.Softplus(3.0, 40), Activation("softplus_beta", (3.0,))),
    (lambda: nn.PReLU(dtype=torch.float64), Activation("leaky_relu", (0.25,))),
]


def double(d: int, h: int) -> object:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(d + 10 * h)
        return nn.Linear(d, h).double()


@pytest.mark.parametrize(("make", "phi"), ACTIVATION_MODULES)
def test_deep_modules_with_every_activation(make: object, phi: Activation) -> None:
    module = nn.Sequential(nn.Flatten(), double(4, 6), make(), nn.Sequential(double(6, 5), make()), double(5, 2))
    net = from_torch(module, units="raw")
    assert isinstance(net, FeedForward)
    assert net.activations == (phi, phi)
    assert net.units == "raw"
    assert np.array_equal(net.weights[1], module[3][0].weight.detach().numpy())
    X = 4.0 * np.random.default_rng(6).normal(size=(50, 4))
    np.testing.assert_allclose(evaluate(module, X.reshape(50, 2, 2)), net.forward(X), rtol=1e-12, atol=1e-12)
    back = to_torch(net)
    assert from_torch(back) == net.labelled("as given")
    np.testing.assert_allclose(evaluate(back, X), net.forward(X), rtol=1e-12, atol=1e-12)


def test_default_softplus_differs_by_its_jump_only() -> None:
    module = nn.Sequential(double(1, 3), nn.Softplus(), double(3, 1))
    X = np.linspace(-200.0, 200.0, 4001)[:, None]
    assert np.max(np.abs(evaluate(module, X) - from_torch(module).forward(X))) < 1e-8


def test_one_hidden_layer_is_shallow_only_with_relu() -> None:
    assert isinstance(from_torch(nn.Sequential(double(3, 4), nn.ReLU(), double(4, 1))), ShallowNetwork)
    assert from_torch(nn.Sequential(double(3, 4), nn.Tanh(), double(4, 1))).activations == (Activation("tanh"),)
    linear_only = from_torch(nn.Sequential(double(3, 4), double(4, 1)))  # nothing between them is the identity
    assert linear_only.activations == (Activation("identity"),)
    assert linear_only == from_torch(nn.Sequential(double(3, 4), nn.Identity(), double(4, 1)))


def test_dropout_in_eval_mode_is_passed_over() -> None:
    parts = [double(3, 4), nn.ReLU(), nn.Dropout(0.5), double(4, 1)]
    with pytest.raises(UnsupportedModelError, match=r"training mode is random, no function: call module.eval\(\)"):
        from_torch(nn.Sequential(*parts))
    assert from_torch(nn.Sequential(*parts).eval()) == from_torch(nn.Sequential(parts[0], parts[1], parts[3]))


def test_networks_that_torch_cannot_express() -> None:
    for phi in (Activation("hard_sigmoid"), Activation("user", (0.0, 1.0))):
        with pytest.raises(UnsupportedModelError, match="PyTorch has no module"):
            to_torch(FeedForward([np.eye(2), np.eye(2)], [np.zeros(2)] * 2, phi))


def test_state_dicts_with_activations_said() -> None:
    module = nn.Sequential(double(3, 4), nn.Tanh(), double(4, 5), nn.ELU(), double(5, 2))
    state = module.state_dict()
    assert from_torch(state, activations=["tanh", "elu"]) == from_torch(module)
    assert from_torch(state, activations="relu").activations == (Activation("relu"),) * 2
    assert from_torch(state, activations=[(0.0, 1.0), "tanh"]).activations[0].slopes == (0.0, 1.0)
    with pytest.raises(
        UnsupportedModelError,
        match=r'3 → 4 → 5 → 2 \(0, 2, 4\).*not tell the .* from_torch\(state, activations="relu"\).*--activation relu',
    ):
        from_torch(state)
    with pytest.raises(InvalidInputError, match="1 activations and 2 hidden layers"):
        from_torch(state, activations=["tanh"])
    with pytest.raises(UnsupportedModelError, match="'swish' is not known"):
        from_torch(state, activations="swish")
    with pytest.raises(InvalidInputError, match="a module tells its own"):
        from_torch(module, activations="relu")
    two = sequential().state_dict()
    with pytest.raises(UnsupportedModelError, match="does not tell the activations"):  # not of two layers either
        from_torch(two)
    assert isinstance(from_torch(two, activations="relu"), ShallowNetwork)
    assert from_torch(two, activations="sigmoid").activations == (Activation("sigmoid"),)


def test_state_dicts_of_other_networks_are_not_written(tmp_path: Path) -> None:
    deep = FeedForward([np.eye(2)] * 3, [np.zeros(2)] * 3, "relu")
    for net in (deep, FeedForward([np.eye(2)] * 2, [np.zeros(2)] * 2, "tanh")):
        with pytest.raises(UnsupportedModelError, match="does not tell the activations"):
            save_torch(net, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())
    shallow = FeedForward([np.eye(2)] * 2, [np.zeros(2)] * 2, "relu")
    assert load_torch(save_torch(shallow, tmp_path / "model.pt"), activations="relu") == shallow.shallow()
    torch.save(to_torch(deep).state_dict(), tmp_path / "deep.pt")
    assert load_torch(tmp_path / "deep.pt", activations="relu") == deep
    with pytest.raises(UnsupportedModelError, match=r"deep.pt: .*does not tell"):
        load_torch(tmp_path / "deep.pt")


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from(sorted({*ACTIVATIONS} - {"hard_sigmoid", "softplus_beta"})), min_size=1, max_size=4),
    st.integers(0, 999),
)
def test_deep_round_trip_is_bit_exact(names: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, len(names) + 2)
    Ws = [rng.normal(size=(h, d)) for d, h in pairwise(sizes)]
    net = FeedForward(Ws, [rng.normal(size=len(W)) for W in Ws], names)
    back = from_torch(to_torch(net))
    assert FeedForward.of(back).digest == net.digest
    X = rng.normal(size=(7, sizes[0]))
    np.testing.assert_allclose(evaluate(to_torch(net), X), net.forward(X), rtol=1e-12, atol=1e-12)


def test_subclass_of_sequential_is_traced() -> None:
    class Doubled(nn.Sequential):
        def forward(self, x: object) -> object:
            return 2 * super().forward(x)

    net = from_torch(Doubled(*sequential()))
    assert np.array_equal(net.V, 2.0 * random_network().V)
    assert net.about.read == "3 → 5 → 1, relu, from Doubled (torch.export)"


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_parametrisations_are_traced(name: str) -> None:
    module = sequential()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(nn.utils.parametrizations, name)(module[0])
    module.eval()
    with pytest.raises(UnsupportedModelError, match=r"is a parametrisation .*removed first"):
        from_torch(module.state_dict(), activations="relu")
    X = np.random.default_rng(4).normal(size=(5, 3))
    np.testing.assert_allclose(from_torch(module).forward(X), evaluate(module, X), rtol=1e-12, atol=1e-12)
    nn.utils.parametrize.remove_parametrizations(module[0], "weight")
    np.testing.assert_allclose(from_torch(module).forward(X), evaluate(module, X), rtol=1e-12, atol=1e-12)


def test_hooks_are_traced() -> None:
    module = sequential()
    for register in (module[0].register_forward_hook, module.register_forward_hook):
        handle = register(lambda layer, inputs, output: 2 * output)
        X = np.random.default_rng(4).normal(size=(5, 3))
        np.testing.assert_allclose(from_torch(module).forward(X), evaluate(module, X), rtol=1e-12, atol=1e-12)
        handle.remove()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old form is deprecated, and still in use
        nn.utils.weight_norm(module[2])
    np.testing.assert_allclose(from_torch(module).forward(X), evaluate(module, X), rtol=1e-12, atol=1e-12)
    nn.utils.remove_weight_norm(module[2])
    np.testing.assert_allclose(from_torch(module).V, random_network().V, rtol=1e-12)


def state(**changes: object) -> dict[str, object]:
    return {**to_torch(random_network()).state_dict(), **changes}


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: {}, "holds nothing: at least two linear layers"),
        (lambda: {"0.weight": torch.ones(2, 2)}, "holds 0.weight: at least two"),
        (
            lambda: state(**{"4.weight": torch.ones(1, 2)}),
            r"layers 2 and 4 .*\(1, 5\) and \(1, 2\), which do not chain",
        ),
        (lambda: state(**{"1.weight": torch.ones(5)}), "'1.weight' of shape \\(5,\\).*LayerNorm"),
        (lambda: state(**{"1.weight": torch.ones(5, 1, 3, 3)}), "'1.weight' of shape .* convolution"),
        (lambda: state(**{"1.running_mean": torch.ones(5), "1.running_var": torch.ones(5)}), "batch_norm_eps=1e-5"),
        (lambda: {"a.bias": torch.ones(2), "b.weight": torch.ones(2, 2)}, "holds a.bias, b.weight"),
        (lambda: {"model": {"a": 1}, "epoch": 3}, "'model' is dict, not a tensor.*checkpoint"),
        (lambda: {"0.weight": np.ones((2, 2))}, "'0.weight' is ndarray"),
        (lambda: {3: torch.ones(2, 2)}, "keys of a state dict are text"),
        (lambda: {"b.weight": torch.ones(1, 4), "a.weight": torch.ones(5, 3)}, "do not chain in any order"),
        (lambda: state(**{"0.weight": torch.ones(5, 3, device="meta")}), "W is on the meta device"),
        (lambda: state(**{"2.weight": torch.ones(1, 5, dtype=torch.int64)}), "V has dtype torch.int64"),
        (lambda: state(**{"0.weight": torch.ones(5, 3, dtype=torch.complex64)}), "W has dtype torch.complex64"),
    ],
)
def test_unsupported_state_dicts(make: object, match: str) -> None:
    with pytest.raises(UnsupportedModelError, match=match):
        from_torch(make(), activations="relu" if "batch_norm" not in match else None)  # type: ignore[operator]


@pytest.mark.parametrize("source", ["model.pt", None, torch.ones(2, 2)])
def test_other_sources(source: object) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"found {type(source).__name__}.*load_torch\(path\)"):
        from_torch(source)  # type: ignore[arg-type]


def test_bad_values() -> None:
    with pytest.raises(InvalidInputError, match="W has 1 entries that are NaN or infinite"):
        from_torch(
            state(**{"0.weight": torch.ones(5, 3).index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(np.inf))}),
            activations="relu",
        )
    with pytest.raises(InvalidInputError, match="b has shape"):
        from_torch(state(**{"0.bias": torch.ones(4)}), activations="relu")
    with pytest.raises(InvalidInputError, match="units must be one of"):
        from_torch(sequential(), units="furlongs")


# files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".PT"])
def test_file_round_trip(tmp_path: Path, suffix: str) -> None:
    net = random_network(m=2)
    path = save_torch(net, tmp_path / f"model{suffix}")
    assert load_torch(path, activations="relu") == net
    assert load_torch(str(path), activations="relu", units="raw").units == "raw"
    assert os.listdir(tmp_path) == [path.name]
    module = to_torch(random_network(m=2, seed=9))
    module.load_state_dict(torch.load(path, weights_only=True))
    assert from_torch(module) == net


def test_save_does_not_overwrite(tmp_path: Path) -> None:
    path = save_torch(random_network(), tmp_path / "model.pt")
    with pytest.raises(OutputError, match="exists"):
        save_torch(random_network(seed=1), path)
    assert load_torch(path, activations="relu") == random_network()
    save_torch(random_network(seed=1), path, force=True)
    assert load_torch(path, activations="relu") == random_network(seed=1)
    with pytest.raises(OutputError, match="does not exist"):
        save_torch(random_network(), tmp_path / "nowhere" / "model.pt")


def test_old_file_format_is_read(tmp_path: Path) -> None:
    torch.save(to_torch(random_network()).state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert load_torch(tmp_path / "old.pt", activations="relu") == random_network()


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("writer", ["pickle", "torch", "torch, old format", "state dict"])
@pytest.mark.parametrize("forced", ["0", "1"])
def test_nothing_in_a_file_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, forced: str
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    made, path = tmp_path / "made", tmp_path / "model.pt"
    malicious = Malicious(made)
    if writer == "pickle":
        path.write_bytes(pickle.dumps(malicious))
    else:
        content = OrderedDict(state(**{"4.weight": malicious})) if writer == "state dict" else malicious
        torch.save(content, path, _use_new_zipfile_serialization="old" not in writer)
    with pytest.raises(FileFormatError, match=r"which would run code; save .*torch.save\(model.state_dict\(\), path\)"):
        load_torch(path)
    assert not made.exists()
    with path.open("rb") as file:  # the trap works where it is let loose
        (pickle if writer == "pickle" else torch).load(file, **({} if writer == "pickle" else {"weights_only": False}))
    assert made.exists()


def test_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(sequential(), tmp_path / "model.pt")
    with pytest.raises(FileFormatError, match=r"a whole module.*torch.save\(model.state_dict\(\), path\)"):
        load_torch(tmp_path / "model.pt")


def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still found on disks
        torch.jit.script(sequential()).save(str(path))
    with pytest.raises(FileFormatError, match="TorchScript"):
        load_torch(path)


@pytest.mark.parametrize("kept", [1, 10, 200, -1, -30])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_files(tmp_path: Path, kept: int, zipped: bool) -> None:
    buffer = io.BytesIO()
    torch.save(to_torch(random_network()).state_dict(), buffer, _use_new_zipfile_serialization=zipped)
    path = tmp_path / "model.pt"
    path.write_bytes(buffer.getvalue()[:kept])
    with pytest.raises(FileFormatError, match="truncated"):
        load_torch(path)


@pytest.mark.parametrize("content", [b"not a model", b"PK\x03\x04rest", b"\x80\x04.", b"\x00" * 500])
def test_garbage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="is no PyTorch state dict"):
        load_torch(path)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_give_a_file_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pt"
    path.write_bytes(content)
    with pytest.raises(FileFormatError):
        load_torch(path)


def test_missing_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="does not exist"):
        load_torch(tmp_path / "model.pt")
    (tmp_path / "model.pt").touch()
    with pytest.raises(FileFormatError, match="is empty"):
        load_torch(tmp_path / "model.pt")
    with pytest.raises(FileFormatError, match="is a folder"):
        load_torch(tmp_path)


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        (torch.ones(2, 2), FileFormatError, "holds Tensor, not a state dict"),
        ([1, 2], FileFormatError, "holds list"),
        ({"model": {"a": 1}, "epoch": 1}, UnsupportedModelError, "model.pt: the entry 'model' is dict"),
        (state(**{"0.weight": torch.full((5, 3), torch.nan)}), InvalidInputError, "model.pt: W has 15 entries"),
        (state(**{"0.weight": torch.ones(1).expand(10**7, 10**7)}), FileFormatError, "only 1 stored entries"),
    ],
)
def test_files_with_other_content(tmp_path: Path, content: object, error: type[Exception], match: str) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(error, match=match):
        load_torch(tmp_path / "model.pt", activations="relu")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads every file")
def test_unreadable_file(tmp_path: Path) -> None:
    path = save_torch(random_network(), tmp_path / "model.pt")
    path.chmod(0)
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_torch(path)
