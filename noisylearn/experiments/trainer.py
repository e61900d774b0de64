"""A network in training on a chip: steps, measurements, guards, and all state for a checkpoint."""

import copy
import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from noisylearn import tasks
from noisylearn.chips.readings import Plan
from noisylearn.chips.simulated import Chip
from noisylearn.distributed import Ranks
from noisylearn.experiments.run_facts import AFTER_A_DAY, AT_ONCE, COMPENSATED, HELD_OUT
from noisylearn.experiments.schedules import Scheduled
from noisylearn.experiments.setup import Setup
from noisylearn.ground.errors import RunawayError, UserError, shortened
from noisylearn.ground.tree_file import Tree, tensors
from noisylearn.networks.decorrelation import decorrelations
from noisylearn.networks.norms import NeuronNorms
from noisylearn.rules import BP, Learner
from noisylearn.rules.guard import weight_norms
from noisylearn.rules.in_time import InTime
from noisylearn.rules.sequences import Sequences
from noisylearn.rules.sharing import Send

DAY_S = 86_400.0
RUNAWAY_FACTOR = 100.0
CALIBRATION_SAMPLES = 500
LOOK_STEPS = 200  # of a sequence, where all of it would take long


@dataclass
class Progress:
    """How far a run is, and what it has measured.

    Args:
        step: steps done.
        wall_s: seconds of training, without measurements.
        step_loss: loss of every step.
        epoch: name of a measurement -> its value after every epoch.
    """

    step: int = 0
    wall_s: float = 0.0
    step_loss: list[float] = field(default_factory=list)
    epoch: dict[str, list[float]] = field(default_factory=dict)

    def record_epoch(self, measured: dict[str, float]) -> None:
        """Append the measurements of an epoch."""
        for key, value in measured.items():
            self.epoch.setdefault(key, []).append(value)


