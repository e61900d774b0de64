"""NIR files: values after a round trip, other programs, strange files."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from support.small_runs import GAUSSIAN, PCM, small_task, small_train
from torch import nn

from noisylearn import Chip, UserError, decorrelate, load_profile, networks, tasks
from noisylearn.backends.nir import ExchangeWarning, export_nir, read_nir, write_nir
from noisylearn.rules import ANP, BP, BPTT, NP, WP, Delta, LearnedFeedback, PerLayer, Rule

nir = pytest.importorskip("nir", reason="nir is not installed")
snntorch = pytest.importorskip("snntorch", reason="snntorch is not installed")

KINDS = ["leaky", "rleaky", "synaptic"]


def spiking(kind: str = "leaky", **options: Any) -> networks.Spiking:
    settings = {"neuron": kind, "threshold": 0.3, "reset": "zero", "beta": 0.87, "alpha": 0.71, "seed": 1} | options
    return networks.Spiking(30, [20, 15], 4, **settings)


def mlp(hidden: tuple[int, ...] = (20, 15)) -> nn.Sequential:
    return networks.mlp(30, hidden, 4, activation="identity", seed=1)


def rnn(**options: Any) -> networks.RNN:
    return networks.RNN(30, [20, 15], 4, activation="identity", seed=1, **options)


MODELS: dict[str, Callable[[], nn.Module]] = {
    **{kind: (lambda kind=kind: spiking(kind)) for kind in KINDS},
    "subtract": lambda: spiking(reset="subtract"),
    "decorrelated spiking": lambda: decorrelate(spiking(), 1e-3),
    "mlp": mlp,
    "one layer": lambda: mlp(()),
    "decorrelated mlp": lambda: decorrelate(mlp(), 1e-3),
    "rnn": rnn,
    "decorrelated rnn with bias": lambda: rnn(bias=True, decorrelation_rate=1e-3),
}


def stirred(model: nn.Module) -> nn.Module:
    """The network with a different value for every parameter and decorrelation."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in [*model.parameters(), *(b for b in model.buffers() if b.ndim == 2)]:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.filterwarnings("ignore::noisylearn.backends.nir.ExchangeWarning")
@pytest.mark.parametrize("name", MODELS)
def test_every_value_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    model = stirred(MODELS[name]())
    found = read_nir(write_nir(tmp_path / "net.nir", model)).model
    assert type(found) is type(model)
    before, after = model.state_dict(), found.state_dict()
    assert before.keys() == after.keys()
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, rtol=0, atol=0, equal_nan=True, msg=key)
    resets = [[getattr(m, "reset_mechanism", None) for m in net.modules()] for net in (model, found)]
    rates = [[getattr(m, "rate", None) for m in net.modules()] for net in (model, found)]
    assert resets[0] == resets[1]
    assert rates[0] == rates[1]


def trains(steps: int = 40, batch: int = 16) -> torch.Tensor:
    return (torch.rand(steps, batch, 30, generator=torch.Generator().manual_seed(0)) < 0.2).float()


def followed(model: nn.Module, inputs: torch.Tensor) -> np.ndarray:
    state, outputs = None, []
    with torch.no_grad():
        for x in inputs:
            y, state = model(x, state)
            outputs.append(y.numpy())
    return np.stack(outputs)


