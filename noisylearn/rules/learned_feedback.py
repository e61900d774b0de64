"""Learned feedback: the error at the output reaches every layer through what noisy passes show of the way forward."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from noisylearn.chips.interface import Memory
from noisylearn.ground.errors import UserError
from noisylearn.networks.layers import parameter_gradients
from noisylearn.rules.checks import check_choice, check_count
from noisylearn.rules.estimate import Baseline, Estimate, reference
from noisylearn.rules.feedback import direct, layerwise
from noisylearn.rules.feedback.layerwise import Excitation
from noisylearn.rules.feedback.regression import Method, Regression
from noisylearn.rules.feedback.window import Window, observed
from noisylearn.rules.in_time import OF_SEQUENCES
from noisylearn.rules.observation import Observation
from noisylearn.rules.perturbation import NoisyPasses
from noisylearn.rules.sharing import Way

Route = Literal["direct", "layerwise"]


@dataclass(frozen=True, kw_only=True)
class LearnedFeedback(NoisyPasses):
    """g_l = f'(a_l) * (feedback of the error), where regression on the differences of noisy passes finds the feedback.

        layerwise:  g_l = f'(a_l) * (W_{l+1}^T g_{l+1}),  da_l = W_l dx_{l-1} by regression,  x_l = f(a_l)
        direct:     g_l = f'(a_l) * (B_l^T e),            dy = B_l dx_l by regression

    e = dL/dy is the error at the output, which a teacher knows; the readout learns by the delta rule, g = e. Forward
    passes alone, the noise of the device alone; it needs no knowledge of the noise and no clean pass. It remembers the
    feedback matrices and what they are found from.

    Args:
        route: "direct" regresses the output on the activities of every layer, one step of feedback for all layers;
            "layerwise" regresses the pre-activations of every layer on its inputs, and leads the error back from layer
            to layer, and through time.
        regression: "least-squares" (recursive), "lms" (normalised), or "auto": up to 1024 inputs least squares, or a
            Kalman filter for layerwise feedback that follows the updates of pulsed devices.
        forgetting: factor per step of recursive least squares; of the noise that a Kalman filter finds.
        excitation: of layerwise feedback: "noise", differences of passes alone, or "activity", of samples as well.
        follow_updates: of layerwise feedback: whether the learned weights follow the updates that were sent to the
            devices, as the rule itself asked for them, so that noise has to teach only what these leave to find.
        ridge: factor on the ridge of least squares, which is found from the noise; see `feedback.regression`.
        horizon: steps whose errors are credited to the activities of a step, itself included; layerwise feedback by
            sequence goes through all steps.
        warm_up: steps in which the feedback is learned and the readout alone changes.

    Raises:
        UserError: an option has a value that is not allowed.
    """

    name = "lf"
    title = "learned feedback"
    equation = (
        "layerwise: g_l = f'(a_l) * (W_{l+1}^T g_{l+1}),  da_l = W_l dx_{l-1} by regression;  "
        "direct: g_l = f'(a_l) * (B_l^T e),  dy = B_l dx_l by regression;  e = dL/dy"
    )
    source = (
        "Lansdell, Prakash, Kording, ICLR 2020; Akrout et al., NeurIPS 2019; updates followed: Kolen, Pollack, IEEE "
        "International Conference on Neural Networks 1994"
    )
    observes = frozenset({"input", "activity", "output", "error"})
    scale_free = True
    unbiased = "one layer"
    pools = True
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"draws": (3,)}
    tried_alone = frozenset({"regression", "excitation", "follow_updates"})
    tried_together: ClassVar[tuple[Mapping[str, Any], ...]] = tuple(
        {"route": "direct", "regression": "lms", "baseline": baseline} for baseline in get_args(Baseline)
    )

    route: Route = field(default="layerwise", metadata={"help": "Way of the feedback: direct, or layerwise."})
    regression: Method = field(
        default="auto",
        metadata={"help": "Regression of the feedback: least-squares, lms, or auto (by size and device)."},
    )
    forgetting: float = field(default=0.98, metadata={"help": "Factor per step by which the regression forgets."})
    ridge: float = field(default=1.0, metadata={"help": "Factor on the ridge that the noise calls for."})
    horizon: int = field(default=1, metadata={"help": "For sequences, steps whose errors reach back to a step."})
    excitation: Excitation = field(
        default="activity",
        metadata={"help": "Of layerwise feedback, what moves the inputs: noise, or activity as well."},
    )
    follow_updates: bool = field(
        default=True, metadata={"help": "Of layerwise feedback: learned weights follow the updates that were sent."}
    )
    warm_up: int = field(default=0, metadata={"help": "First steps in which only the readout learns."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, kind in (("route", Route), ("regression", Method), ("excitation", Excitation)):
            check_choice(self.name, name, getattr(self, name), kind)
        if not 0 < self.forgetting <= 1:
            raise UserError(f"rule lf: forgetting {self.forgetting}; give a factor above 0 and at most 1, such as 0.98")
        if not 0 < self.ridge < math.inf:
            raise UserError(f"rule lf: ridge {self.ridge}; give a number above 0, such as 0.01")
        check_count(self.name, horizon=self.horizon)
        check_count(self.name, 0, warm_up=self.warm_up)

    @classmethod
    def idle(cls, options: Mapping[str, Any], in_time: bool) -> dict[str, str]:
        idle = super().idle(options, in_time)
        if not in_time:
            idle["horizon"] = OF_SEQUENCES
        if options.get("route", cls.route) == "direct":
            idle |= dict.fromkeys(("excitation", "follow_updates"), "goes with --route layerwise")
        elif options.get("update") == "sequence":
            idle["horizon"] = "goes with --update online, or --route direct"
        if options.get("regression") == "lms":
            idle |= dict.fromkeys(("forgetting", "ridge"), "goes with least squares")
        return idle

    def terms(self, in_time: bool) -> list[str]:
        return [*super().terms(in_time), f"{self.route} feedback"]

    def measures(self, state: Memory) -> dict[str, float]:
        """Norm of the feedback of every layer."""
        learned = state.get("feedback", {})
        return {f"feedback_norm_{name}": float(of["coefficients"].norm()) for name, of in learned.items()}

    @property
    def divides(self) -> frozenset[Way]:
        """The batch: the feedback is learned from sums over the rows of all parts."""
        return frozenset({"batch"})

    def shows(self, state: Memory, seen: Observation) -> Memory:
        window, _ = observed(state.get("past", {}), seen, self.plan(len(seen.chip.layers)), self.horizon)
        return self._shown(state.get("feedback", {}), window, seen, self._sent(seen), alone=False)

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        plan = self.plan(len(seen.chip.layers))
        window, past = observed(state.get("past", {}), seen, plan, self.horizon)
        readings, n_before = window.readings, window.n_rows - window.n_rows_now
        output = reference(readings.output[:, n_before:], self.baseline)
        error = seen.error(output)
        feedback, sent = state.get("feedback", {}), self._sent(seen)
        shown = self._shown(feedback, window, seen, sent) if seen.shown is None else seen.shown
        if self.route == "direct":
            feedback = direct.learned(feedback, shown, self.of_differences)
        else:
            feedback = layerwise.learned(feedback, shown, window, self.of_differences, sent)
        signals = self._signals(feedback, window, seen, error)
        if state.get("steps", 0) < self.warm_up:
            signals = {n: g if n == readings.last else torch.zeros_like(g) for n, g in signals.items()}
        inputs = {n: reference(r.input, self.baseline) for n, r in readings.layers.items()}
        if n_before:  # gradients are means over the rows of the segment
            signals = {n: g * (window.n_rows / window.n_rows_now) for n, g in signals.items()}
        gradients = {n: parameter_gradients(readings.layers[n].layer, inputs[n], signals[n]) for n in layers}
        now = {n: x[n_before:] for n, x in inputs.items()}
        memory: Memory = {"feedback": feedback} | ({"past": past} if past else {})
        if self.warm_up:
            memory["steps"] = torch.as_tensor(state.get("steps", 0)) + 1
        return Estimate(reference(window.losses, self.baseline).mean(), gradients, now), memory

    @property
    def of_differences(self) -> Regression:
        """How coefficients are found from differences."""
        return Regression(self.regression, self.forgetting, self.ridge)

    def _sent(self, seen: Observation) -> Mapping[str, Tensor] | None:
        """Sum of all updates by layer, where they are followed."""
        return seen.chip.sent() if self.route == "layerwise" and self.follow_updates else None

    def _shown(
        self,
        feedback: Memory,
        window: Window,
        seen: Observation,
        sent: Mapping[str, Tensor] | None,
        alone: bool = True,
    ) -> Memory:
        regression = self.of_differences
        if self.route == "direct":
            layers, transfers = _led_back_to(window), seen.chip.transfers(seen.segment)
            horizon = self.horizon if seen.segment.in_time else 1
            return direct.shown(feedback, window, transfers, layers, regression, horizon, self.baseline)
        seldom = sent is not None and self.excitation == "activity"
        every = layerwise.learned_every(seen.chip.profile) if seldom else 1
        if sent is not None and alone:
            regression = layerwise.suited(regression, seen.chip.profile)
        return layerwise.shown(feedback, window, regression, self.baseline, self.excitation, sent, every, alone)

    def _signals(self, feedback: Memory, window: Window, seen: Observation, error: Tensor) -> dict[str, Tensor]:
        """dL/da; with direct feedback, before the first whole horizon of steps, 0 but for such a readout as needs none.

        Gradients of a readout whose pre-activations are the output are the error.
        """
        if self.route == "layerwise":
            return layerwise.signals(feedback, window, seen.chip, error, self.baseline)
        layers, learning = window.readings.layers, _led_back_to(window)
        signals = {n: torch.zeros_like(reference(layers[n].activity, self.baseline)) for n in learning}
        signals |= direct.signals(feedback, window, seen.chip.transfers(seen.segment), error, self.baseline)
        if len(learning) < len(layers):
            before = error.new_zeros(window.n_rows - window.n_rows_now, *error.shape[1:])
            signals[window.readings.last] = torch.cat([before, error]) if len(before) else error
        return signals


def _led_back_to(window: Window) -> list[str]:
    """Layers that direct feedback has a matrix for: all but a readout whose pre-activations are the output."""
    layers, readout = window.readings.layers, window.readings.last
    is_output = torch.equal(layers[readout].activity, window.readings.output)
    return [name for name in layers if not (is_output and name == readout)]
