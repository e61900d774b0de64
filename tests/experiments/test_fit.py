"""One's own network and data: the same run as that of `train`, whole or interrupted; what does not fit is refused."""

import multiprocessing
import os
import random
import signal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.small_runs import GAUSSIAN, PCM, same, small_task, small_train
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import noisylearn as nl
from noisylearn import tasks
from noisylearn.experiments.config import TrainConfig
from noisylearn.experiments.identity import text_of
from noisylearn.experiments.loader import LoaderBatches
from noisylearn.experiments.run_file import RunFile
from noisylearn.experiments.run_files import scan
from noisylearn.experiments.run_model import trained_run
from noisylearn.ground.errors import RunawayError, UserError
from noisylearn.report.page import rows_of, runs_page

WHOLE = tasks.load("mnist-sample")


class Images(Dataset):
    """Images of digits, shifted at random by all three global generators."""

    def __init__(self, part, n, shifts=False, fails_at=None):
        self.inputs = getattr(WHOLE, f"{part}_inputs")[:n].reshape(-1, 1, 28, 28)[:, :, 6:22, 6:22]
        self.targets = getattr(WHOLE, f"{part}_targets")[:n].tolist()
        self.shifts, self.left = shifts, fails_at

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, i):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise ValueError("no such image")
        if not self.shifts:
            return self.inputs[i], self.targets[i]
        shift = int(torch.randint(2, ())) + int(np.random.randint(2)) + random.randint(0, 1)
        return torch.roll(self.inputs[i], shift, 2), self.targets[i]


class LeNet(nn.Module):
    """Two convolutions, three linear layers."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 5, padding=2), nn.Conv2d(4, 8, 5)
        self.linear1, self.linear2, self.readout = nn.Linear(32, 24), nn.Linear(24, 16), nn.Linear(16, 10)

    def forward(self, x):
        x = F.avg_pool2d(torch.relu(self.conv1(x)), 2)
        x = F.avg_pool2d(torch.relu(self.conv2(x)), 2)
        return self.readout(torch.relu(self.linear2(torch.relu(self.linear1(x.flatten(1))))))


class ResNet(nn.Module):
    """One residual block, with normalisation that is frozen and in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.conv1, self.norm1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.readout = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))
        return self.readout(F.avg_pool2d(x, 2).flatten(1))


def made(kind):
    """A network of seed 0; its normalisation has seen data, and is then frozen."""
    torch.manual_seed(0)
    model = kind()
    if kind is ResNet:
        model(Images("train", 100).inputs)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
    return model.eval()


def shifted(workers=0, **options):
    return DataLoader(Images("train", 120, shifts=True), 25, shuffle=True, num_workers=workers, **options)


def fit(out=None, kind=LeNet, data=None, loss=nn.CrossEntropyLoss, rule="lf", profile=PCM, **options):
    """Two epochs of five steps, the last of which has fewer samples."""
    given = {"held_out": Images("test", 60), "epochs": 2, "lr": 1e-2, "out": out} | options
    return nl.fit(made(kind), shifted() if data is None else data, loss, profile, rule, **given)


class At(nl.callbacks.Callback):
    """Does something after a step."""

    def __init__(self, step, act):
        self.at, self.act = step, act

    def step(self, run):
        if run.step == self.at:
            self.act()


def interrupting(step, number=signal.SIGINT):
    return At(step, lambda: signal.raise_signal(number))


def failing(step):
    def fail():
        raise LookupError("mine")

    return At(step, fail)


def the_run(out):
    (path,) = out.glob("*.h5")
    return RunFile(path).read()


# interrupted and resumed


