"""Tasks in time: direction of forecasts, equations, splits, scores, baselines; and training on them."""

import math
from collections import deque

import numpy as np
import pytest
import torch

from noisylearn import tasks
from noisylearn.chips.simulated import Chip
from noisylearn.experiments.build import build_model
from noisylearn.experiments.config import resolve
from noisylearn.experiments.train import train
from noisylearn.ground.errors import UserError
from noisylearn.profiles import load_profile
from noisylearn.tasks import copying, mackey_glass
from noisylearn.tasks.copying import copying_sequences
from noisylearn.tasks.reservoir import reservoir_predictions, reservoir_states
from noisylearn.tasks.weather import read_rows

FORECASTS = {"mackey-glass": 15, "weather-1h": 1, "weather": 24, "weather-48h": 48}
GAUSSIAN = load_profile("gaussian-node")


def load(name, request, **options):
    folder = request.getfixturevalue("data_dir") if tasks.describe(name).files else None
    return tasks.load(name, folder, **options)


def steps_of(task, part="test"):
    return task.steps(getattr(task, f"{part}_inputs"), getattr(task, f"{part}_targets"))


# forecasts


@pytest.mark.parametrize("name", FORECASTS)
@pytest.mark.parametrize("held_out", ["test", "validation"])
def test_target_is_a_later_value_of_the_input(name, held_out, request):
    ahead = FORECASTS[name]
    task = load(name, request, held_out=held_out)
    for part in ("train", "test"):
        steps = steps_of(task, part)
        torch.testing.assert_close(steps.targets[:-ahead, :, 0], steps.inputs[ahead:, :, 0])


@pytest.mark.parametrize("name", FORECASTS)
def test_target_cannot_be_looked_up_in_what_was_seen(name, request):
    """Neither is it one of the values so far, nor a linear function of this step and the 20 before."""
    steps = steps_of(load(name, request))
    inputs, targets = (part.transpose(0, 1)[0] for part in (steps.inputs, steps.targets))
    rows = torch.cat([inputs.roll(lag, 0) for lag in range(21)], 1)[21:].double().numpy()
    wanted = targets[21:, 0].double().numpy()
    variance = wanted.var()
    for column in rows.T:
        assert np.mean((column - wanted) ** 2) > 0.01 * variance
    half = len(rows) // 2
    design = np.c_[rows, np.ones(len(rows))]
    weights, *_ = np.linalg.lstsq(design[:half], wanted[:half], rcond=None)
    assert np.mean((design[half:] @ weights - wanted[half:]) ** 2) > 0.01 * variance


def test_mackey_glass_against_a_plain_loop():
    """dx/dt with a history in a queue, one sequence at a time, in Python's own floats."""
    for start in (0.625, 1.25):
        past, x, expected = deque([start] * 170), start, []
        for _ in range(1_000 + 50):
            for _ in range(10):
                delayed = past.popleft()
                past.append(x)
                x += 0.1 * (0.2 * delayed / (1 + delayed**10) - 0.1 * x)
            expected.append(x)
        found = mackey_glass.mackey_glass(torch.tensor([start, 0.9]), 50)[0]
        np.testing.assert_allclose(found, expected[1_000:], rtol=1e-4)


def test_mackey_glass_has_the_known_variance_and_baselines():
    task = tasks.load("mackey-glass")
    assert task.train_inputs.shape == task.test_inputs.shape == (10, 5_000, 1)
    assert float(task.train_inputs.mean()) == pytest.approx(0.0, abs=1e-6)
    assert task.baselines["zero"] == pytest.approx(0.0466, abs=0.001)
    assert task.baselines["persistence"] == pytest.approx(0.123, abs=0.003)
    assert task.baselines["ridge on the same step"] > 0.03
    assert task.baselines["reservoir, ridge readout"] < 1e-6


def test_mackey_glass_sequences_differ():
    task, other = (tasks.load("mackey-glass", seed=seed, seq_len=100) for seed in (0, 1))
    assert task.train_inputs.shape == (500, 100, 1)
    together = torch.cat([task.train_inputs, task.test_inputs, other.train_inputs])
    assert len({tuple(row) for row in together[..., 0].tolist()}) == 1_500
    assert steps_of(task).mask[:, 0].tolist() == [0.0] * 50 + [1.0] * 50


