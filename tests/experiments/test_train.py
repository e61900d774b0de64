"""The loop: what it counts, what it records, what it refuses before any work."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from support.small_runs import FULL, GAUSSIAN, PCM, profile_text, small_task, small_train

from noisylearn import Chip, tasks
from noisylearn.experiments.build import build_model, build_setup
from noisylearn.experiments.config import TrainConfig
from noisylearn.experiments.train import train
from noisylearn.experiments.trainer import Trainer
from noisylearn.ground.errors import UserError
from noisylearn.networks import mlp
from noisylearn.networks.decorrelation import decorrelations
from noisylearn.profiles import load_profile, parse_profile


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(tasks, "load", small_task)


def training(**changes):
    config = TrainConfig(**{**GAUSSIAN, **changes})
    return Trainer(build_setup(config, load_profile(config.profile), small_task(config.task)))


@pytest.mark.parametrize(
    ("changes", "forward", "backward"),
    [
        ({"rule": "np"}, 2, 0),
        ({"rule": "np", "draws": 3}, 4, 0),
        ({"rule": "np", "baseline": "noisy"}, 2, 0),
        ({"rule": "anp", "baseline": "mean", "draws": 2}, 3, 0),
        ({"rule": "anp", "readout": "delta"}, 2, 0),
        ({"rule": "inp"}, 3, 0),
        ({"rule": "inp", "hidden": (8, 8), "draws": 2}, 7, 0),
        ({"rule": "wp", "profile": "gaussian-weight"}, 2, 0),
        ({"rule": "reinforce"}, 3, 1),
        ({"rule": "bp"}, 1, 1),
    ],
    ids=str,
)
def test_passes_are_counted(changes, forward, backward, tmp_path, monkeypatch):
    """What the file says of the passes over the data, against the samples that went through the network."""
    seen, measured = [0], training(**changes)
    original = Chip.passes

    def passes(chip, x, plan, purpose="pass"):
        readings = original(chip, x, plan, purpose)
        seen[0] += readings.output.shape[0] * readings.output.shape[1]
        return readings

    monkeypatch.setattr(Chip, "passes", passes)
    for _ in range(measured.steps_per_epoch):
        measured.step()
    assert seen[0] == (forward - backward) * len(measured.task.train_inputs), "a backward pass needs a digital one"
    final = small_train(tmp_path, {**GAUSSIAN, **changes}).read()["final"]
    assert (final["forward_passes_over_data"], final["backward_passes_over_data"]) == (2 * forward, 2 * backward)


def test_final_metric_is_that_of_the_final_weights(tmp_path):
    run = small_train(tmp_path, GAUSSIAN).read()
    task = small_task("mnist-sample")
    model = mlp(49, (12,), 10)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in run["weights"]["digital"].items()})
    correct = (model(task.test_inputs).argmax(1) == task.test_targets).double().mean()
    assert run["final"]["accuracy_at_once"] == pytest.approx(float(correct), abs=1e-12)
    assert run["final"]["accuracy_at_once"] == run["metrics"]["epoch"]["held_out_accuracy"][-1]
    for name, value in run["weights"]["on_chip"].items():
        np.testing.assert_array_equal(value, run["weights"]["digital"][f"{name}.weight"])


def test_final_metric_on_devices_is_near_that_of_the_weights_read_there(tmp_path):
    settings = {**FULL, "rule": "bp", "baseline": "clean", "draws": 1, "epochs": 8, "decorrelation_rate": 0.0}
    run = small_train(tmp_path, settings).read()
    task = small_task("mnist-sample")
    model = mlp(49, (12,), 10)
    state = {name: torch.from_numpy(value) for name, value in run["weights"]["digital"].items()}
    state |= {f"{name}.weight": torch.from_numpy(value) for name, value in run["weights"]["on_chip"].items()}
    model.load_state_dict(state)
    correct = (model(task.test_inputs).argmax(1) == task.test_targets).double().mean()
    assert run["final"]["accuracy_at_once"] == pytest.approx(float(correct), abs=0.1)  # read noise alone differs
    assert "accuracy_after_1_day" in run["final"]


def test_run_file_says_what_it_is_of(tmp_path):
    file = small_train(tmp_path, FULL)
    run = file.read()
    config = TrainConfig(**FULL)
    assert TrainConfig.model_validate_json(run["config"]) == config
    assert run["profile"] == profile_text(PCM)
    assert parse_profile(run["profile"]) == load_profile(PCM)
    assert {"noisylearn", "torch", "python"} == set(json.loads(run["versions"]))
    assert set(json.loads(run["citations"])) == {"rule", *load_profile(PCM).sources}
    assert run["id"] in file.path.name
    assert file.path.name.startswith(f"mnist-sample-danp-{PCM}-seed0-")
    assert len(run["metrics"]["step"]["loss"]) == run["step"] == 10
    assert {len(values) for values in run["metrics"]["epoch"].values()} == {2}
    assert {"held_out_accuracy", "train_loss", "alignment_readout.layer", "noise_to_signal_hidden1.layer",
            "decorrelation_loss_hidden1.layer"} <= set(run["metrics"]["epoch"])  # fmt: skip
    assert np.isfinite(run["metrics"]["step"]["loss"]).all()
    assert run["metrics"]["epoch"]["train_loss"][1] == pytest.approx(run["metrics"]["step"]["loss"][5:].mean())
    assert run["baselines"] == pytest.approx(small_task("mnist-sample").baselines)
    assert run["wall_s"] > 0


def test_bp_learns(tmp_path):
    run = small_train(tmp_path, {**GAUSSIAN, "rule": "bp", "epochs": 40}).read()
    assert run["final"]["accuracy_at_once"] > 0.5


def test_every_epoch_shuffles_anew_and_shows_every_sample_once():
    batches = training(batch=40).setup.batches
    orders = [torch.cat([batches._rows(epoch * 5 + i) for i in range(5)]) for epoch in range(2)]
    assert all(sorted(order.tolist()) == list(range(200)) for order in orders)
    assert not torch.equal(*orders)


def rates(**changes) -> list[tuple[float, float]]:
    """Rates of learning and of decorrelation in every step."""
    run, found = training(decorrelation_rate=0.1, **changes), []
    for _ in range(run.total_steps):
        found.append((run.optimizer.param_groups[0]["lr"],))
        run.step()
        (decorrelation,) = {layer.rate for layer in decorrelations(run.model).values()}
        found[-1] += (decorrelation,)
        if run.progress.step % run.steps_per_epoch == 0:
            run.end_epoch()
    return found


def test_schedule_sets_learning_and_decorrelation_rates_alike():
    assert rates(schedule="constant") == [(1e-2, 0.1)] * 10
    cosine = [0.5 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    np.testing.assert_allclose(rates(schedule="cosine"), [(1e-2 * share, 0.1 * share) for share in cosine])


def test_schedulers_of_torch_step_after_every_epoch():
    tenth = [(1e-2, 0.1)] * 5 + [(1e-3, 0.01)] * 5
    np.testing.assert_allclose(rates(schedule="StepLR,step_size=1,gamma=0.1"), tenth)
    at_once = "ReduceLROnPlateau,patience=0,threshold=1e3,threshold_mode=abs"  # no epoch is as good
    np.testing.assert_allclose(rates(schedule=at_once, epochs=3)[5:], [(1e-2, 0.1)] * 5 + [(1e-3, 0.01)] * 5)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("cosin", "did you mean cosine"),
        ("StepLR", "missing a required argument: 'step_size'"),
        ("StepLR,step_size", "give name=value"),
        ("StepLR,step_size=2,gama=1", "unexpected keyword argument 'gama'"),
    ],
)
def test_schedule_that_is_none_is_refused(schedule, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{**GAUSSIAN, "schedule": schedule})


def test_weight_normalisation_holds_the_norms():
    measured = training(weight_normalisation=True, lr=0.1)
    before = measured.model.hidden1.weight.detach().norm(dim=1)
    for _ in range(5):
        measured.step()
    torch.testing.assert_close(measured.model.hidden1.weight.detach().norm(dim=1), before)


def test_seed_decides_everything(tmp_path):
    runs = [small_train(tmp_path / str(i), {**FULL, "seed": seed}).read() for i, seed in enumerate((0, 0, 1))]
    losses = [run["metrics"]["step"]["loss"] for run in runs]
    np.testing.assert_array_equal(losses[0], losses[1])
    assert (losses[0] != losses[2]).all()


def test_decorrelation_in_front_of_every_layer():
    model = build_model(TrainConfig(**FULL), small_task("mnist-sample"))
    assert set(decorrelations(model)) == {"hidden1.layer", "readout.layer"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rule": "np", "profile": PCM}, "rules that work there: "),
        ({"rule": "anp", "profile": "ideal"}, "state some in its file: noisylearn profiles keys output-noise"),
        ({"rule": "anp", "profile": "ideal"}, "noise that perturbs"),
        ({"task": "mnits"}, "did you mean mnist"),
        ({"optimizer": "adaam"}, "did you mean adam"),
        ({"optimizer": "lbfgs"}, "several times a step"),
        ({"device": "tpu"}, "choose auto, cpu or cuda"),
        ({"device": "cuda:99"}, "CUDA devices"),
        ({"batch": 201}, "--batch 201 is more than the 200 training samples"),
        ({"network": "convnet"}, "takes larger images"),
        ({"hidden": (10**11,)}, "not enough memory"),
        ({"decorrelation_rate": -1.0}, "decorrelation_rate"),
    ],
    ids=str,
)
def test_refused_before_any_work(changes, named, tmp_path):
    steps = []
    with pytest.raises(ValueError, match=named) as caught:  # pydantic's for the last one, which is Python alone
        small_train(tmp_path / "out", {**GAUSSIAN, **changes}, on_step=lambda *step: steps.append(step))
    assert isinstance(caught.value, UserError) == ("decorrelation_rate" not in changes)
    assert not steps
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("part", ["train_inputs", "train_targets", "test_inputs", "test_targets"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_data_that_is_not_finite(part, value, tmp_path, monkeypatch):
    def load(*arguments, **options):
        task = small_task(*arguments, **options)
        broken = getattr(task, part).clone()
        broken[3, 2] = value
        return dataclasses.replace(task, **{part: broken})

    monkeypatch.setattr(tasks, "load", load)
    with pytest.raises(UserError, match=f"linear-teacher: {part} holds values that are not finite"):
        small_train(tmp_path, {**GAUSSIAN, "task": "linear-teacher"})


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_output_folder_that_cannot_be_written(kind, tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" if kind == "file" else tmp_path / "file" / "below"
    with pytest.raises(UserError, match=r"output folder .* cannot be written: .*--out"):
        train(TrainConfig(**GAUSSIAN), load_profile("gaussian-node"), out)
