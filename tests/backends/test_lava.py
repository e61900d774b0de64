"""Float Lava: equal to torch when it replays torch's draws; faults end in one message and leave no process behind."""

import dataclasses
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.checks import machine
from support.lava_cases import needs_lava, none_left, processes_of, samples, small_net
from support.small_runs import small_task
from torch import nn
from typer.testing import CliRunner

import noisylearn as nl
from noisylearn import tasks
from noisylearn.backends.lava import compat
from noisylearn.backends.lava.export import to_lava_net
from noisylearn.backends.lava.integers import IntegerOptions, IntegerResult, emulate, microcode_of
from noisylearn.backends.lava.launch import LavaResult, run_net, run_net_in_integers
from noisylearn.backends.lava.netfile import LavaNet, read_net, write_net
from noisylearn.backends.lava.process_specs import why_not
from noisylearn.backends.losses import GRADIENTS, LOSSES
from noisylearn.backends.netlist.rate import ACTIVATIONS, SLOPES, from_model
from noisylearn.backends.netlist.stored import StoredNetlist
from noisylearn.cli import app
from noisylearn.networks.decorrelation import decorrelate

pytestmark = pytest.mark.timeout(120)


def replayed(path, model, rule, profile, data, lr=1e-3):
    """Largest difference of learned arrays from torch's, the largest change that learning made, and the losses'."""
    net = to_lava_net(model, rule, nl.load_profile(profile), data, lr=lr)
    write_net(path, net)
    result = run_net(path, len(data.inputs), learns=True, replays=True)
    assert set(result.learned) == set(net.torch) - {"losses"}
    start = {f"{c.layer}.weight": c.weight for c in net.netlist.connections if not net.netlist.is_recurrent}
    moved = max([np.abs(result.learned[key] - value).max() for key, value in start.items()], default=1.0)
    return max(result.difference(net).values()), moved, np.abs(result.losses - net.torch["losses"]).max()


@pytest.mark.slow
@needs_lava
def test_deep_decorrelated_net_of_labels_equals_torch(tmp_path: Path) -> None:
    data = samples(500, batch=3)
    labels = data.targets.argmax(-1)
    cross_entropy = lambda output, target: torch.nn.functional.cross_entropy(output, target, reduction="none")  # noqa: E731
    rates = torch.linspace(1, 0, 500, dtype=torch.float64)
    data = dataclasses.replace(data, targets=labels, loss_fn=cross_entropy, rates=rates)
    model = decorrelate(nl.networks.mlp(6, (20, 10), 3), 1e-2)
    difference, moved, losses = replayed(
        tmp_path / "net.h5", model, nl.rules.ANP(baseline="noisy"), "gaussian-node", data
    )
    assert difference <= 1e-12
    assert losses <= 1e-12
    assert moved > 1e-3


@pytest.mark.slow
@needs_lava
def test_sequences_of_two_layers_with_steps_that_do_not_count_equal_torch(tmp_path: Path) -> None:
    data = samples(500, batch=2, period=50)
    counts = data.counts.clone()
    counts[::50] = 0
    counts[7::13, 0] = 0
    data = dataclasses.replace(data, counts=counts)
    model = nl.networks.RNN(6, (20, 10), 3, decorrelation_rate=1e-2)
    rule = nl.rules.ANP(baseline="noisy", update="online")
    difference, _, losses = replayed(tmp_path / "net.h5", model, rule, "gaussian-node", data)
    assert difference <= 1e-10
    assert losses <= 1e-10


SLOW_NEURONS = {
    "telegraph": 'kind = "telegraph-node"\namplitude = 0.02\namplitude_spread = 0.2\noffset_spread = 0.01\n'
    "dwell_time_us = 5.0",
    "ornstein-uhlenbeck": 'kind = "ornstein-uhlenbeck-node"\nsigma = 0.02\ncorrelation_time_us = 5.0',
}