def test_weather_split_and_scale(data_dir):
    rows = read_rows(data_dir)
    assert rows.shape == (35_064, 9)
    low, high = rows[:33_600].amin(0), rows[:33_600].amax(0)
    scaled = (rows - low) / (high - low)
    task = tasks.load("weather", data_dir)
    assert task.train_inputs.shape == (50, 671, 9)
    torch.testing.assert_close(task.train_inputs[1, 0], scaled[671])
    torch.testing.assert_close(task.test_inputs[0], scaled[33_600 : 35_064 - 24])
    torch.testing.assert_close(task.test_targets[0], scaled[33_624:, :1])
    assert tasks.load("weather", data_dir, seq_len=48).train_inputs.shape == (699, 48, 9)
    validation = tasks.load("weather", data_dir, held_out="validation")
    low, high = rows[:32_136].amin(0), rows[:32_136].amax(0)
    torch.testing.assert_close(validation.test_inputs[0], ((rows - low) / (high - low))[32_136 : 33_600 - 24])


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("weather-1h", {"persistence": 0.000597, "ridge on the same step": 0.000564}),
        ("weather", {"persistence": 0.00581, "ridge on the same step": 0.00414}),
        ("weather-48h", {"persistence": 0.01083, "ridge on the same step": 0.00821}),
    ],
)
def test_weather_baselines(name, known, data_dir):
    found = tasks.load(name, data_dir).baselines
    for key, value in known.items():
        assert found[key] == pytest.approx(value, rel=0.01)
    assert found["reservoir, ridge readout"] < found["ridge on the same step"] < found["persistence"] < found["mean"]


# copying


def test_copying_by_hand():
    inputs, targets = copying_sequences(torch.tensor([[3, 0]]), delay=1)
    assert inputs.argmax(2).tolist() == [[3, 0, 8, 9, 9]]
    assert targets.argmax(2).tolist() == [[8, 8, 8, 3, 0]]
    for one_hot in (inputs, targets):
        assert (one_hot.sum(2) == 1).all()


def test_copying_scores_and_the_best_guess_without_memory():
    task = tasks.load("copying")
    assert task.train_inputs.shape == (2_000, 210, 10)
    steps = steps_of(task)
    perfect = task.held_out_scores(steps.targets, steps)
    assert perfect == {"recall_accuracy": 1.0, "mse": 0.0}
    guess = torch.zeros_like(steps.targets)
    guess[:110, :, 8] = 1.0
    guess[110:, :, :8] = 1 / 8
    found = task.held_out_scores(guess, steps)
    assert found["mse"] == pytest.approx(0.0416667, abs=1e-6)
    assert found["mse"] == pytest.approx(task.memoryless_mse, abs=1e-6)
    assert task.selection(found) == found["mse"]
    assert found["recall_accuracy"] == pytest.approx(0.125, abs=0.01)  # sd 0.0023
    assert task.baselines["reservoir, ridge readout"] == pytest.approx(0.125, abs=0.02)
    swapped = steps.targets.clone()
    swapped[110:160] = steps.targets[160:]
    assert task.held_out_scores(swapped, steps)["recall_accuracy"] == pytest.approx(0.5 + 0.5 / 8, abs=0.02)


def test_copying_draws_fresh_sequences_or_one():
    fresh, fixed = tasks.load("copying"), tasks.load("copying-fixed")
    rows = torch.cat([fresh.train_inputs, fresh.test_inputs])[:, :100].argmax(2)
    assert len({tuple(row) for row in rows.tolist()}) == 2_200
    assert torch.bincount(rows.flatten()).float().std() < 0.01 * rows.numel() / 8
    assert len(fixed.train_inputs) == 1
    assert torch.equal(fixed.test_inputs, fresh.test_inputs)


def test_reservoir_remembers_a_few_symbols():
    task = copying.TASKS[0].load(seq_len=2, delay=1)
    assert task.baselines["reservoir, ridge readout"] > 0.5


# MNIST


def test_permuted_pixels_come_once_each_in_one_order():
    task = tasks.load("psmnist-sample")
    steps = steps_of(task)
    assert steps.inputs.shape == (784, 1_000, 1)
    assert torch.equal(steps.inputs[..., 0].sort(0).values, task.test_inputs.T.sort(0).values)
    assert not torch.equal(steps.inputs[..., 0], task.test_inputs.T)
    again = tasks.load("psmnist-sample", seed=3, seq_len=28)
    chunks = again.steps(task.test_inputs, task.test_targets).inputs
    assert torch.equal(chunks.transpose(0, 1).flatten(1), steps.inputs[..., 0].T)
    assert steps.mask.sum(0).unique().tolist() == [1.0]
    assert steps.mask[-1].all()


def test_latency_code_spikes_once_and_earlier_for_brighter():
    task = tasks.load("latency-mnist-sample")
    image = torch.zeros(1, 784)
    image[0, :4] = torch.tensor([1.0, 0.7, 0.3, 0.005])
    spikes = task.steps(image, torch.tensor([1])).inputs[:, 0]
    times = [spikes[:, i].nonzero().flatten().tolist() for i in range(4)]
    assert times[3] == []
    assert [len(t) for t in times[:3]] == [1, 1, 1]
    assert times[0] < times[1] < times[2]
    steps = steps_of(task)
    assert torch.equal(steps.inputs.sum(0) > 0, task.test_inputs > 0.01)
    assert torch.equal(steps.inputs, steps_of(task).inputs)