def windows(x: np.ndarray, kernel: Any, stride: Any, padding: Any, dilation: Any) -> np.ndarray:
    """(batch, channels, height, width, kernel height, kernel width): what a kernel sees at every place."""
    if isinstance(padding, str):
        total = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
        margins = [(n // 2, n - n // 2) for n in total]
    else:
        margins = [(p, p) for p in padding]
    x = np.pad(x, [(0, 0), (0, 0), *margins])
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    return seen[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def without_memory(node: Any, given: np.ndarray) -> np.ndarray | None:
    """What a node without a state makes of samples, in plain numpy; None for neurons."""
    kind, pair = type(node).__name__, lambda values: np.broadcast_to(values, 2)
    if kind in ("Affine", "Linear"):
        return given @ node.weight.astype(np.float64).T + getattr(node, "bias", 0.0)
    if kind == "Conv1d":
        one = nir.Conv2d(
            None,
            node.weight[:, :, None],
            (1, node.stride),
            (0, node.padding),
            (1, node.dilation),
            node.groups,
            node.bias,
        )
        return without_memory(one, given[:, :, None])[:, :, 0]
    if kind == "Conv2d":
        padding = node.padding if isinstance(node.padding, str) else pair(node.padding)
        seen = windows(given, node.weight.shape[2:], pair(node.stride), padding, pair(node.dilation))
        n_groups, weight = node.groups, node.weight.astype(np.float64)
        parts = [
            np.einsum("bchwij,ocij->bohw", x, w)
            for x, w in zip(np.split(seen, n_groups, 1), np.split(weight, n_groups, 0), strict=True)
        ]
        return np.concatenate(parts, 1) + node.bias[:, None, None]
    if kind in ("SumPool2d", "AvgPool2d"):
        seen = windows(given, pair(node.kernel_size), pair(node.stride), pair(node.padding), (1, 1))
        return seen.sum((4, 5)) if kind == "SumPool2d" else seen.mean((4, 5))
    if kind == "Flatten":
        return given.reshape(len(given), -1)
    return given * node.scale if kind == "Scale" else None


def simulated(graph: Any, inputs: np.ndarray, dt: float) -> np.ndarray:
    """NIR's differential equations by forward Euler, node by node, straight from the file; nothing of noisylearn."""
    outputs, state = [], dict.fromkeys(graph.nodes, 0.0) | {f"{name} current": 0.0 for name in graph.nodes}
    order = ["input"]
    while len(order) < len(graph.nodes):
        order += [b for a, b in graph.edges if a == order[-1] and b not in order and not b.endswith("recurrent")] or [
            n for n in graph.nodes if n.endswith("recurrent") and n not in order
        ]
    order = [n for n in order if not n.endswith("recurrent")]
    back = {b: a for a, b in graph.edges if b.endswith("recurrent")}
    spikes = dict.fromkeys(graph.nodes, 0.0)
    for x in inputs:
        value: dict[str, Any] = {"input": x}
        for name, source in back.items():
            silent = np.zeros((len(x), graph.nodes[name].weight.shape[1]))
            value[name] = without_memory(graph.nodes[name], silent + spikes[source])
        for name in order[1:]:
            node = graph.nodes[name]
            given = sum(value[a] for a, b in graph.edges if b == name)
            kind = type(node).__name__
            if kind == "Output":
                outputs.append(given)
            elif (made := without_memory(node, given)) is not None:
                value[name] = made
            else:
                if kind.startswith("Cuba"):
                    current = state[f"{name} current"]
                    given = current + dt / node.tau_syn * (-current + node.w_in * given)
                    state[f"{name} current"] = given
                v = state[name]
                if kind in ("IF", "I"):
                    v = v + dt * node.r * given
                else:
                    v = v + dt / getattr(node, "tau", getattr(node, "tau_mem", 0)) * (node.v_leak - v + node.r * given)
                fires = kind in ("IF", "LIF", "CubaLIF")
                value[name] = (v > node.v_threshold).astype(float) if fires else v
                spikes[name] = value[name]
                state[name] = np.where(v > node.v_threshold, node.v_reset, v) if fires else v
    return np.stack(outputs)


@pytest.mark.parametrize("dt", [1e-4, 1e-3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_states_the_equations_of_the_network(kind: str, dt: float, tmp_path: Path) -> None:
    model, inputs = stirred(spiking(kind)), trains()
    graph = nir.read(write_nir(tmp_path / "net.nir", model, dt_s=dt))
    wanted = followed(model, inputs)
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(simulated(graph, inputs.numpy(), dt), wanted, rtol=0, atol=2e-5)


def leaky_integrator(node: Any) -> nn.Module:
    """What snntorch 1.0 has no entry for in its import: an LI node is a Leaky without a reset."""
    return snntorch.Leaky(
        beta=torch.from_numpy(1 - 1e-4 / node.tau), reset_mechanism="none", init_hidden=True, output=True
    )


@pytest.mark.parametrize("kind", KINDS)
def test_snntorch_reads_it_and_gives_the_same_spikes(kind: str, tmp_path: Path) -> None:
    nirtorch = pytest.importorskip("nirtorch", reason="nirtorch, which snntorch imports NIR with, is not installed")
    from snntorch.import_nir import _nir_to_snntorch_module

    def convert(node: Any) -> nn.Module:
        return _nir_to_snntorch_module(node, init_hidden=True)

    model, inputs = stirred(spiking(kind)), trains()
    graph = nir.read(write_nir(tmp_path / "net.nir", model))
    kinds = dict.fromkeys((nir.Affine, nir.Linear, nir.LIF, nir.CubaLIF), convert) | {nir.LI: leaky_integrator}
    theirs = nirtorch.nir_to_torch(graph, kinds)
    spikes: list[list[torch.Tensor]] = [[], []]
    for kept, net in zip(spikes, (model, theirs), strict=True):
        for i in (1, 2):
            keep = lambda m, a, out, kept=kept: kept.append(out[0] if isinstance(out, tuple) else out)  # noqa: E731
            net.get_submodule(f"neurons{i}").register_forward_hook(keep)
    wanted, state, outputs = followed(model, inputs), None, []
    with torch.no_grad():
        for x in inputs:
            _, state = theirs(x, state)
            outputs.append(theirs.get_submodule("integrator").mem.numpy())
    assert 0.05 < float(torch.stack(spikes[0][::2]).mean()) < 0.7
    for ours, found in zip(spikes[0], spikes[1], strict=True):
        assert torch.equal(ours.float(), found.float())
    np.testing.assert_allclose(np.stack(outputs), wanted, rtol=0, atol=2e-5)


def test_snntorch_imports_the_spiking_part_by_itself(tmp_path: Path) -> None:
    pytest.importorskip("nirtorch", reason="nirtorch, which snntorch imports NIR with, is not installed")
    from snntorch.import_nir import import_from_nir

    model, x = stirred(spiking("synaptic")), trains(1)[0]
    graph = nir.read(write_nir(tmp_path / "net.nir", model))
    nodes = {name: node for name, node in graph.nodes.items() if name != "integrator"}
    edges = [edge for edge in graph.edges if "integrator" not in edge] + [("readout", "output")]
    theirs = import_from_nir(nir.NIRGraph(nodes, edges))
    for name in ("hidden1", "hidden2", "readout"):
        for key, value in model.get_submodule(name).state_dict().items():
            assert torch.equal(theirs.get_submodule(name).state_dict()[key], value)
    with torch.no_grad():
        current, _ = theirs(x)
        wanted, _ = model(x)
    np.testing.assert_allclose(current.numpy(), wanted.numpy(), rtol=0, atol=1e-6)


def test_a_file_of_snntorch_is_read(tmp_path: Path) -> None:
    pytest.importorskip("nirtorch", reason="nirtorch, which snntorch exports NIR with, is not installed")
    from snntorch.export_nir import _extract_snntorch_module

    recurrent = snntorch.RLeaky(beta=0.8, linear_features=20, threshold=0.4, reset_mechanism="zero", reset_delay=False)
    parts = {"fc1": nn.Linear(30, 20), "rec": recurrent, "fc2": nn.Linear(20, 4)}
    nodes = {name: _extract_snntorch_module(module) for name, module in parts.items()}
    nodes |= {"in": nir.Input(np.array([30])), "out": nir.Output(np.array([4]))}
    nodes["li"] = nir.LI(tau=np.full(4, 1e-3), r=np.full(4, 10.0), v_leak=np.zeros(4))
    names = ["in", "fc1", "rec", "fc2", "li", "out"]
    nir.write(tmp_path / "theirs.nir", nir.NIRGraph(nodes, list(pairwise(names)), type_check=False))
    found = read_nir(tmp_path / "theirs.nir").model
    assert torch.equal(found.neurons1.recurrent.weight, recurrent.recurrent.weight)
    assert torch.equal(found.neurons1.recurrent.bias, recurrent.recurrent.bias)
    assert torch.equal(found.hidden1.bias, parts["fc1"].bias)
    assert float(found.neurons1.beta) == pytest.approx(0.8, abs=1e-6)
    assert float(found.integrator.beta) == pytest.approx(0.9, abs=1e-6)


def chain(*nodes: Any, path: Path) -> Path:
    graph = nir.NIRGraph.from_list(*nodes)
    nir.write(path, graph)
    return path


def lif(n: int = 3, **changes: Any) -> Any:
    fields = {"tau": np.full(n, 1e-3), "r": np.full(n, 10.0), "v_leak": np.zeros(n), "v_threshold": np.ones(n)}
    return nir.LIF(**fields | changes)


def weights(n_out: int = 3, n_in: int = 2) -> Any:
    return nir.Linear(weight=np.ones((n_out, n_in), dtype=np.float32))


def integrator(n: int = 2) -> Any:
    return nir.LI(tau=np.full(n, 1e-3), r=np.full(n, 10.0), v_leak=np.zeros(n))


def test_gains_of_other_programs_are_folded_into_the_weights(tmp_path: Path) -> None:
    path = chain(weights(), lif(r=np.full(3, 2.0)), weights(2, 3), integrator(), path=tmp_path / "x.nir")
    model = read_nir(path).model
    torch.testing.assert_close(model.hidden1.weight, torch.full((3, 2), 0.2))  # dt r / tau = 1e-4 * 2 / 1e-3
    assert float(model.neurons1.beta) == pytest.approx(0.9)
    assert model.hidden1.bias is None
    assert float(read_nir(path, dt_s=5e-4).model.neurons1.beta) == pytest.approx(0.5)


RANDOM = np.random.default_rng(4)


def spread(low: float, high: float, *shape: int) -> np.ndarray:
    return RANDOM.uniform(low, high, shape)


def affine(n_out: int, n_in: int) -> Any:
    return nir.Affine(weight=spread(-1, 1.3, n_out, n_in).astype(np.float32), bias=spread(-0.1, 0.1, n_out))


def conv(n_out: int, n_in: int, *kernel: int, on: Any, groups: int = 1, stride: Any = 1, padding: Any = 0) -> Any:
    kind = nir.Conv2d if len(kernel) == 2 else nir.Conv1d
    weight, bias = spread(-1, 1.2, n_out, n_in // groups, *kernel), spread(-0.1, 0.1, n_out)
    node = kind(None, weight, stride, padding, 2 if padding == "same" else 1, groups, bias)
    node.input_shape = on
    return node


def fires(*shape: int, kind: str = "LIF") -> Any:
    """Neurons that differ in everything, for steps of 1e-3 s."""
    constants = {"r": spread(2, 9, *shape), "v_threshold": spread(0.4, 2, *shape)}
    if kind == "IF":
        return nir.IF(**constants | {"r": spread(300, 900, *shape)})
    constants["v_leak"] = np.zeros(shape)
    if kind == "LIF":
        return nir.LIF(tau=spread(2e-3, 9e-3, *shape), **constants)
    times = {"tau_mem": spread(2e-3, 9e-3, *shape), "tau_syn": spread(1e-3, 4e-3, *shape)}
    return nir.CubaLIF(**times, **constants, w_in=spread(1, 3, *shape))


def integrates(*shape: int, kind: str = "LI") -> Any:
    constants = {"r": spread(2, 9, *shape), "v_leak": np.zeros(shape)}
    if kind == "LI":
        return nir.LI(tau=spread(2e-3, 9e-3, *shape), **constants)
    times = {"tau_mem": spread(2e-3, 9e-3, *shape), "tau_syn": spread(1e-3, 4e-3, *shape)}
    return nir.CubaLI(**times, **constants, w_in=spread(1, 3, *shape))


def flatten(*shape: int) -> Any:
    return nir.Flatten(input_type=np.array(shape), start_dim=0, end_dim=-1)


def pool(kind: str, size: int, stride: int, padding: int) -> Any:
    return getattr(nir, kind)(*(np.array([n, n]) for n in (size, stride, padding)))


def theirs(shape: tuple[int, ...], *nodes: Any, n_out: int, back: tuple[str, Any] | None = None) -> Any:
    """A chain as another program writes it; `back` are recurrent weights of a node. NIR's own check knows no groups."""
    named = {"input": nir.Input(np.array(shape))} | {f"{i}": node for i, node in enumerate(nodes)}
    named["output"] = nir.Output(np.array([n_out]))
    edges = list(pairwise(named))
    if back is not None:
        named["recurrent"] = back[1]
        edges += [(back[0], "recurrent"), ("recurrent", back[0])]
    return nir.NIRGraph(named, edges, type_check=False)


OF_OTHERS: dict[str, tuple[tuple[int, ...], tuple[Any, ...], int]] = {
    "images": (
        (2, 9, 8),
        (
            conv(4, 2, 3, 2, on=(9, 8), stride=(2, 1), padding=(1, 0)), fires(4, 5, 7, kind="IF"),
            pool("SumPool2d", 2, 1, 0), conv(6, 4, 2, 2, on=(4, 6), groups=2, padding="same"), fires(6, 4, 6),
            pool("AvgPool2d", 2, 2, 1), flatten(6, 3, 4), affine(5, 72), fires(5),
        ),
        5,
    ),
    "time series": ((2, 12), (conv(4, 2, 3, on=12, stride=2), fires(4, 5, kind="CubaLIF"), flatten(4, 5), affine(3, 20),
                              integrates(3)), 3),
    "ends in LIF": ((6,), (affine(7, 6), fires(7), affine(4, 7), fires(4)), 4),
    "ends in IF": ((6,), (affine(7, 6), fires(7), affine(9, 7), fires(9, kind="IF")), 9),
    "ends in CubaLIF": ((6,), (affine(7, 6), fires(7, kind="CubaLIF"), affine(4, 7), fires(4, kind="CubaLIF")), 4),
    "CubaLI": ((6,), (affine(7, 6), integrates(7, kind="CubaLI"), affine(4, 7), integrates(4, kind="CubaLI")), 4),
    "I": ((6,), (affine(7, 6), fires(7), affine(4, 7), nir.I(r=spread(100, 400, 4))), 4),
    "Scale": ((6,), (nir.Scale(spread(0.5, 2, 6)), affine(7, 6), nir.Scale(spread(0.5, 2, 7)), fires(7)), 7),
    "two layers of weights": ((6,), (affine(7, 6), affine(5, 7), fires(5), affine(3, 5), integrates(3)), 3),
    "flattened": ((1, 2, 3), (flatten(1, 2, 3), affine(7, 6), fires(7), affine(3, 7), integrates(3)), 3),
    "a batch of one": ((1, 6), (affine(7, 6), fires(7)), 7),
}  # fmt: skip


def trains_of(shape: tuple[int, ...], n_steps: int = 30) -> torch.Tensor:
    shape = shape[1:] if shape == (1, 6) else shape
    return (torch.rand(n_steps, 5, *shape, generator=torch.Generator().manual_seed(0)) < 0.4).float()


@pytest.mark.parametrize("name", OF_OTHERS)
def test_networks_of_other_programs_follow_the_equations(name: str, tmp_path: Path) -> None:
    shape, nodes, n_out = OF_OTHERS[name]
    graph, inputs = theirs(shape, *nodes, n_out=n_out), trains_of(shape)
    nir.write(tmp_path / "x.nir", graph)
    found = followed(read_nir(tmp_path / "x.nir", dt_s=1e-3).model, inputs)
    wanted = simulated(graph, inputs.numpy().astype(np.float64), 1e-3)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6 * max(10, np.abs(wanted).max()))
    assert 0.05 < wanted.mean() < 0.9 or wanted.std() > 0.5


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF", "IF"])
def test_recurrent_neurons_may_end_a_network(kind: str, tmp_path: Path) -> None:
    back = nir.Affine(weight=spread(-2, 1, 7, 7), bias=spread(-0.1, 0.1, 7))
    graph = theirs((6,), affine(7, 6), fires(7, kind=kind), n_out=7, back=("1", back))
    inputs = trains_of((6,))
    nir.write(tmp_path / "x.nir", graph)
    found = followed(read_nir(tmp_path / "x.nir", dt_s=1e-3).model, inputs)
    wanted = simulated(graph, inputs.numpy().astype(np.float64), 1e-3)
    np.testing.assert_array_equal(found, wanted)
    assert 0.05 < wanted.mean() < 0.9


def test_layers_without_neurons_keep_no_state(tmp_path: Path) -> None:
    graph = theirs((2, 5, 6), conv(3, 2, 2, 2, on=(5, 6)), flatten(3, 4, 5), affine(4, 60), n_out=4)
    nir.write(tmp_path / "x.nir", graph)
    model, inputs = read_nir(tmp_path / "x.nir").model, trains_of((2, 5, 6), 1)
    assert isinstance(model, nn.Sequential)
    with torch.no_grad():
        np.testing.assert_allclose(model(inputs[0]), simulated(graph, inputs.numpy(), 1e-3)[0], rtol=1e-5, atol=1e-5)


def test_a_flatten_that_changes_nothing_keeps_the_class(tmp_path: Path) -> None:
    for shape in ((6,), (1, 2, 3)):
        graph = theirs(shape, flatten(*shape), affine(7, 6), affine(4, 7), n_out=4)
        nir.write(tmp_path / "x.nir", graph)
        model = read_nir(tmp_path / "x.nir").model
        assert [type(m) for m in model] == [nn.Flatten, nn.Linear, nn.Identity, nn.Linear]
    graph = theirs((6,), flatten(6), affine(7, 6), lif(7), affine(4, 7), integrator(4), n_out=4)
    nir.write(tmp_path / "x.nir", graph)
    assert isinstance(read_nir(tmp_path / "x.nir").model, networks.Spiking)


def test_one_number_stands_for_all_neurons(tmp_path: Path) -> None:
    numbers = {"tau": 1e-3, "r": 10.0, "v_leak": 0.0, "v_threshold": 0.5}
    one = {key: np.float64(value) for key, value in numbers.items()}
    all_of_them = {key: np.full(7, value) for key, value in one.items()}
    found = []
    for constants in (one, {key: np.array([value]) for key, value in one.items()}, all_of_them):
        graph = theirs((6,), nir.Linear(np.eye(7, 6)), nir.LIF(**constants), n_out=7)
        nir.write(tmp_path / "x.nir", graph, compression=None)  # which single numbers do not take
        found.append(followed(read_nir(tmp_path / "x.nir").model, trains_of((6,))))
    assert found[0].any()
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def test_a_convolutional_network_of_snntorch_gives_the_same_spikes(tmp_path: Path) -> None:
    pytest.importorskip("nirtorch", reason="nirtorch, which snntorch exports NIR with, is not installed")
    from snntorch.export_nir import export_to_nir

    def neurons(*shape: int) -> nn.Module:
        options = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
        return snntorch.Leaky(beta=torch.full(shape, 0.8), threshold=torch.full(shape, 0.3), **options)

    with networks.feedforward.seeded(1):
        net = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), neurons(4, 8, 8), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 5), neurons(5)
        )
    nir.write(tmp_path / "x.nir", export_to_nir(net, torch.zeros(1, 2, 8, 8), ignore_dims=[0]))
    inputs = trains_of((2, 8, 8))
    found = followed(read_nir(tmp_path / "x.nir").model, inputs)
    for module in (net[1], net[5]):
        module.reset_mem()
    with torch.no_grad():
        wanted = np.stack([net(x).numpy() for x in inputs])
    assert 0.02 < wanted.mean() < 0.9
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("rule", [ANP(draws=4), LearnedFeedback(), BPTT()], ids=lambda rule: rule.name)
@pytest.mark.parametrize("name", ["images", "ends in LIF"])
def test_a_rule_runs_along_a_sequence_on_a_network_of_others(rule: Rule, name: str, tmp_path: Path) -> None:
    shape, nodes, n_out = OF_OTHERS[name]
    nir.write(tmp_path / "x.nir", theirs(shape, *nodes, n_out=n_out))
    model = read_nir(tmp_path / "x.nir", dt_s=1e-3).model
    chip = Chip(model, load_profile("gaussian-node"), seed=1)
    inputs, targets = trains_of(shape), torch.zeros(30, 5, n_out)
    for _ in range(2):
        rule.run(chip, inputs, targets, lambda y, t: ((y - t) ** 2).mean(1))
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert any(g.any() for g in gradients[-2:])


STRANGE = {
    "leak": ((weights(), lif(v_leak=np.ones(3)), weights(2, 3), integrator()), "'lif': v_leak is not zero"),
    "reset": ((weights(), lif(v_reset=np.ones(3)), weights(2, 3), integrator()), "'lif': v_reset is not zero"),
    "fires at rest": ((weights(), lif(v_threshold=-np.ones(3))), "'lif': a v_threshold is negative"),
    "short": ((weights(), lif(tau=np.full(3, 1e-5)), weights(2, 3), integrator()), "shorter than the step of 0.0001 s"),
    "not finite": (
        (weights(), lif(tau=np.full(3, np.nan)), weights(2, 3), integrator()),
        "'lif': tau of .* finite",
    ),
    "other kind": ((weights(), nir.Threshold(np.ones(3))), "node 'threshold' is Threshold; noisylearn reads chains of"),
    "delay": ((weights(), nir.Delay(np.ones(3))), "node 'delay' is Delay; noisylearn reads chains of"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_networks_without_a_counterpart_are_refused_by_node(name: str, tmp_path: Path) -> None:
    nodes, says = STRANGE[name]
    path = chain(*nodes, path=tmp_path / "x.nir")
    with pytest.raises(UserError, match=says) as error:
        read_nir(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


UNFIT = {
    "weights": (((4,), affine(3, 4), affine(2, 5)), "'1' takes 5 values, and is given 3 values: the shapes do not fit"),
    "input": (((4,), affine(2, 5)), "'0' takes 5 values, and is given 4 values"),
    "output": (((4,), affine(3, 4)), "'output' states 2 values, and is given 3 values"),
    "no flatten": (((2, 2), affine(2, 4)), r"given values of shape \(2, 2\): put a Flatten node with start_dim 0"),
    "thresholds": (((4,), affine(2, 4), fires(3)), r"'1' is given 2 values, and its tau has the shape \(3,\)"),
    "image": (((4,), conv(2, 4, 3, 3, on=(5, 5))), r"'0' takes \(channels, height, width\), and is given 4 values"),
    "channels": (
        ((3, 5, 5), conv(2, 2, 3, 3, on=(5, 5))),
        "'0' takes 2 channels in 1 groups and gives 2, and is given 3",
    ),
    "small": (((1, 2, 2), conv(2, 1, 3, 3, on=(2, 2))), r"kernel of \(3, 3\) is larger than the \(2, 2\)"),
    "stated": (((1, 4, 4), conv(2, 1, 3, 3, on=(5, 5))), r"'0' states \[5, 5\] .*, and is given \[4, 4\]"),
    "same": (
        ((1, 5, 5), conv(2, 1, 3, 3, on=(5, 5), stride=2, padding="same")),
        "'same' goes with a stride of 1",
    ),
    "stride": (
        ((1, 5, 5), conv(2, 1, 3, 3, on=(5, 5), stride=0)),
        r"\[0, 0\]; give 2 whole numbers of at least 1",
    ),
    "pool": (((1, 5, 5), pool("AvgPool2d", 2, 1, 2)), r"padding \(2, 2\) is more than half of the kernel"),
    "biases": (((4,), nir.Affine(np.ones((2, 4)), np.ones(3))), "'0': 3 biases for 2 units"),
    "empty": (((4,), nir.Linear(np.ones((0, 4)))), "'0': weight of shape .* is no array of"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_shape_that_does_not_fit_is_said_of_its_node(name: str, tmp_path: Path) -> None:
    (shape, *nodes), says = UNFIT[name]
    nir.write(tmp_path / "x.nir", theirs(shape, *nodes, n_out=2))
    with pytest.raises(UserError, match=says) as error:
        read_nir(tmp_path / "x.nir")
    assert "\n" not in str(error.value)
    assert "damaged" not in str(error.value)


def test_what_a_file_only_claims_takes_no_memory(tmp_path: Path) -> None:
    one = {key: np.ones(1) for key in ("r", "v_threshold")}
    for shape, nodes in {
        (10**9,): [nir.IF(**one)],
        (1, 5, 5): [conv(1, 1, 1, 1, on=(5, 5), padding=10**6), nir.IF(**one)],
        (1,) * 40: [affine(2, 1)],
    }.items():
        nir.write(tmp_path / "x.nir", theirs(shape, *nodes, n_out=2))
        with pytest.raises(UserError, match="up to 8388608 values"):
            read_nir(tmp_path / "x.nir")
    nir.write(tmp_path / "x.nir", theirs((2,), nir.IF(**one), n_out=2))
    with pytest.raises(UserError, match="the graph has no weights"):
        read_nir(tmp_path / "x.nir")


def test_stages_are_named_after_their_nodes(tmp_path: Path) -> None:
    names = {"input": "input", "0": "forward", "1": "training", "2": "fc.2", "3": "lif", "output": "output"}
    graph = theirs((4,), affine(3, 4), fires(3), affine(3, 3), fires(3), n_out=3)
    nodes, edges = (
        {names[key]: node for key, node in graph.nodes.items()},
        [(names[a], names[b]) for a, b in graph.edges],
    )
    nir.write(tmp_path / "x.nir", nir.NIRGraph(nodes, edges, type_check=False))
    model = read_nir(tmp_path / "x.nir", dt_s=1e-3).model
    assert [name for name, _ in model.named_children()] == ["forward_", "training_", "fc_2", "lif"]
    state = model(torch.zeros(2, 4))[1]
    assert [[value.shape for value in of] for of in state] == [[(2, 3)], [(2, 3)]]


def test_parameters_of_different_shapes_are_said_of_their_node(tmp_path: Path) -> None:
    for key in ("v_threshold", "w_in"):
        nir.write(tmp_path / "x.nir", theirs((4,), affine(2, 4), fires(2, kind="CubaLIF"), n_out=2))
        with h5py.File(tmp_path / "x.nir", "a") as file:
            del file[f"node/nodes/1/{key}"]
            file[f"node/nodes/1/{key}"] = np.ones(3)
        with pytest.raises(UserError, match=rf"node '1' \(CubaLIF\): .* different shapes: .*{key} \(3,\)") as error:
            read_nir(tmp_path / "x.nir")
        assert "damaged" not in str(error.value)
    with h5py.File(tmp_path / "x.nir", "a") as file:
        file.move("node/nodes/0/bias", "node/nodes/0/biases")
    with pytest.raises(UserError, match=r"damaged, or not a NIR file .ValueError: node '0' .Affine.: .*'biases'"):
        read_nir(tmp_path / "x.nir")


def test_feedback_is_read_of_neurons_to_themselves(tmp_path: Path) -> None:
    graph = theirs((3,), affine(3, 3), fires(3), affine(3, 3), fires(3), n_out=3, back=("1", affine(3, 3)))
    says = {
        (("3", "recurrent"), ("recurrent", "1")): "a feedback path leads from node '3' to '1' .LIF.; noisylearn reads",
        (("1", "recurrent"), ("recurrent", "0")): "a feedback path leads from node '1' to '0' .Affine.",
        (("1", "recurrent"), ("recurrent", "1"), ("1", "1")): "node '1' has two feedback paths",
        (("1", "recurrent"),): "leads to 2, recurrent",
    }
    onward = [edge for edge in graph.edges if "recurrent" not in edge]
    for back, message in says.items():
        nir.write(tmp_path / "x.nir", nir.NIRGraph(graph.nodes, [*onward, *back], type_check=False))
        with pytest.raises(UserError, match=message):
            read_nir(tmp_path / "x.nir", dt_s=1e-3)


def test_a_step_far_below_the_time_constants_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "x.nir"
    milliseconds = (affine(3, 4), lif(tau=np.full(3, 20.0)), affine(2, 3), integrator(2))
    milliseconds[-1].tau[:] = 10.0
    nir.write(path, theirs((4,), *milliseconds, n_out=2))
    with pytest.warns(
        ExchangeWarning, match=r"step of 0.0001 s is far below the 10 s that node '3' .*: give dt_s"
    ) as all_:
        read_nir(path)
    assert len(all_) == 1
    assert "\n" not in str(all_[0].message)
    nir.write(path, theirs((4,), affine(2, 4), nir.IF(r=np.ones(2), v_threshold=np.ones(2)), n_out=2))
    with pytest.warns(ExchangeWarning, match="1 s that node '1' needs an input of 1 to fire"):
        read_nir(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_nir(path, dt_s=1.0)
        nir.write(path, theirs((4,), *milliseconds, n_out=2))
        read_nir(path, dt_s=0.1)
        read_nir(write_nir(path, spiking(beta=0.999)))


RULES: list[Rule] = [
    ANP(baseline="mean", draws=3, scale="layer"), NP(credit="trace", decay=0.5), WP(draws=2), BP(forward="chip"),
    PerLayer(rules={"readout": Delta(), "*": ANP(draws=2)}),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule_and_profile_are_stored_with_the_network(rule: Rule, tmp_path: Path) -> None:
    for profile in (load_profile(PCM), load_profile(PCM).without("programming-noise")):
        found = read_nir(write_nir(tmp_path / "net.nir", mlp(), rule, profile, config='{"a": 1}'))
        assert found.rule == rule
        assert found.profile == profile
        assert found.profile.full_text == profile.full_text
        assert found.config == '{"a": 1}'


def test_without_rule_and_profile_there_are_none(tmp_path: Path) -> None:
    found = read_nir(write_nir(tmp_path / "net.nir", mlp(), dt_s=1e-3))
    assert (found.rule, found.profile, found.config, found.dt_s) == (None, None, None, 1e-3)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: networks.mlp(3, [4], 2), "'hidden1' has the activation leaky-relu, and NIR has no such node"),
        (lambda: networks.RNN(3, 4, 2), "'hidden1' has the activation tanh, and NIR has no such node"),
        (lambda: networks.convnet((1, 28, 28), 3), "Conv2d"),
        (lambda: spiking(beta=1.0), "a decay per step of 1 has no time constant"),
    ],
)
def test_what_nir_cannot_express_is_refused(model: Callable[[], nn.Module], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        write_nir(tmp_path / "net.nir", model())
    assert list(tmp_path.iterdir()) == []


def test_a_subtracting_reset_is_warned_of(tmp_path: Path) -> None:
    with pytest.warns(ExchangeWarning, match="NIR has no such reset"):
        write_nir(tmp_path / "net.nir", spiking(reset="subtract"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_nir(tmp_path / "net.nir", spiking())


@pytest.mark.parametrize("stated", ["hard", 1.0, np.zeros(3), np.array(["a", "b"], dtype=object)], ids=repr)
def test_a_reset_that_is_none_is_refused(stated: Any, tmp_path: Path) -> None:
    """Not read as a reset to zero, which would be another network."""
    write_nir(tmp_path / "net.nir", spiking())
    with h5py.File(tmp_path / "net.nir", "a") as file:
        name = next(key for key in file["node/nodes"] if "reset" in file[f"node/nodes/{key}"].get("metadata", {}))
        del file[f"node/nodes/{name}/metadata/reset"]
        file[f"node/nodes/{name}/metadata/reset"] = stated
    with pytest.raises(UserError, match=r"metadata 'reset' is .* not subtract or zero") as refusal:
        read_nir(tmp_path / "net.nir")
    assert "\n" not in str(refusal.value)


def damaged(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "text":
        path.write_text("import os; os.system('touch executed')")
    elif how == "empty":
        path.write_bytes(b"")
    else:
        with h5py.File(path, "a") as file:
            node = file["node"]
            if how == "type":
                del node["nodes/readout/type"]
                node["nodes/readout/type"] = "__import__"
            elif how == "link":
                del node["nodes/readout/weight"]
                node["nodes/readout/weight"] = h5py.ExternalLink("/etc/passwd", "/x")
            elif how == "rule":
                node["metadata/rule"][()] = "os.system"
            elif how == "options":
                node["metadata/rule_options"][()] = '{"lr": 1}'
            elif how == "profile":
                node["metadata/profile"][()] = "name = 3"
            elif how == "step":
                node["metadata/dt_s"][()] = -1.0
            elif how == "edges":
                node["edges"][0] = ("input", "nowhere")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("cut", "damaged, or not a NIR file"), ("text", "damaged, or not a NIR file"),
        ("empty", "damaged, or not a NIR file"), ("type", "node 'readout' is '__import__', which the installed"),
        ("edges", "damaged, or not a NIR file"), ("link", "is a link"),
        ("rule", "unknown rule 'os.system'"), ("options", "rule_options of rule anp"),
        ("profile", "profile in its metadata"), ("step", "dt_s = .*the step must be a positive number"),
    ],
)  # fmt: skip
def test_a_damaged_or_unsafe_file_gives_one_line(
    how: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_nir(tmp_path / "net.nir", mlp(), ANP(), load_profile(PCM))
    damaged(path, how)
    with pytest.raises(UserError, match=says) as error:
        read_nir(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["net.nir"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nir(tmp_path / "net.nir", mlp())
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        write_nir(path, mlp((3,)))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["net.nir"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.nir: cannot be read: No such file"):
        read_nir(tmp_path / "absent.nir")
    with pytest.raises(UserError, match=r"absent.h5: cannot be read: No such file"):
        export_nir(tmp_path / "absent.h5", tmp_path / "net.nir")


@pytest.mark.filterwarnings("ignore::noisylearn.backends.nir.ExchangeWarning")
@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "identity"},
        {"activation": "identity", "decorrelation_rate": 1e-3, "readout": "delta"},
        {"task": "latency-mnist-sample", "network": "spiking", "neuron": "rleaky", "seq_len": 5, "epochs": 1},
        {"task": "mackey-glass", "network": "rnn", "activation": "identity", "hidden": (5,), "epochs": 1,
         "seq_len": 150, "batch": 50, "decorrelation_rate": 1e-3},
    ],
    ids=["mlp", "dmlp", "spiking", "rnn"],
)  # fmt: skip
def test_a_finished_run_is_exported(changes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "load", small_task)
    run = small_train(tmp_path, GAUSSIAN | changes)
    found = read_nir(export_nir(run.path, tmp_path / "net.nir"))
    kept = run.read()
    digital = {key: value for key, value in kept["weights"]["digital"].items() if "covariance_loss" not in key}
    assert len(digital) >= 3
    for key, value in digital.items():
        np.testing.assert_array_equal(found.model.state_dict()[key].numpy(), value, err_msg=key)
    assert found.profile.full_text == kept["profile"]
    assert found.config == kept["config"]
    assert found.rule.name == ("per-layer" if "readout" in changes else "anp")


def test_an_unfinished_run_and_one_of_another_shape_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "load", small_task)
    run = small_train(tmp_path, GAUSSIAN)
    with pytest.raises(UserError, match="'hidden1' has the activation leaky-relu"):
        export_nir(run.path, tmp_path / "net.nir")
    tree = run.read()
    run.write(tree | {"checkpoint": {}, "status": "running"})
    with pytest.raises(UserError, match="the run is not finished"):
        export_nir(run.path, tmp_path / "net.nir")


def test_nir_is_imported_when_it_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "import sys, noisylearn, noisylearn.backends.nir; print('nir' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(UserError, match=r"pip install '\.\[nir\]'"):
        write_nir(tmp_path / "net.nir", mlp())