@pytest.mark.parametrize(
    ("kind", "workers", "step", "optimizer"),
    [
        (LeNet, 0, 3, "adam"),
        (LeNet, 2, 8, lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9)),
        (ResNet, 0, 5, "adam"),
        (ResNet, 2, 7, "adam"),
    ],
)
def test_interrupted_run_resumes_bit_for_bit(kind, workers, step, optimizer, tmp_path):
    """With images drawn anew in every epoch; step 5 is the end of the first."""

    def run(name, **options):
        return fit(tmp_path / name, kind, shifted(workers), optimizer=optimizer, **options)

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt) as stop:
        run("cut", callbacks=[interrupting(step)])
    cut = the_run(tmp_path / "cut")
    assert (cut["status"], cut["step"]) == ("running", step)
    assert f"the state of step {step} is kept in" in stop.value.__notes__[0]
    with pytest.raises(UserError, match="holds an unfinished run: continue with resume=True"):
        run("cut")
    resumed = run("cut", resume=True)
    assert same(the_run(tmp_path / "whole"), the_run(tmp_path / "cut")) == []
    assert resumed.losses == whole.losses
    assert resumed.scores == whole.scores


@pytest.mark.parametrize("act", [lambda: signal.raise_signal(signal.SIGINT), failing(8).act], ids=["signal", "error"])
def test_workers_end_with_an_interrupted_run(act, tmp_path):
    before = set(multiprocessing.active_children())
    with pytest.raises((KeyboardInterrupt, LookupError)):
        fit(tmp_path, data=shifted(2), callbacks=[At(8, act)])
    assert set(multiprocessing.active_children()) <= before