@pytest.mark.slow
@needs_lava
@pytest.mark.parametrize(
    ("in_time", "options"),
    [
        (False, {"regression": "lms"}),
        (False, {"regression": "least-squares"}),
        (False, {"regression": "lms", "warm_up": 20}),
        (True, {"regression": "lms"}),
        (True, {"regression": "least-squares"}),
        (True, {"regression": "lms", "horizon": 4, "warm_up": 20}),
    ],
)
def test_learned_feedback_of_single_populations_equals_torch(
    tmp_path: Path, in_time: bool, options: dict[str, Any]
) -> None:
    data = samples(200, batch=3)
    rule = nl.rules.LearnedFeedback(route="direct", baseline="noisy", draws=2, **options)
    model: torch.nn.Module = decorrelate(nl.networks.mlp(6, (20, 10), 3), 1e-2)
    if in_time:
        data = dataclasses.replace(
            data, period=10, counts=(torch.arange(200)[:, None] % 10 > 1).double().expand(200, 3)
        )
        rule, model = dataclasses.replace(rule, update="online"), nl.networks.RNN(6, 8, 3)
    difference, moved, losses = replayed(tmp_path / "net.h5", model, rule, "gaussian-node", data, lr=1e-2)
    assert difference <= (1e-10 if in_time else 1e-12)
    assert losses <= 1e-12
    assert moved > 1e-2


@pytest.mark.slow
@needs_lava
@pytest.mark.parametrize("period", [0, 10])
@pytest.mark.parametrize("kind", SLOW_NEURONS)
def test_noise_of_neurons_that_remembers_equals_that_of_the_chip(tmp_path: Path, kind: str, period: int) -> None:
    """Along sequences it goes on from step to step and starts anew with each sequence; single samples are apart."""
    profile = machine(SLOW_NEURONS[kind], devices=True)
    model = nl.networks.RNN(6, (8,), 3) if period else nl.networks.mlp(6, (8,), 3, activation="tanh")
    rule = nl.rules.ANP(baseline="noisy", update="online") if period else nl.rules.ANP(baseline="noisy")
    data = samples(60, batch=2, period=period)
    difference, _, losses = replayed(tmp_path / "net.h5", model, rule, profile, data)
    assert difference <= 1e-12
    assert losses <= 1e-12


@pytest.mark.slow
@needs_lava
def test_read_noise_at_the_connections_equals_that_of_the_chip(tmp_path: Path) -> None:
    profile = nl.load_profile("sonos-agrawal-2022").only("read-noise")  # depends on the conductance
    model = nl.networks.mlp(6, (20,), 3, activation="tanh")
    difference, moved, losses = replayed(
        tmp_path / "net.h5", model, nl.rules.ANP(baseline="noisy"), profile, samples(300)
    )
    assert difference <= 1e-12
    assert losses <= 1e-12
    assert moved > 1e-3


@pytest.mark.slow
@needs_lava
def test_neurons_make_their_own_noise_and_learn(tmp_path: Path) -> None:
    data = samples(600)
    model = nl.networks.mlp(6, (20,), 3, activation="tanh")
    net = to_lava_net(model, nl.rules.ANP(baseline="noisy"), nl.load_profile("gaussian-node"), data, lr=1e-2)
    write_net(tmp_path / "net.h5", net)
    result = run_net(tmp_path / "net.h5", 600, learns=True)
    again = run_net(tmp_path / "net.h5", 600, learns=True)
    assert np.array_equal(result.losses, again.losses)
    assert np.abs(result.losses - net.torch["losses"]).max() > 1e-6
    assert result.losses[-100:].mean() < 0.7 * result.losses[:100].mean()


@pytest.mark.slow
@needs_lava
def test_without_learning_a_clean_pass_gives_the_loss_of_the_model(tmp_path: Path) -> None:
    data = samples(5, batch=4)
    model = nl.networks.mlp(6, (20,), 3).double()
    write_net(tmp_path / "net.h5", to_lava_net(model, nl.rules.NP(), nl.load_profile("gaussian-node"), data, lr=1e-3))
    result = run_net(tmp_path / "net.h5", 7)
    with torch.no_grad():
        expected = [float(data.loss_fn(model(x), y).mean()) for x, y in zip(data.inputs, data.targets, strict=True)]
    assert np.allclose(result.losses, [*expected, *expected[:2]], rtol=1e-12)
    assert not result.learned


