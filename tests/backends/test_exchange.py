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

from noisylearn import UserError, decorrelate, load_profile, networks, tasks
from noisylearn.backends.nir import ExchangeWarning, export_nir, read_nir, write_nir
from noisylearn.rules import ANP, BP, NP, WP, Delta, PerLayer, Rule

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
            value[name] = spikes[source] @ graph.nodes[name].weight.T if np.ndim(spikes[source]) else 0.0
        for name in order[1:]:
            node = graph.nodes[name]
            given = sum(value[a] for a, b in graph.edges if b == name)
            kind = type(node).__name__
            if kind in ("Affine", "Linear"):
                value[name] = given @ node.weight.astype(np.float64).T + getattr(node, "bias", 0.0)
            elif kind == "Output":
                outputs.append(given)
            else:
                if kind == "CubaLIF":
                    current = state[f"{name} current"]
                    given = current + dt / node.tau_syn * (-current + node.w_in * given)
                    state[f"{name} current"] = given
                v = state[name]
                v = v + dt / (node.tau_mem if kind == "CubaLIF" else node.tau) * (node.v_leak - v + node.r * given)
                value[name] = v if kind == "LI" else (v > node.v_threshold).astype(float)
                spikes[name] = value[name]
                state[name] = v if kind == "LI" else np.where(v > node.v_threshold, node.v_reset, v)
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


STRANGE = {
    "leak": ((weights(), lif(v_leak=np.ones(3)), weights(2, 3), integrator()), "'lif': v_leak is not zero"),
    "reset": ((weights(), lif(v_reset=np.ones(3)), weights(2, 3), integrator()), "'lif': v_reset is not zero"),
    "no readout": ((weights(), lif()), "the last node, 'lif', is LIF; .* add an LI node"),
    "two weights": (
        (weights(), weights(3, 3), lif(), weights(2, 3), integrator()),
        "has 2 layers of weights",
    ),
    "short": ((weights(), lif(tau=np.full(3, 1e-5)), weights(2, 3), integrator()), "shorter than the step of 0.0001 s"),
    "not finite": (
        (weights(), lif(tau=np.full(3, np.nan)), weights(2, 3), integrator()),
        "'lif': tau of .* finite",
    ),
    "other kind": ((nir.Scale(np.ones(2)), weights(2, 2)), "node 'scale' .Scale. stands where weights were expected"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_networks_without_a_counterpart_are_refused_by_node(name: str, tmp_path: Path) -> None:
    nodes, says = STRANGE[name]
    path = chain(*nodes, path=tmp_path / "x.nir")
    with pytest.raises(UserError, match=says) as error:
        read_nir(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


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
        ("empty", "damaged, or not a NIR file"), ("type", "damaged, or not a NIR file"),
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
    with pytest.raises(UserError, match=r"pip install 'noisylearn\[nir\]'"):
        write_nir(tmp_path / "net.nir", mlp())