class Trainer:
    """A network in training on a chip: one step at a time, with all its state.

    Args:
        setup: network, machine, data, and how it learns.
        ranks: the processes that share the run. Each has all of this state, the same on all of them; estimates alone
            are shared.
        send: what they send each other, see `noisylearn.rules.sharing.share_of`.

    Raises:
        UserError: the network does not fit the data, or the rule cannot learn on the profile, or not on several
            processes.
    """

    def __init__(self, setup: Setup, ranks: Ranks | None = None, send: Send = "gradients") -> None:
        self.setup, self.task, self.ranks, self.rule = setup, setup.task, ranks or Ranks(), setup.rule
        self.model = setup.model
        self.chip = Chip(self.model, setup.profile, setup.seed, kernels=setup.kernels)
        self.learner = Learner(
            self.rule, self.chip, weight_norms(self.chip.layers), "", self.ranks, setup.batch_parts, send
        )
        self.steps_per_epoch = setup.batches.steps_per_epoch
        self.total_steps = self.steps_per_epoch * setup.epochs
        self.optimizer = setup.optimizer(list(self.model.parameters()))
        self.schedule = Scheduled(setup.schedule, self.optimizer, self.total_steps)
        self.decorrelation_rates = {name: layer.rate for name, layer in decorrelations(self.model).items()}
        self.norms = NeuronNorms(self.model) if setup.weight_normalisation else None
        self.progress = Progress()
        self.is_whole = True  # between two steps; otherwise an error has left the state in the middle of one
        self.programs_every_step = self.rule.on_chip or self.chip.profile.in_place is not None
        self._calibrate()

    def step(self) -> float:
        """Train on one batch: estimate, optimizer step, programming.

        Returns:
            Mean loss of the reference pass.

        Raises:
            RunawayError: the loss is not finite, or a weight norm diverges.
        """
        inputs, targets = self.setup.batches.batch(self.progress.step)
        self.is_whole = False
        self._follow_schedule()
        loss = self._learn(inputs, targets)
        if self.norms is not None:
            self.norms.restore()
        self._guard_norms()
        if self.programs_every_step and self.rule.in_time().update == "sequence":
            self.chip.program()
        self.schedule.after_step()
        self.progress.step += 1
        self.progress.step_loss.append(loss)
        self.is_whole = self.progress.step % self.steps_per_epoch > 0  # otherwise once the epoch is measured
        return loss

    def _learn(self, inputs: Tensor, targets: Tensor) -> float:
        """Estimate and optimizer step for a batch, or for every time step with online updates."""
        steps = self.task.steps(inputs, targets)
        self.learner.where = self._where
        losses = self.learner.run(
            steps.inputs, steps.targets, self.task.loss_fn, self.optimizer, steps.mask, steps.in_time
        )
        if self.rule.in_time().update == "sequence":
            self.optimizer.step()
        counts = steps.counts
        return float((losses * counts.sum(1)).sum() / counts.sum())

    def end_epoch(self) -> None:
        """Measure the held-out scores on the chip, mean loss, alignment, noise and decorrelation loss.

        Raises:
            RunawayError: the state is not finite.
        """
        if not self.programs_every_step:
            self.chip.program()
        self._calibrate()
        self._guard_state(_copied(self._state()))
        losses = self.progress.step_loss[-self.steps_per_epoch :]
        measured = {"train_loss": sum(losses) / len(losses)}
        scores = self.evaluate()
        if all(math.isfinite(score) for before in self.scores() for score in before.values()):  # else it was said
            _warn_of(scores, f"after epoch {self.progress.step // self.steps_per_epoch} of {self.setup.epochs}")
        measured |= {f"{HELD_OUT}{name}": score for name, score in scores.items()}
        measured |= self._alignment() if self.rule.perturbs else {}
        measured |= self.rule.measures(self.learner.state)
        for name, layer in decorrelations(self.model).items():
            measured[f"decorrelation_loss_{name}"] = float(layer.covariance_loss)
        self.progress.record_epoch(measured)
        self.schedule.after_epoch(self.task.selection(self.scores()[-1]))
        self.is_whole = True

    def _calibrate(self) -> None:
        """Calibrate converters on the first samples, at the start and after every epoch."""
        steps = self._samples(self.setup.batch if self.task.description.in_time else CALIBRATION_SAMPLES)
        self.chip.calibrate(steps.first(LOOK_STEPS).segment)

    def _samples(self, number: int) -> tasks.Steps:
        """The first samples of the training part, to calibrate with and to look at."""
        inputs, targets = (part[:number] for part in (self.task.train_inputs, self.task.train_targets))
        return self.task.steps(inputs.to(self.setup.device), targets.to(self.setup.device))

    def evaluate(self) -> dict[str, float]:
        """Mean scores over the held-out part, with one read of the chip per sample.

        Returns:
            Name of a score -> mean; the task's metric first.
        """
        totals: dict[str, float] = {}
        for inputs, targets in zip(self.task.test_inputs.split(1000), self.task.test_targets.split(1000), strict=True):
            for name, scores in self._scores(inputs.to(self.setup.device), targets.to(self.setup.device)).items():
                totals[name] = totals.get(name, 0.0) + float(scores.double().sum())
        return {name: total / len(self.task.test_inputs) for name, total in totals.items()}

    def scores(self) -> list[dict[str, float]]:
        """The held-out scores after every epoch: name -> score."""
        curves = {
            key.removeprefix(HELD_OUT): curve for key, curve in self.progress.epoch.items() if key.startswith(HELD_OUT)
        }
        return [dict(zip(curves, values, strict=True)) for values in zip(*curves.values(), strict=True)]

    def _scores(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        steps = self.task.steps(inputs, targets)
        return self.task.scores(self.chip.follow(steps.segment), steps)

    def checkpoint(self) -> Tree:
        """All state of the training, copied to numpy; with several processes, called by all of them.

        Raises:
            RunawayError: it is not finite.
            UserError: it is not the same on all processes.
        """
        self._take_streams_of_all()
        state = _copied(self._state())
        self._guard_state(state)
        if self.ranks.count > 1 and len(set(self.ranks.gathered(_digest(state)))) > 1:
            raise UserError(
                f"after step {self.progress.step} the processes no longer have the same weights, as where processors "
                "or versions of libraries differ and round in other ways: run all processes on machines of one kind"
            )
        return {"checkpoint": state, **self._measured()}

    def _take_streams_of_all(self) -> None:
        """Let every process count the calls of all streams: each has drawn the numbers of its own passes."""
        if self.ranks.count > 1:
            states = self.ranks.gathered(self.chip.draws.state())
            keys = dict.fromkeys(key for state in states for key in state)
            own = {key: torch.stack([state[key] for state in states if key in state]).max() for key in keys}
            self.chip.draws.load_state(own)

    def _state(self) -> Tree:
        return {
            "model": self.model.state_dict(),
            "optimizer": _of_tensors(self.optimizer),
            "chip": {key.replace("/", "|"): value for key, value in self.chip.state().items()},
            "norms": self.norms.norms if self.norms is not None else {},
            "rule": self.learner.state,
        }

    def load(self, tree: Tree) -> None:
        """Continue from a checkpoint.

        Args:
            tree: contents of a run file, as `checkpoint` gave them.

        Raises:
            UserError: the checkpoint does not fit this run.
        """
        state = tensors(tree["checkpoint"])
        metrics = tree["metrics"]
        try:
            self._check_progress(tree["step"], metrics["epoch"])
            self._check_state(state, tree["step"])
            self.chip.load_state({key.replace("|", "/", 1): value for key, value in state["chip"].items()})
        except ValueError as error:
            raise UserError(f"checkpoint does not fit this run ({error}); remove the run file to start anew") from None
        self.model.load_state_dict(state["model"])
        full = self.optimizer.state_dict()
        full["state"] = {int(i): values for i, values in state["optimizer"].items()}
        self.optimizer.load_state_dict(full)
        self.learner.state = state["rule"]
        if self.norms is not None:
            self.norms.norms = {name: norm.to(self.setup.device) for name, norm in state["norms"].items()}
        self.progress = Progress(
            tree["step"],
            float(tree["wall_s"]),
            metrics["step"]["loss"].tolist(),
            {key: values.tolist() for key, values in metrics["epoch"].items()},
        )
        self.schedule.replay(self.progress.step, [self.task.selection(scores) for scores in self.scores()])

    def _check_progress(self, step: int, curves: Mapping[str, np.ndarray]) -> None:
        """Raises ValueError for a step that this run does not have, or epochs that do not belong to it."""
        epochs = step // self.steps_per_epoch
        if step > self.total_steps:
            raise ValueError(f"step {step} of {self.total_steps}")
        for key, curve in curves.items():
            if len(curve) > epochs or (len(curve) < epochs and key.startswith(HELD_OUT)):
                raise ValueError(f"{len(curve)} values of {shortened(key)} in {epochs} epochs")

    def _check_state(self, state: Tree, step: int) -> None:
        """Raises ValueError for a checkpoint of another network, mapping, rule or optimizer."""
        self.chip.weights()  # programs the devices, so that all of their state exists
        own = self._state() | {"optimizer": self._optimizer_state() if step else {}}
        at_start, given = _forms(own), _forms(state)
        expected = _forms(own | {"rule": self._memory_after(state.get("rule", {}))})
        for place in dict.fromkeys([*expected, *given]):
            found, wanted = given.get(place), expected.get(place)
            of_passes = place[0] == "chip" and ("draws" in place or "." in place[-1])
            learned_later = place[0] == "rule" and found is None and place not in at_start
            if found != wanted and not learned_later and not (of_passes and None in (found, wanted)):
                name = shortened(" ".join(place))
                raise ValueError(f"{name} is {found or 'missing'}, not {wanted or 'there in this run'}")
        if missing := {"model", "chip", "optimizer", "norms", "rule"} - set(state):
            raise ValueError(f"{', '.join(sorted(missing))} missing")

    def _memory_after(self, memory: Tree) -> Tree:
        """What the rule remembers one step after this memory, which has the same form; a run like this one takes it.

        Raises:
            ValueError: there is no step from it.
        """
        if _forms(memory) == _forms(self.learner.state):
            return memory
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were given for this run
            other = Trainer(replace(self.setup, model=copy.deepcopy(self.model)))
            try:
                other.learner.state = memory
                other.step()
            except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, UserError):
                raise ValueError("no step leads from what the rule remembers") from None
        return other.learner.state

    def _optimizer_state(self) -> Tree:
        """State of this run's optimizer after a first step, taken by copies of the parameters."""
        copies = [torch.zeros_like(parameter) for parameter in self.model.parameters()]
        for one, parameter in zip(copies, self.model.parameters(), strict=True):
            one.grad = torch.zeros_like(one) if parameter.requires_grad else None
        optimizer = self.setup.optimizer(copies)  # type: ignore[arg-type]
        optimizer.step()
        return _of_tensors(optimizer)

    def finish(self) -> Tree:
        """Results of a finished run; the chip is then as it was before the day of drift.

        Returns:
            Metrics, weights, baselines, and the scores immediately after programming and after a day of drift, without
            and with compensation.
        """
        scores = self.scores()[-1]
        final = {f"{name}{AT_ONCE}": score for name, score in scores.items()}
        on_chip = self.chip.weights()
        if any(e.lifetime == "memory" for e in self.chip.profile.calibration.effects):
            before = copy.deepcopy(self.chip.state())
            self.chip.advance(DAY_S)
            for when in (AFTER_A_DAY, COMPENSATED):
                drifted = self.evaluate()
                _warn_of(drifted, "after a day of drift")
                final |= {f"{name}{when}": score for name, score in drifted.items()}
                self.chip.compensate_drift()
            self.chip.load_state(before)
        epochs = self.progress.step // self.steps_per_epoch
        passes = self.rule.forward_passes(len(self.chip.layers)) * epochs
        final |= {
            "forward_passes_over_data": passes,
            "backward_passes_over_data": self.rule.backward_passes() * epochs,
            "weight_updates": self.progress.step * self._updates_per_batch(),
        }
        weights = {"digital": self.model.state_dict(), "on_chip": on_chip}
        return {
            "final": final,
            "weights": _copied(weights),
            "baselines": self.task.baselines,
            "selection": self.task.selection(scores),
            **self._measured(),
        }

    def _updates_per_batch(self) -> int:
        """Optimizer steps per batch: one, or with online updates one for every segment that counts."""
        time = self.rule.in_time()
        if time.update == "sequence":
            return 1
        return sum(self._sequences(self._samples(self.setup.batch), time).counting())

    def _measured(self) -> Tree:
        done = self.progress
        metrics = {
            "step": {"loss": list(done.step_loss)},
            "epoch": {k: list(v) for k, v in done.epoch.items()},
        }
        return {"metrics": metrics, "step": done.step, "wall_s": done.wall_s}

    def _follow_schedule(self) -> None:
        """Let decorrelation follow the schedule of the learning rate, so that weights can follow R."""
        for name, layer in decorrelations(self.model).items():
            layer.rate = self.decorrelation_rates[name] * self.schedule.share

    def _alignment(self) -> dict[str, float]:
        """Quality of the estimate and noise in every layer, on a fixed batch with random streams of its own.

        alignment: cosine of the estimate with the gradient by autograd at the weights read once on the devices.
        noise_to_signal: standard deviation of the pre-activations of one pass over their root mean square.
        """
        steps = self._samples(self.setup.batch).last(LOOK_STEPS)
        time = replace(self.rule.in_time(), update="sequence", truncate=None)
        exact = Learner(BP(forward="chip"), self.chip)
        estimate, true = (
            learner.look(*(seen for _, seen in self._sequences(steps, time).segments(self.chip))).gradients
            for learner in (self.learner, exact)
        )
        plan = Plan(((True,) * len(self.chip.layers),) * 2)
        pair = self.chip.passes(steps.segment, plan, purpose="measure")
        measured = {}
        for name in self.chip.layers:
            ours, theirs = (gradients[name]["weight"].flatten() for gradients in (estimate, true))
            measured[f"alignment_{name}"] = float(F.cosine_similarity(ours, theirs, dim=0))
            first, second = pair.layers[name].activity
            noise, signal = (first - second).norm() / math.sqrt(2), (first + second).norm() / 2
            measured[f"noise_to_signal_{name}"] = float(noise / signal)
        return measured

    def _sequences(self, steps: tasks.Steps, time: InTime) -> Sequences:
        """Steps for a rule that handles sequences like this, with random streams apart from those of training."""
        counts = steps.counts
        return Sequences(steps.inputs, steps.targets, counts, self.task.loss_fn, time, steps.in_time, "measure")

    def _guard_state(self, state: Tree) -> None:
        """Raises RunawayError unless parameters, decorrelations, devices and optimizer are finite."""
        names = [name for name, _ in self.model.named_parameters()]
        for place, array in _leaves(state):
            if place[-1].endswith("covariance_loss") or np.isfinite(array).all():
                continue
            what = f"the optimizer's {place[2]} of {names[int(place[1])]}" if place[0] == "optimizer" else place[-1]
            raise RunawayError(f"{what} is not finite after step {self.progress.step} of {self.total_steps}")

    def _guard_norms(self) -> None:
        for name, norm in weight_norms(self.chip.layers).items():
            limit = RUNAWAY_FACTOR * max(self.learner.norms_before[name], 1.0)
            if not norm <= limit:
                what = f"the weight norm of layer '{name}' ran away ({norm:.3g}, limit {limit:.3g})"
                raise RunawayError(f"{what}{self._where}")

    @property
    def _where(self) -> str:
        return f" at step {self.progress.step + 1} of {self.total_steps}"