class Twice(nl.rules.NP):
    """A rule from outside the package, under the name of one of its rules."""


def test_a_file_refuses_a_rule_from_outside_the_package(tmp_path: Path) -> None:
    with pytest.raises(nl.UserError, match="Twice is none of this package"):
        write_net(tmp_path / "net.h5", small_net(rule=Twice()))


def test_a_loss_that_agrees_only_on_some_samples_is_refused() -> None:
    weight = torch.tensor([1.0, 1.0, 7.0], dtype=torch.float64)

    def weighted(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(output, target, weight, reduction="none")

    data = samples(20)
    labels = data.targets.argmax(-1)
    labels[0] = 0
    data = dataclasses.replace(data, targets=labels, loss_fn=weighted)
    with pytest.raises(nl.UserError, match="loss has no form outside torch"):
        to_lava_net(nl.networks.mlp(6, (8,), 3), nl.rules.NP(), "gaussian-node", data, lr=1e-3)


def test_options_that_contradict_one_another_are_refused(tmp_path: Path) -> None:
    write_net(tmp_path / "net.h5", small_net())
    result = LavaResult(np.zeros(3), {"hidden1.weight": np.zeros((8, 6))})
    with pytest.raises(nl.UserError, match="cannot be compared"):
        result.difference(small_net())
    with pytest.raises(nl.UserError, match="--headroom 0"):
        emulate(in_integers(), IntegerOptions(5, learns=True, headroom=0.0))
    with pytest.raises(nl.UserError, match="sequences of 10 steps"):
        emulate(in_integers(period=10), IntegerOptions(15, learns=True))
    if compat.is_installed():
        with pytest.raises(nl.UserError, match="add --learn"):
            run_net(tmp_path / "net.h5", 3, replays=True)
        with pytest.raises(nl.UserError, match="--timeout 0"):
            run_net(tmp_path / "net.h5", 3, timeout_s=0)


def test_numpy_losses_are_those_of_the_tasks() -> None:
    outputs = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    digits, teacher = tasks.load("digits"), tasks.load("linear-teacher")
    labels, targets = torch.tensor([0, 1, 2, 1, 0]), torch.randn(5, 3, dtype=torch.float64)
    assert np.allclose(LOSSES["cross-entropy"](outputs.numpy(), labels.numpy()), digits.loss_fn(outputs, labels))
    by_task = dataclasses.replace(teacher, n_outputs=3).loss_fn(outputs, targets)
    assert np.allclose(LOSSES["half-squared-norm"](outputs.numpy(), targets.numpy()), by_task)
    by_task = tasks.base.RegressionTask.loss_fn(teacher, outputs, targets)
    assert np.allclose(LOSSES["squared-error"](outputs.numpy(), targets.numpy()), by_task)


def test_numpy_gradients_are_those_of_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    labels, targets = torch.tensor([0, 1, 2, 1, 0]), torch.randn(5, 3, dtype=torch.float64, generator=generator)
    losses = {
        "cross-entropy": (torch.nn.functional.cross_entropy(outputs, labels, reduction="sum"), labels),
        "half-squared-norm": (0.5 * (outputs - targets).square().sum(), targets),
        "squared-error": ((outputs - targets).square().mean(-1).sum(), targets),
    }
    assert losses.keys() == LOSSES.keys() == GRADIENTS.keys()
    for name, (loss, target) in losses.items():
        (expected,) = torch.autograd.grad(loss, outputs)
        np.testing.assert_allclose(GRADIENTS[name](outputs.detach().numpy(), target.numpy()), expected, rtol=1e-12)


@pytest.mark.parametrize(("name", "of_torch"), [
    ("identity", torch.nn.Identity()), ("tanh", torch.nn.Tanh()), ("relu", torch.nn.ReLU()),
    ("leaky-relu", torch.nn.LeakyReLU()),
])  # fmt: skip
def test_numpy_activations_and_slopes_are_those_of_torch(name: str, of_torch: torch.nn.Module) -> None:
    a = torch.linspace(-2, 2, 9, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(of_torch(a).sum(), a)
    np.testing.assert_allclose(ACTIVATIONS[name](a.detach().numpy()), of_torch(a).detach(), rtol=1e-12)
    np.testing.assert_allclose(SLOPES[name](a.detach().numpy()), slope, rtol=1e-12)


def test_a_file_gives_back_the_netlist(tmp_path: Path) -> None:
    net = small_net()
    write_net(tmp_path / "net.h5", net)
    again = read_net(tmp_path / "net.h5")
    assert again.rule == net.rule
    assert again.profile == net.profile
    for one, other in zip(again.netlist.connections, net.netlist.connections, strict=True):
        assert (one.source, one.target, one.columns, one.delayed) == (
            other.source, other.target, other.columns, other.delayed,
        )  # fmt: skip
        assert np.array_equal(one.weight, other.weight)
        assert np.array_equal(one.bias, other.bias)
    deep = from_model(nl.networks.RNN(3, (4, 5), 2, decorrelation_rate=0.1))
    assert StoredNetlist.model_validate(deep.tree()).netlist().tree().keys() == deep.tree().keys()


def test_netlist_of_a_recurrent_network_gives_its_outputs() -> None:
    model = nl.networks.RNN(3, (4, 5), 2).double()
    netlist = from_model(model)
    x = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, state = model(x)
        y, _ = model(x, state)
    before = {"hidden1": state[0].numpy()[0], "hidden2": state[1].numpy()[0]}
    now = {"input": x.numpy()[0]}
    for population in netlist.neurons:
        a = sum(c.weight @ (before if c.delayed else now)[c.source] for c in netlist.into(population.name))
        now[population.name] = np.tanh(a) if population.name != "readout" else a
    assert np.allclose(now["readout"], y.numpy()[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nl.networks.convnet((1, 32, 32), 2), r"conv1.*Conv2d"),
        (torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LeakyReLU(0.2)), "slope"),
        (torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Sigmoid()), "Sigmoid"),
        (torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Linear(2, 2)), "Tanh"),
        (
            torch.nn.Linear(2, 2),
            r"Linear cannot .* as in nn\.Sequential\(model\.hidden, nn\.ReLU\(\), model\.readout\)",
        ),
        (torch.nn.Sequential(torch.nn.Flatten()), "no Linear layer"),
    ],
)
def test_models_without_a_netlist_are_refused_by_name(model: torch.nn.Module, reason: str) -> None:
    with pytest.raises(nl.UserError, match=reason):
        from_model(model)