def test_signals_do_their_usual_work_again_afterwards(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, callbacks=[interrupting(2)])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_sigterm_reaches_a_handler_once_the_step_is_saved(tmp_path, monkeypatch):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(the_run(tmp_path)["step"]))
    try:
        found = fit(tmp_path, callbacks=[interrupting(4, signal.SIGTERM)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [4]
    assert (len(found.losses), found.scores) == (4, {})


def test_sigterm_ends_the_process_with_a_line(tmp_path, monkeypatch, capsys):
    raised = signal.raise_signal

    def last(number):
        if signal.getsignal(number) is signal.SIG_DFL:
            raise SystemExit(number)  # in place of the end of the process
        raised(number)

    monkeypatch.setattr(signal, "raise_signal", last)
    with pytest.raises(SystemExit, match="15"):
        fit(tmp_path, callbacks=[At(3, lambda: os.kill(os.getpid(), signal.SIGTERM))])
    (path,) = tmp_path.glob("*.h5")
    assert capsys.readouterr().err == (
        f"terminated; the state of step 3 is kept in {path}; resume=True goes on from there\n"
    )


def test_an_ignored_signal_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert len(fit(tmp_path, callbacks=[interrupting(4)]).losses) == 10
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_of_a_callback_loses_nothing(tmp_path):
    whole = fit(tmp_path / "whole")
    with pytest.raises(LookupError, match="mine") as caught:
        fit(tmp_path / "cut", callbacks=[failing(7)])
    assert "the state of step 7 is kept in" in caught.value.__notes__[0]
    assert the_run(tmp_path / "cut")["step"] == 7
    assert fit(tmp_path / "cut", resume=True).losses == whole.losses
    assert same(the_run(tmp_path / "whole"), the_run(tmp_path / "cut")) == []


def test_an_error_of_the_data_loses_nothing(tmp_path):
    """120 images are read for the first epoch's hash, 120 in the first epoch, 30 in the second."""

    def loader(fails_at):
        return DataLoader(Images("train", 120, fails_at=fails_at), 25)

    with pytest.raises(ValueError, match="no such image") as caught:
        fit(tmp_path, data=loader(270))
    assert "the state of step 6 is kept in" in caught.value.__notes__[0]
    assert the_run(tmp_path)["step"] == 6
    assert fit(tmp_path, data=loader(None), resume=True).losses == fit(data=loader(None)).losses


def test_an_error_within_a_step_leaves_the_last_checkpoint(tmp_path):
    calls = []

    def loss(output, target):
        calls.append(1)
        if len(calls) == 9:
            raise ZeroDivisionError
        return F.cross_entropy(output, target, reduction="none")

    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, loss=loss, checkpoint_every_s=0.0)
    left = the_run(tmp_path)["step"]
    assert 0 < left < 9
    calls += [0] * 99
    assert fit(tmp_path, loss=loss, resume=True).losses == fit().losses


# one way


def test_fit_and_train_are_the_same_run(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "load", small_task)
    by_train = small_train(tmp_path, GAUSSIAN).read()
    rule = TrainConfig(**GAUSSIAN).build_rule()
    task, model = small_task("mnist-sample"), nl.networks.mlp(49, (12,), 10, 0)
    by_fit = nl.fit(model, task, None, "gaussian-node", rule, lr=1e-2, epochs=2, batch=40)
    assert by_fit.losses == by_train["metrics"]["step"]["loss"].tolist()
    assert by_fit.history == {key: values.tolist() for key, values in by_train["metrics"]["epoch"].items()}
    assert by_fit.scores == by_train["final"]
    assert by_fit.baselines == by_train["baselines"]


@pytest.mark.parametrize(
    "loss",
    [
        None, nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum"), F.cross_entropy,
        lambda output, target: F.cross_entropy(output, target, reduction="none"),
    ],
    ids=["none", "module", "module that sums", "function", "own"],
)  # fmt: skip
def test_losses_of_every_form_are_the_same(loss):
    assert fit(loss=loss).losses == fit(loss=nn.CrossEntropyLoss).losses


def test_arrays_and_numbers():
    """Targets (n,) of a line; the squared error of torch, as a module."""
    x = np.random.default_rng(0).normal(size=(200, 3))
    y = x @ np.array([1.0, -2.0, 0.5])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    found = nl.fit(model, (x[:150], y[:150]), nn.MSELoss, "ideal", "bp", held_out=(x[150:], y[150:]), batch=10, lr=0.03)
    assert found.scores["mse_at_once"] < 0.1 * found.baselines["mean"]
    assert found.baselines["mean"] == pytest.approx(np.mean((y[150:] - y[:150].mean()) ** 2))
    assert found.baselines["ridge readout"] == pytest.approx(0, abs=1e-4)


def test_a_metric_of_ones_own():
    def top3(output, target):
        return (output.topk(3).indices == target[:, None]).any(1).float()

    found = fit(metric=top3, rule="bp", profile="ideal")
    outputs = found.model(Images("test", 60).inputs)
    right = [int(t) in row.tolist() for row, t in zip(outputs.topk(3).indices, Images("test", 60).targets, strict=True)]
    assert found.scores["top3_at_once"] == pytest.approx(np.mean(right))
    assert "chance" not in found.baselines
    assert found.history["held_out_top3"][-1] == found.scores["top3_at_once"]


def test_a_metric_that_is_not_finite_is_told_once_and_the_run_goes_on(recwarn):
    measured = []

    def skill(output, target):
        measured.append(len(output) == 60)  # the held-out part
        return torch.full((len(output),), float(sum(measured) < 2)).log()

    found = fit(metric=skill, rule="bp", epochs=3)
    assert found.history["held_out_skill"] == [0.0, -np.inf, -np.inf]
    remedy = "some sample has no finite score, see where skill divides by zero or takes the logarithm of it"
    assert [str(one.message) for one in recwarn] == [
        f"the held-out skill is -inf {when}: {remedy} (the weights are finite)"
        for when in ("after epoch 2 of 3", "after a day of drift")
    ]


def test_the_network_that_was_given_and_the_global_generators_stay_as_they_are():
    model = made(LeNet)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    expected = torch.rand(2).tolist(), np.random.rand(), random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    found = nl.fit(model, shifted(), None, PCM, "lf", held_out=Images("test", 60), epochs=1)
    assert (torch.rand(2).tolist(), np.random.rand(), random.random()) == expected
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not torch.equal(found.model.readout.weight, model.readout.weight)


def test_a_finished_run_is_read_from_its_file(tmp_path):
    first = fit(tmp_path)
    changed = the_run(tmp_path)["machine"]
    again = fit(tmp_path)
    x = Images("test", 60).inputs
    assert torch.equal(first.model(x), again.model(x))
    assert (again.scores, again.history, again.losses) == (first.scores, first.history, first.losses)
    assert the_run(tmp_path)["machine"] == changed
    assert str(first.file) in repr(first)
    assert "trivial baselines: chance 0.1" in repr(first)


def test_the_chip_is_that_of_the_scores_at_once(tmp_path):
    """Not a day later, when what it computes has shrunk; nor is one that was read from its file."""
    first, again = fit(tmp_path), fit(tmp_path)
    day_later = nl.Chip(first.model, PCM, seed=1)
    day_later.advance(86_400.0)
    x = Images("test", 60).inputs
    exact = first.model(x).detach()

    def size(chip):
        """Slope of what the chip gives against the digital outputs."""
        return float((chip(x) * exact).sum() / exact.square().sum())

    assert size(day_later) < 0.8
    assert size(first.chip) == pytest.approx(1, abs=0.1)
    assert size(again.chip) == pytest.approx(1, abs=0.1)


def test_a_chip_of_a_run_from_its_file_is_calibrated(tmp_path, recwarn):
    again = [fit(tmp_path, rule="bp", profile="isaac-2016") for _ in range(2)][1]
    again.chip(Images("test", 60).inputs)
    assert not [one for one in recwarn if "calibrate" in str(one.message)]


# what identifies a run


def seeded(seed):
    """A network with other weights for every seed."""
    model = made(LeNet)
    torch.manual_seed(seed)
    model.readout.reset_parameters()
    return model


def warmer():
    model = made(LeNet)
    with torch.no_grad():
        model.readout.bias += 1e-6
    return model


def scaled():
    """A network with a number of its own, which its printout does not show."""
    model = made(LeNet)
    model.scale = 2.0
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 2e-2}, {"seed": 1}, {"epochs": 1}, {"kind": ResNet}, {"loss": nn.MultiMarginLoss}, {"rule": "anp"},
        {"profile": "gaussian-node"}, {"held_out": Images("test", 50)}, {"kind": warmer}, {"schedule": "constant"},
        {"data": DataLoader(Images("train", 120, shifts=True), 25)}, {"callbacks": [nl.callbacks.EarlyStopping(9)]},
        {"optimizer": lambda parameters: torch.optim.Adam(parameters, 1e-2, weight_decay=0.1)},
        {"kind": lambda: made(ResNet).train(False).requires_grad_(True)}, {"kind": scaled},
        {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)},
    ],
    ids=lambda changes: ", ".join(changes),
)  # fmt: skip
def test_everything_that_affects_the_result_makes_another_run(changes, tmp_path, monkeypatch):
    """Names of the files alone: nothing is trained."""
    monkeypatch.setattr("noisylearn.experiments.fit._carried_out", lambda setup, order, *_: order.own["id"])
    ids = [fit(tmp_path), fit(tmp_path), fit(tmp_path, **changes)]
    assert ids[0] == ids[1] != ids[2]