def _warn_of(scores: Mapping[str, float], when: str) -> None:
    """Warn of scores that are not finite, where the weights are: then the training has not run away."""
    for name, score in scores.items():
        if not math.isfinite(score):
            warnings.warn(
                f"the held-out {name} is {score:g} {when}: some sample has no finite score, see where {name} divides "
                "by zero or takes the logarithm of it (the weights are finite)",
                stacklevel=3,
            )


def _leaves(tree: Mapping[str, Any], *place: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(place, array) of everything in a tree of arrays."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, *place, key)
        else:
            yield (*place, key), value


def _forms(state: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
    """Place of every tensor in a tree -> its type and shape, in words."""
    return {place: f"{tensor.dtype} {tuple(tensor.shape)}" for place, tensor in _leaves(state)}


def _of_tensors(optimizer: torch.optim.Optimizer) -> Tree:
    """The tensors of an optimizer's state, by the number of the parameter."""
    state = optimizer.state_dict()["state"]
    return {str(i): {k: v for k, v in of.items() if isinstance(v, Tensor)} for i, of in state.items()}


def _digest(tree: Tree) -> str:
    """Hash of all arrays of a tree, in order."""
    digest = hashlib.sha256()
    for place, array in _leaves(tree):
        digest.update(f"{place}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _copied(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.detach().cpu().numpy().copy()
    return {key: _copied(value) for key, value in tree.items()}