@pytest.mark.parametrize(
    ("rule", "profile", "reason"),
    [
        (nl.rules.BP(), "gaussian-node", "backward pass"),
        (nl.rules.REINFORCE(), "gaussian-node", "backward pass"),
        (nl.rules.PerLayer(rules={"*": nl.rules.ANP()}), "gaussian-node", "different rules"),
        (nl.rules.NP(control_variate="error"), "gaussian-node", "--control-variate none"),
        (nl.rules.LearnedFeedback(), "gaussian-node", "--route direct"),
        (nl.rules.ANP(baseline="noisy"), "pcm-nandakumar-2019", "--without programming-noise"),
        (nl.rules.ANP(baseline="noisy"), "ecram-mo-kim-2019", "pulses"),
        (nl.rules.ANP(baseline="noisy"), "isaac-2016", "converters"),
    ],
)
def test_what_lava_processes_cannot_execute_is_refused_with_the_reason(rule, profile: str, reason: str) -> None:
    found = why_not(rule, nl.load_profile(profile), from_model(nl.networks.mlp(2, (3,), 2)))
    assert found is not None
    assert re.search(reason, found)
    assert "\n" not in found


def test_credit_of_later_losses_is_refused_through_time() -> None:
    netlist = from_model(nl.networks.RNN(2, 3, 2))
    found = why_not(nl.rules.ANP(credit="reward-to-go"), nl.load_profile("gaussian-node"), netlist)
    assert found is not None
    assert "--credit local --update online" in found
    assert why_not(nl.rules.ANP(update="online"), nl.load_profile("gaussian-node"), netlist) is None