def weighted(weight):
    """Losses that differ in a number alone, from wherever they take it."""
    return {
        "closure": lambda o, t: weight * F.cross_entropy(o, t, reduction="none"),
        "default": lambda o, t, by=weight: by * F.cross_entropy(o, t, reduction="none"),
        "tensor": _by(torch.full((10,), weight)),
        "array": _by(np.full(10, weight)),
        "helper": _through(_by(weight)),
        "object": Weighted(weight),
    }  # fmt: skip


def _by(weight):
    return lambda o, t: torch.as_tensor(weight).mean() * F.cross_entropy(o, t, reduction="none")


def _through(helper):
    return lambda o, t: helper(o, t)


class Weighted:
    """A loss with a number of its own."""

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, o, t):
        return self.weight * F.cross_entropy(o, t, reduction="none")


@pytest.mark.parametrize("form", weighted(1.0))
def test_values_that_a_function_takes_from_elsewhere_make_another_run(form):
    one, same_one, other = (text_of(weighted(weight)[form]) for weight in (1.0, 1.0, 2.0))
    assert one == same_one != other


def test_a_function_that_calls_itself_has_a_text():
    def loss(o, t):
        return loss(o, t)

    assert text_of(loss) == text_of(loss)


def test_what_else_stands_on_the_line_of_a_lambda_is_not_of_it():
    one, other, third = (lambda o: o + 1, False), (lambda o: o + 1, True), (lambda o: o + 2, lambda o: o + 3)
    assert text_of(one[0]) == text_of(other[0]) == "lambda o: o + 1"
    assert [text_of(function) for function in third] == ["lambda o: o + 2", "lambda o: o + 3"]