def test_label_is_by_the_mean_over_steps_that_count():
    task = tasks.load("latency-mnist-sample", seq_len=5)
    steps = task.steps(task.test_inputs[:2], torch.tensor([1, 2]))
    outputs = torch.zeros(5, 2, 10)
    outputs[:3, 0, 1] = 1.0
    outputs[3:, 0, 4] = 1.2
    outputs[:, 1, 3] = 0.1
    assert task.scores(outputs, steps)["accuracy"].tolist() == [1.0, 0.0]


# the reservoir


def test_reservoir_states_by_hand():
    """The recurrence, one sequence at a time, in numpy."""
    inputs = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    states = reservoir_states(inputs)
    assert states.shape == (4, 2, 303)
    assert torch.equal(states[..., 300:], inputs)
    alone = reservoir_states(inputs[:, 1:])
    torch.testing.assert_close(alone[:, 0], states[:, 1])
    shifted = reservoir_states(inputs[1:])
    assert not torch.allclose(shifted[0], states[1])


def test_reservoir_predicts_a_memory_it_holds():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(400, 4, 1, generator=generator)
    targets = inputs.roll(2, 0)
    found = reservoir_predictions(inputs[:, :3], targets[:, :3], inputs[:, 3:], warm_up=10)
    assert float((found - targets[:, 3:])[10:].square().mean()) < 1e-3


# mistakes


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mackey-glass", {"seq_len": 1}, "give --seq-len 2 or more"),
        ("mackey-glass", {"held_out": "train"}, "unknown held-out part"),
        ("copying", {"seq_len": 0}, "give --seq-len 1 or more"),
        ("psmnist-sample", {"seq_len": 100}, "does not divide 784"),
        ("latency-mnist-sample", {"seq_len": 1}, "give --seq-len 2 or more"),
        ("digits", {"seq_len": 5}, "has no sequences"),
    ],
)
def test_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        tasks.load(name, **options)


# training


def run(out, task, rule, **options):
    profile = options.pop("profile", GAUSSIAN)
    config, _ = resolve(task, rule, profile, options)
    return train(config, profile, out)


SMALL = {"mackey-glass": {"seq_len": 40}, "copying": {"seq_len": 2}, "latency-mnist-sample": {"seq_len": 4}}


@pytest.fixture
def small(monkeypatch):
    """The tasks cut to 40 sequences for training and 20 held out."""
    load = tasks.load

    def cut(*args):
        task = load(*args)
        parts = {f"{part}_{kind}": getattr(task, f"{part}_{kind}")[:n]
                 for part, n in (("train", 40), ("test", 20)) for kind in ("inputs", "targets")}  # fmt: skip
        return type(task)(**{**vars(task), **parts})

    monkeypatch.setattr(tasks, "load", cut)


@pytest.mark.parametrize("task", SMALL)
@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("danp", {}),
        ("anp", {"update": "online"}),
        ("np", {"update": "online", "credit": "trace", "decay": 0.5}),
        ("anp", {"credit": "sequence"}),
        ("reinforce", {}),
        ("bptt", {}),
        ("dbptt", {"forward": "chip"}),
        ("tbptt2", {"update": "online"}),
        ("wp", {"profile": load_profile("gaussian-weight")}),
    ],
    ids=str,
)
def test_every_rule_trains_on_every_kind(task, rule, options, small, tmp_path):
    network = {"network": "spiking"} if task.startswith("latency") else {}
    settings = {"hidden": (6,), "batch": 20, "epochs": 2, "lr": 1e-3} | network | SMALL[task] | options
    file = run(tmp_path, task, rule, **settings)
    found = file.read()
    assert all(math.isfinite(value) for value in found["final"].values())
    assert found["metrics"]["epoch"]["train_loss"].shape == (2,)
    assert len(found["metrics"]["step"]["loss"]) == 4


def test_delta_rule_at_the_readout(small, tmp_path):
    """The hybrid: on the readout it must be the exact one-step gradient, which a noiseless output shows."""
    options = {"hidden": (6,), "batch": 40, "epochs": 1, "readout": "delta"}
    epoch = run(tmp_path, "mackey-glass", "anp", seq_len=40, **options).read()["metrics"]["epoch"]
    assert epoch["alignment_readout"][0] > 0.999
    with pytest.raises(UserError, match="knows the error of the readout alone"):  # an integrator follows it
        run(tmp_path, "latency-mnist-sample", "anp", seq_len=4, network="spiking", **options)