@pytest.fixture
def failing_critic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes started from here on fail where they compute a cross-entropy."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import scipy.special\ndef fails(*_, **__):\n    raise ZeroDivisionError\nscipy.special.logsumexp = fails\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)


LABELS = np.ones((20, 1), dtype=np.int64)


@pytest.mark.slow
@needs_lava
@pytest.mark.usefixtures("failing_critic")
def test_a_process_that_fails_is_named_with_its_traceback(tmp_path: Path) -> None:
    write_net(tmp_path / "net.h5", small_net(targets=LABELS, loss="cross-entropy"))
    with pytest.raises(nl.UserError, match=r"Lava process 'critic' failed: ZeroDivisionError") as error:
        run_net(tmp_path / "net.h5", 20, learns=True)
    assert "Traceback" in str(error.value)
    assert "cross_entropy" in str(error.value)
    assert none_left(tmp_path)


@pytest.mark.slow
@needs_lava
def test_a_process_that_hangs_is_named_and_all_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    write_net(tmp_path / "net.h5", small_net())
    stopped: list[int] = []
    held: set[str] = set()

    def stop_one(step: int, total: int, loss: float) -> None:
        if step > 5 and not stopped:
            held.update(*map(shared_memory, processes_of(tmp_path)))
            stopped.append(max(processes_of(tmp_path)))
            os.kill(stopped[0], signal.SIGSTOP)

    with pytest.raises(nl.UserError, match=r"no Lava process made a step for 2 s; furthest behind, in step \d+: \w+"):
        run_net(tmp_path / "net.h5", 100_000, learns=True, timeout_s=2, on_step=stop_one)
    assert stopped
    assert none_left(tmp_path)
    assert held
    assert not any(Path(file).exists() for file in held)


def shared_memory(process: int) -> set[str]:
    """Files of shared memory that a process holds."""
    return set(re.findall(r"/dev/shm/psm_\w+", Path(f"/proc/{process}/maps").read_text()))


@pytest.mark.slow
@needs_lava
@pytest.mark.usefixtures("failing_critic")
def test_the_learning_engine_is_watched_too(tmp_path: Path) -> None:
    write_net(tmp_path / "net.h5", in_integers(targets=LABELS, loss="cross-entropy"))
    with pytest.raises(nl.UserError, match=r"Lava process 'critic' failed: ZeroDivisionError"):
        run_net_in_integers(tmp_path / "net.h5", IntegerOptions(20, learns=True))
    assert none_left(tmp_path)


@pytest.mark.slow
@needs_lava
def test_the_learning_engine_gives_what_the_emulator_gives(tmp_path: Path) -> None:
    net = in_integers()
    write_net(tmp_path / "net.h5", net)
    options = IntegerOptions(30, learns=True, lr=0.05)
    _, emulated = emulate(net, options)
    executed = run_net_in_integers(tmp_path / "net.h5", options)
    assert np.array_equal(emulated.losses, executed.losses)
    assert all(np.array_equal(emulated.weights[name], weights) for name, weights in executed.weights.items())
    start = microcode_of(net, options).network.connections
    assert any(not np.array_equal(c.weights, executed.weights[c.name]) for c in start)


def test_what_has_no_integers_is_refused_in_one_line() -> None:
    for net, reason in (
        (small_net(), "use activation relu"),
        (in_integers(inputs=np.zeros((20, 2, 6))), "--batch 1"),
    ):
        with pytest.raises(nl.UserError, match=reason) as error:
            emulate(net, IntegerOptions(5, learns=True))
        assert "\n" not in str(error.value)
    with pytest.raises(nl.UserError, match="--steps 0"):
        emulate(in_integers(), IntegerOptions(0, learns=True))


def in_integers(**changes: object) -> LavaNet:
    """A network that can be quantised to integers."""
    model = nl.networks.mlp(6, (8,), 3, activation="relu")
    rule, profile = nl.rules.ANP(baseline="noisy"), nl.load_profile("loihi2-lava-0.10")
    net = to_lava_net(model, rule, profile, samples(20), lr=0.01)
    return LavaNet(**{**vars(net), **changes})