def test_a_loss_in_a_task_is_part_of_the_run(monkeypatch):
    monkeypatch.setattr("noisylearn.experiments.fit._carried_out", lambda setup, order, *_: order.own["id"])
    parts = (X, Y), (X, Y)
    ids = [
        fit(data=nl.tasks.from_data("own", *parts, loss=loss), loss=None, held_out=None, batch=10)
        for loss in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1))
    ]
    assert ids[0] == ids[1] != ids[2]


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, callbacks=[interrupting(2)])
    with pytest.warns(UserWarning, match="no unfinished run of these weights, data, settings .*: it starts anew"):
        fit(tmp_path, kind=warmer, resume=True, epochs=1)


# callbacks, early stopping, schedules


def test_early_stopping_ends_the_run_and_survives_an_interruption(tmp_path):
    long = fit(epochs=6, schedule="constant")
    scores = long.history["held_out_accuracy"]
    due = next(i + 1 for i in range(1, 6) if scores[i] <= max(scores[:i]))
    assert due < 6, "the run is chosen so that an epoch before the last is no better"
    options = {"epochs": 6, "schedule": "constant"}
    stopping = nl.callbacks.EarlyStopping(1)
    found = fit(tmp_path / "whole", callbacks=[stopping], **options)
    assert len(found.losses) == 5 * due
    assert found.losses == long.losses[: 5 * due]
    assert found.scores["accuracy_at_once"] == scores[due - 1]
    assert (found.scores["forward_passes_over_data"], found.scores["weight_updates"]) == (2 * due, 5 * due)
    assert found.stopped_early.startswith("held_out_accuracy was no better")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", callbacks=[interrupting(5 * due), stopping], **options)
    again = fit(tmp_path / "cut", callbacks=[stopping], resume=True, **options)
    assert (again.losses, again.scores, again.stopped_early) == (found.losses, found.scores, found.stopped_early)


def test_callbacks_are_told_of_everything_in_order(tmp_path):
    told = []

    class Telling(nl.callbacks.Callback):
        def start(self, run):
            told.append(("start", run.step, run.total_steps, run.file.exists()))

        def step(self, run):
            told.append(run.step)

        def epoch(self, run):
            told.append(("epoch", run.epoch, len(run.history[run.metric])))

        def end(self, run, how):
            told.append(how)

    fit(tmp_path, callbacks=[Telling()])
    assert told == [
        ("start", 0, 10, True), 1, 2, 3, 4, 5, ("epoch", 1, 1), 6, 7, 8, 9, 10, ("epoch", 2, 2), "finished",
    ]  # fmt: skip
    told.clear()
    with pytest.raises(RunawayError, match="lower the learning rate"):
        fit(tmp_path, callbacks=[Telling()], lr=1e12)
    assert told[-1] == "stopped"


def test_a_schedule_of_ones_own_resumes_bit_for_bit(tmp_path):
    """It waits for a plateau: no epoch is as much better as it asks for, so that the rate falls after each."""

    def schedule(optimizer):
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0, threshold=2.0)

    options = {"schedule": schedule, "epochs": 3}
    whole, constant = fit(tmp_path / "whole", **options), fit(schedule="constant", epochs=3)
    assert whole.losses[:6] == constant.losses[:6]
    assert whole.losses[6] != constant.losses[6]
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", callbacks=[interrupting(12)], **options)
    assert fit(tmp_path / "cut", resume=True, **options).losses == whole.losses
    assert same(the_run(tmp_path / "whole"), the_run(tmp_path / "cut")) == []


def test_a_loss_that_grows_is_told():
    """The first step at such a rate ruins the network."""
    loader = DataLoader(Images("train", 120), 60)
    with pytest.warns(UserWarning, match=r"the loss grew from 2\.\d+ to \S+ while it learned: lower the learning rate"):
        fit(data=loader, lr=1.0, rule="bp", profile="ideal")


# loaders