def test_alignment_of_exact_gradients_would_be_one(small, tmp_path):
    """The look at NP through time: with many draws its credit by sequence points along the gradient."""
    file = run(tmp_path, "copying", "np", hidden=(4,), batch=40, epochs=1, seq_len=1, draws=300, credit="reward-to-go")
    epoch = file.read()["metrics"]["epoch"]
    assert epoch["alignment_hidden1"][0] > 0.8
    assert epoch["alignment_readout"][0] > 0.8


def test_online_and_by_sequence_differ_in_the_number_of_updates(small, tmp_path):
    settings = {"hidden": (6,), "batch": 20, "epochs": 1, "lr": 1e-2, "optimizer": "sgd", "seq_len": 40}
    once = run(tmp_path / "a", "mackey-glass", "tbptt1", update="sequence", **settings).read()["weights"]["digital"]
    often = run(tmp_path / "b", "mackey-glass", "tbptt1", update="online", **settings).read()["weights"]["digital"]
    start = run(tmp_path / "c", "mackey-glass", "tbptt1", **settings | {"lr": 1e-12}).read()["weights"]["digital"]
    moved = [np.linalg.norm(w["readout.weight"] - start["readout.weight"]) for w in (once, often)]
    assert moved[1] > 5 * moved[0]


def test_resumed_in_the_middle_ends_the_same(small, tmp_path, monkeypatch):
    options = {"hidden": (6,), "batch": 10, "epochs": 2, "seq_len": 40, "update": "online", "baseline": "noisy"}
    profile = load_profile("pcm-nandakumar-2019")
    config, _ = resolve("mackey-glass", "danp", profile, options)
    whole = train(config, profile, tmp_path / "whole").read()

    def stop(step, total, loss):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, profile, tmp_path / "cut", on_step=stop, checkpoint_every_s=0.0)
    rest = train(config, profile, tmp_path / "cut", resume=True).read()
    for key, weight in whole["weights"]["on_chip"].items():
        assert np.array_equal(weight, rest["weights"]["on_chip"][key])
    assert np.array_equal(whole["metrics"]["step"]["loss"], rest["metrics"]["step"]["loss"])


def test_runaway_in_time_leaves_the_last_good_state(small, tmp_path):
    options = {"hidden": (6,), "batch": 20, "epochs": 1, "seq_len": 40, "optimizer": "sgd", "activation": "identity"}
    with pytest.raises(UserError, match="lower --lr"):
        run(tmp_path, "mackey-glass", "tbptt1", update="online", lr=1e9, **options)


@pytest.mark.parametrize("task", [name for name in tasks.names() if tasks.describe(name).in_time])
@pytest.mark.parametrize("rule", ["danp", "np", "bptt", "tbptt1"])
def test_the_packaged_recipes_fit_every_task_in_time(task, rule):
    config, _ = resolve(task, rule, GAUSSIAN, {})
    config.build_rule()
    assert config.network == ("spiking" if task.startswith("latency") else "rnn")
    if not tasks.describe(task).files:
        assert len(tasks.load(task, seq_len=config.seq_len).train_inputs) >= config.batch


@pytest.mark.parametrize("neuron", ["leaky", "rleaky", "synaptic"])
def test_the_packaged_spiking_recipe_fires_at_the_start(neuron):
    """Silent hidden neurons teach a perturbation rule nothing."""
    config, _ = resolve("latency-mnist-sample", "danp", GAUSSIAN, {"neuron": neuron})
    task = tasks.load("latency-mnist-sample")
    model = build_model(config, task)
    spikes = []
    model.neurons1.register_forward_hook(lambda module, args, out: spikes.append(out[0]))
    Chip(model, GAUSSIAN).follow(task.steps(task.train_inputs[:50], task.train_targets[:50]).inputs)
    rate = float(torch.stack(spikes).mean()) * config.hidden[0]
    assert 0.1 < rate < 0.5 * config.hidden[0]  # spikes of the layer in a step


def test_updates_are_counted(small, tmp_path):
    settings = {"hidden": (6,), "batch": 20, "epochs": 2, "seq_len": 40}
    for rule, update, expected in (
        ("anp", "online", 2 * 2 * 20),  # half of the 40 steps are warm-up
        ("tbptt7", "online", 2 * 2 * 4),  # stretches from steps 14, 21, 28, 35
        ("anp", "sequence", 2 * 2),
        ("bptt", None, 2 * 2),
    ):
        final = run(tmp_path, "mackey-glass", rule, update=update, **settings).read()["final"]
        assert final["weight_updates"] == expected, rule


def test_weight_normalisation_is_refused_online():
    with pytest.raises(UserError, match="say --update sequence"):
        resolve("mackey-glass", "anp", GAUSSIAN, {"weight_normalisation": True, "update": "online"})