def started(path: Path) -> subprocess.Popen[bytes]:
    """A long run on the command line, under way: its temporary files lie beside the network file."""
    command = [sys.executable, "-m", "noisylearn", "lava", "run", str(path), "--steps", "1000000", "--learn"]
    process = subprocess.Popen(
        command, env=os.environ | {"TMPDIR": str(path.parent)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while len(processes_of(path.parent)) < 7:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose name leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="nl-") as name:
        yield Path(name)


@pytest.mark.slow
@needs_lava
def test_ctrl_c_ends_every_process(short_path: Path) -> None:
    write_net(short_path / "net.h5", small_net())
    process = started(short_path / "net.h5")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.decode().strip() == "interrupted; nothing was kept, and no Lava process is left"
    assert none_left(short_path)
    assert [file.name for file in short_path.iterdir()] == ["net.h5"]


@pytest.mark.slow
@needs_lava
def test_a_kill_of_the_parent_leaves_nothing(short_path: Path) -> None:
    write_net(short_path / "net.h5", small_net())
    process = started(short_path / "net.h5")
    process.kill()
    process.wait()
    assert none_left(short_path)
    deadline = time.monotonic() + 10
    while [file.name for file in short_path.iterdir()] != ["net.h5"]:
        assert time.monotonic() < deadline, list(short_path.iterdir())
        time.sleep(0.05)


@pytest.mark.slow
@needs_lava
def test_a_start_method_that_was_set_is_named_and_run_net_works_in_spite_of_it(tmp_path: Path) -> None:
    write_net(tmp_path / "net.h5", small_net())
    script = tmp_path / "script.py"
    script.write_text(  # without a guard, on purpose
        "import multiprocessing, sys\n"
        "multiprocessing.set_start_method('spawn')\n"
        "from noisylearn.backends.lava.launch import run_net\n"
        "from noisylearn.backends.lava.compat import load_lava\n"
        f"from pathlib import Path\nprint(len(run_net(Path({str(tmp_path / 'net.h5')!r}), 3).losses))\n"
        "try:\n    load_lava()\nexcept ValueError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    steps, message = done.stdout.splitlines()
    assert steps == "3"
    assert "start method 'spawn'" in message


@pytest.mark.slow
@needs_lava
def test_the_patch_of_dataclasses_is_undone_after_the_import() -> None:
    code = (
        "import dataclasses; before = dataclasses.dataclass\n"
        "from noisylearn.backends.lava.compat import load_lava; load_lava(); load_lava()\n"
        "assert dataclasses.dataclass is before\n"
        "from lava.magma.compiler.var_model import PyVarModel\n"
        "import numpy as np\n"
        "from lava.magma.core.process.ports.ports import ReshapePort\n"
        "port = ReshapePort((6,), (2, 3))\n"
        "assert port.get_transform_func_fwd()(np.arange(6)).shape == port.shape\n"
        "assert port.get_transform_func_bwd()(np.zeros(port.shape)).shape == port.old_shape\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


SECOND_MESSAGE = """
import sys, threading, time
from multiprocessing import Semaphore
from types import SimpleNamespace
import numpy as np
from noisylearn.backends.lava import compat
if "unmended" in sys.argv:
    compat._mend_wakeups = lambda: None
compat.load_lava()
from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSelector, Proto
from lava.magma.compiler.channels.watchdog import NoOPWatchdog

request, none = Semaphore(0), NoOPWatchdog(None)
memory = SimpleNamespace(buf=memoryview(bytearray(16)))
port = CspRecvPort("port", memory, Proto((1,), np.dtype(float), 8), 2, request, Semaphore(0), none, none)
look, looked = port.probe, threading.Event()

def slow_look():
    found = look()
    if threading.current_thread() is port.thread:
        looked.set()
        time.sleep(0.5)
    return found

port.start()
request.release()
while not look():
    time.sleep(0.01)
port.probe = slow_look
request.release()  # the second message: the thread of the port is held up while it still sees the first
looked.wait(0.2)
port.recv()
waiting = threading.Thread(target=CspSelector().select, args=((port, lambda: "told"),), daemon=True)
waiting.start()
waiting.join(2)
print("waits for ever" if waiting.is_alive() else "was told", flush=True)
"""


@pytest.mark.slow
@needs_lava
@pytest.mark.parametrize(("options", "found"), [(["unmended"], "waits for ever"), ([], "was told")])
def test_a_message_that_arrives_as_another_is_taken_is_seen(options: list[str], found: str) -> None:
    done = subprocess.run([sys.executable, "-c", SECOND_MESSAGE, *options], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == found, done.stderr


@pytest.mark.parametrize("version", [None, "0.9.0"])
def test_without_lava_the_message_says_the_line_that_installs_it(
    version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    write_net(tmp_path / "net.h5", small_net())
    monkeypatch.setattr(importlib.metadata, "version", installed)
    with pytest.raises(nl.UserError, match=re.escape(compat.INSTALL)) as error:
        run_net(tmp_path / "net.h5", 3)
    assert "\n" not in str(error.value)
    assert not compat.is_installed()


def test_damaged_network_files_give_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    write_net(path, small_net())
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 20):
            damaged[place] = random.integers(256)
        path.write_bytes(bytes(damaged[: random.integers(1, len(whole))]) if random.random() < 0.3 else bytes(damaged))
        message = None
        try:
            read_net(path)
        except nl.UserError as error:
            message = str(error)
        assert message is None or (str(path) in message and "\n" not in message)


@pytest.mark.slow
def test_commands_carry_a_run_to_lava_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "load", small_task)
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> dict:
        done = CliRunner().invoke(app, [*words, "--json"])
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)

    settings = "--optimizer sgd --schedule constant --lr 0.01 --epochs 1 --hidden 8 --baseline noisy --activation relu"
    run = call("train", "--task", "digits", "--rule", "anp", *settings.split())
    exported = call("export", run["file"], "--to", "lava", "-o", "net.h5", "--steps", "30")
    assert exported["lr"] == 0.01
    integers = call("loihi", "run", "net.h5", "--steps", "30", "--learn", *["--lava"] * compat.is_installed())
    assert integers.get("numbers_that_differ_from_lava", 0) == 0
    for words, reason in (
        (["loihi", "run", "net.h5", "--steps", "30", "--lr", "0.1"], "--lr goes with --learn"),
        (["loihi", "run", "net.h5", "--steps", "30", "--timeout", "9"], "--timeout goes with --lava"),
        (["export", run["file"], "--to", "lava", "-o", "o.h5", "--batch", "99999"], "training samples"),
        (["lava", "run", "net.h5", "--steps", "3", "-o", "./net.h5"], "is the network file itself"),
        (["export", run["file"], "--to", "nir", "-o", "net.nir", "--steps", "30"], "go with --to lava"),
    ):
        assert reason in str(CliRunner().invoke(app, words).exception)
    if compat.is_installed():
        result = call("lava", "run", "net.h5", "--steps", "30", "--learn", "--replay", "-o", "result.h5")
        assert result["largest_difference_from_torch"] < 1e-12
        assert Path("result.h5").exists()
        again = call("lava", "run", "net.h5", "--steps", "10", "--learn", "--replay")
        assert again["largest_difference_from_torch"] is None
        assert "say --steps 30" in again["note"]


@pytest.mark.parametrize("command", ["lava", "loihi"])
def test_steps_that_do_not_count_are_in_no_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, recwarn: pytest.WarningsRecorder
) -> None:
    """The first tenth, whose loss is written as 0, is neither in the means nor taken for a loss that grew later."""
    counts = np.ones((1000, 1))
    counts[:100] = 0
    write_net(tmp_path / "net.h5", small_net(1000, counts=counts))
    losses = np.where(np.arange(1500) % 1000 < 100, 0.0, 2.0)
    losses[900:1000] = 1.0
    both = np.stack([np.full(1500, 9.0), losses], axis=1)
    monkeypatch.setattr("noisylearn.cli.lava.run_net", lambda net, steps, *_: LavaResult(losses[:steps]))
    monkeypatch.setattr(
        "noisylearn.cli.loihi.emulate",
        lambda net, options: (
            SimpleNamespace(strings="", report=str),
            IntegerResult(both[: options.n_steps], {}, "", 1, 1.0),
        ),
    )
    for steps, first, last in ((1000, 2.0, 1.0), (1500, 2.0, 2.0), (100, None, None)):
        words = [command, "run", str(tmp_path / "net.h5"), "--steps", str(steps), "--learn", "--json"]
        found = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
        assert (found["loss_first_tenth"], found["loss_last_tenth"]) == (first, last)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("command", "period", "steps"), [("lava", 0, 20), ("lava", 10, 20), ("loihi", 0, 20), ("loihi", 10, 10)]
)
def test_a_run_without_steps_takes_those_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, period: int, steps: int
) -> None:
    """Cores take one sequence, since nothing resets their state."""
    write_net(tmp_path / "net.h5", in_integers(period=period))
    monkeypatch.setattr("noisylearn.cli.lava.run_net", lambda net, steps, *_: LavaResult(np.ones(steps)))
    done = CliRunner().invoke(app, [command, "run", str(tmp_path / "net.h5"), "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["steps" if command == "lava" else "samples"] == steps


def test_the_name_of_a_file_may_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, jobs = str(tmp_path / "net.h5"), []
    write_net(path, in_integers())
    for name, fake in (("require_lava", lambda: None), ("_result", lambda specs: None), ("read_executed", str)):
        monkeypatch.setattr(f"noisylearn.backends.lava.launch.{name}", fake)
    monkeypatch.setattr("noisylearn.backends.lava.launch._run_job", lambda job, *_: jobs.append(job["net"]))
    run_net(path, 3)
    run_net_in_integers(path, IntegerOptions(3, learns=False))
    assert jobs == [path, path]


def test_a_run_of_another_optimizer_has_to_state_a_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "load", small_task)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    words = ["train", "--task", "digits", "--rule", "anp", "--epochs", "1", "--hidden", "8", "--json"]
    file = json.loads(runner.invoke(app, words).stdout)["file"]
    done = runner.invoke(app, ["export", file, "--to", "lava", "-o", "net.h5"])
    assert isinstance(done.exception, nl.UserError)
    assert "--lr" in str(done.exception)
    for more, said in (
        ([], "lava run net.h5 --learn --replay"),
        (["--profile", "loihi2-lava-0.10"], "loihi run net.h5"),
        (["--profile", "loihi2-lava-0.10", "--initial"], "loihi run net.h5 --learn"),
    ):
        done = runner.invoke(
            app, ["export", file, "--to", "lava", "-o", "net.h5", "--lr", "1e-3", "--steps", "5", *more]
        )
        assert done.stdout.endswith(f"run it with: noisylearn {said}\n")


def test_an_activation_in_two_places_is_kept_in_both() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(3, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 2))
    assert [p.activation for p in from_model(model).populations] == ["identity", "relu", "relu", "identity"]


class _Doubled(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        doubled: torch.Tensor = 2 * super().forward(x)
        return doubled


def test_models_whose_forward_is_not_that_of_their_layers_are_refused() -> None:
    twice = nn.Linear(3, 3)
    with pytest.raises(nl.UserError, match="twice"):
        from_model(nn.Sequential(twice, nn.Tanh(), twice))
    with pytest.raises(nl.UserError, match="forward of its own"):
        from_model(nn.Sequential(_Doubled(nn.Linear(3, 3)), nn.Linear(3, 2)))
    frozen, data = nl.networks.mlp(6, (8,), 3), samples(3)
    rule, profile = nl.rules.ANP(baseline="noisy"), nl.load_profile("gaussian-node")
    for lr in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(nl.UserError, match="learning rate"):
            to_lava_net(frozen, rule, profile, data, lr=lr)
    frozen.get_submodule("hidden1").requires_grad_(False)
    with pytest.raises(nl.UserError, match=r"hidden1\.weight, hidden1\.bias: frozen"):
        to_lava_net(frozen, rule, profile, data, lr=1e-3)