def test_batches_follow_from_seed_and_epoch_alone():
    """Whatever was asked for before; and they are those of the loader: all images, each with its label."""
    one, other = (LoaderBatches(shifted(workers), 3, "cpu") for workers in (0, 0))
    in_order = [one.batch(step) for step in range(10)]
    for step in (7, 2, 9, 0):
        for ours, theirs in zip(other.batch(step), in_order[step], strict=True):
            assert torch.equal(ours, theirs)
    epochs = [torch.cat([targets for _, targets in in_order[start : start + 5]]) for start in (0, 5)]
    assert [sorted(of.tolist()) for of in epochs] == [sorted(Images("train", 120).targets)] * 2
    assert not torch.equal(*epochs)
    assert not torch.equal(LoaderBatches(shifted(), 4, "cpu").batch(0)[0], in_order[0][0])


def test_a_loader_with_a_generator_of_its_own():
    loaders = [shifted(generator=torch.Generator().manual_seed(i)) for i in (1, 2)]
    one, other = (LoaderBatches(loader, 3, "cpu") for loader in loaders)
    assert torch.equal(one.batch(6)[0], other.batch(6)[0])


class Stream(IterableDataset):
    """Forty images one after the other, fewer of them in every pass."""

    def __init__(self, fewer=0):
        self.left, self.fewer = 40, fewer

    def __iter__(self):
        found = list(zip(Images("train", self.left).inputs, Images("train", self.left).targets, strict=True))
        self.left -= self.fewer
        return iter(found)


def test_data_without_a_length():
    assert len(fit(data=DataLoader(Stream(), 10)).losses) == 8
    with pytest.raises(UserError, match="epoch 1 has fewer batches than the first, which had 4"):
        fit(data=DataLoader(Stream(fewer=20), 10))


# refused in one line


X, Y = torch.randn(50, 1, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 10


class Pair(LeNet):
    """A network whose forward gives its inputs as well."""

    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": lambda o, t: F.cross_entropy(o, t)}, r"the loss is a tensor \(\) for 2 samples"),
        ({"loss": lambda o, t: 1.0}, "the loss is of type float for 2 samples"),
        ({"loss": 3}, "the loss is of type int"),
        ({"metric": lambda o, t: o.mean()}, r"the metric is a tensor \(\) for 2 samples"),
        ({"held_out": None}, "held_out is missing: .*random_split"),
        ({"held_out": "test"}, "held-out part: it is of type str; give a pair"),
        ({"data": [X, Y, Y]}, "training part: it is of type list, with 3 parts; give a pair"),
        ({"data": (X, Y[:-1])}, "training part: 50 inputs and 49 targets"),
        ({"data": (X.byte(), Y)}, "inputs are torch.uint8; give floats"),
        ({"data": (X * np.nan, Y)}, "values are not finite"),
        ({"data": (X, Y - 1)}, "class labels are"),
        (
            {"data": (X, Y + 5), "held_out": (X, Y + 5), "batch": 10},
            "class labels go from 5 to 14, but the network has 10 outputs; labels count from 0: subtract 5",
        ),
        ({"held_out": (X, Y + 1)}, "class labels go from 0 to 10, but the network has 10 outputs; give it more"),
        ({"kind": lambda: made(LeNet).half()}, "conv1.weight is torch.float16; give it in float32"),
        ({"kind": lambda: made(LeNet).double()}, "conv1.weight is torch.float64; give it in float32"),
        ({"kind": Pair}, "the network's forward gives tuple; one tensor"),
        ({"callbacks": nl.callbacks.EarlyStopping(2)}, "callbacks is of type EarlyStopping: give a list"),
        ({"callbacks": [print]}, "a callback is of type builtin_function_or_method: give objects"),
        ({"callbacks": [nl.callbacks.Callback]}, "a callback is the class Callback: give objects"),
        ({"data": (X, Y.float())}, "class labels in one part and numbers in the other"),
        ({"data": (X[:, :, :9], Y), "batch": 10}, "network, loss and data do not fit: inputs"),
        ({"data": DataLoader(TensorDataset(X), 10)}, "training loader: a batch is of type list, with 1 parts"),
        ({"data": DataLoader(TensorDataset(X[:0], Y[:0]), 10)}, "training loader: it is empty"),
        ({"data": shifted(1, persistent_workers=True)}, "persistent_workers=True"),
        ({"data": (X, Y), "batch": 51}, "batch 51 is more than the 50 training samples"),
        ({"data": WHOLE}, "has its loss, metric and held-out part"),
        ({"optimizer": "adamm"}, "did you mean"),
        ({"optimizer": torch.optim.SGD(made(LeNet).parameters(), 0.1)}, "optimizer of type SGD: give a name"),
        ({"optimizer": lambda p: torch.optim.SGD(made(LeNet).parameters(), 0.1)}, "other parameters than those it was"),
        ({"optimizer": lambda p: torch.optim.LBFGS(p)}, "evaluates the loss several times"),
        ({"schedule": "StepLR"}, "step_size"),
        (
            {"schedule": StepLR},
            r'^schedule StepLR: missing a required argument: .step_size.; give .*"StepLR,step_size=10"',
        ),
        ({"schedule": StepLR(torch.optim.SGD(made(LeNet).parameters(), 0.1), 1)}, "^schedule of type StepLR: give"),
        ({"schedule": lambda optimizer: None}, "^schedule: the function gives NoneType; give"),
        (
            {"schedule": lambda optimizer: StepLR(torch.optim.SGD(made(LeNet).parameters(), 0.1), 1)},
            "^schedule: the scheduler is of another optimizer",
        ),
        ({"rule": "anpp"}, "unknown rule"),
        ({"profile": "pcm"}, "unknown profile"),
        ({"rule": "wp"}, "needs"),
        ({"rule": nl.rules.ANP}, r"the rule is the class ANP: give a rule, nl.rules.ANP\(\), or its name, 'anp'"),
        ({"decorrelation_rate": 0.1}, "decorrelation_rate goes with a decorrelated rule"),
        ({"epochs": 0}, "epochs 0: give a whole number, at least 1"),
        ({"epochs": 2.5}, "epochs 2.5: give a whole number"),
        ({"seed": "0"}, "seed '0': give a whole number"),
        ({"lr": "0.01"}, "lr '0.01': give a positive number"),
        ({"device": "tpu"}, "choose auto, cpu or cuda"),
        ({"name": "a/b"}, "task name 'a/b': give letters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_in_one_line(changes, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        fit(tmp_path, **changes)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_rule_by_its_name_with_d_decorrelates(tmp_path):
    by_name = fit(tmp_path, rule="DANP", decorrelation_rate=1e-3, seed=2, epochs=1)
    assert by_name.file.name.startswith(f"own-danp-{PCM}-seed2-")
    by_hand = nl.fit(nl.decorrelate(made(LeNet), 1e-3), shifted(), nn.CrossEntropyLoss, PCM, "anp",
                     held_out=Images("test", 60), epochs=1, lr=1e-2, seed=2)  # fmt: skip
    assert by_name.losses == by_hand.losses


@pytest.mark.parametrize(("model", "what"), [(nn.Linear, "the class Linear"), (3, "of type int")])
def test_what_is_no_network_is_refused(model, what):
    with pytest.raises(UserError, match=f"the model is {what}: give a torch.nn.Module"):
        nl.fit(model, (X, Y), None, PCM, "lf", held_out=(X, Y))


def test_runs_are_rows_of_a_report(tmp_path):
    for seed, rule in ((0, "lf"), (1, "lf"), (0, "bp")):
        fit(tmp_path, rule=rule, seed=seed, epochs=1, kind=lambda seed=seed: seeded(seed))
    found = rows_of(scan([tmp_path])[0])
    rows = found.comparisons["own"]
    assert {row.rule: len(row.runs) for row in rows} == {"bp": 1, "lf": 2}
    page = runs_page(found.comparisons)
    assert "a run of nl.fit in Python, with seed 1" in page
    tree = dict(next(iter(scan([tmp_path])[0].values())))
    tree["config"] = tree["config"].replace('"network"', '"other"')
    assert "lack network" in rows_of({tmp_path: tree}).unread[tmp_path]


def test_other_commands_say_what_such_a_run_is(tmp_path):
    path = fit(tmp_path, epochs=1).file
    with pytest.raises(
        UserError, match=r"a run of nl\.fit, whose network and data are in no configuration.*to_lava_net"
    ):
        trained_run(path)


def test_nothing_is_written_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fit(epochs=1).file is None
    assert os.listdir() == []
