"""Layerwise feedback: the weights of each layer as its pre-activations show them, and the error back through those.

    W_l = argmin_W E || da_l - W dx_l ||^2,   x_l = the input of the layer

A replay of the reference pass takes the pre-activations that were read, and leads the error at the output back through
the learned weights and the slopes of the neurons: the chain rule, through any connections and back through time, on the
weights as the devices have them. Inputs that are the same in all passes teach nothing about the weights there, and none
are needed: no error has to pass through them.

With excitation "noise" d is the difference of noisy passes. With "activity" the deviation of the reference from the
mean over the batch counts as well: a layer is linear in its input whatever moves it, and samples differ by far more
than passes do.

The weights change while they are learned, by updates that the rule itself has asked for. Where these are followed, the
regression is of what they leave to find: W_l = V_l + M_l with M_l the sum of all updates sent since the first step, and

    V_l = argmin_V E || da_l - M_l dx_l - V dx_l ||^2

so that nothing learned grows stale. V_l starts from nothing, and takes in what the devices made of the updates.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.chips.crossbar import Digital
from noisylearn.chips.interface import AnyChip, Memory, Placed
from noisylearn.chips.readings import LayerReading
from noisylearn.networks.decorrelation import Patches
from noisylearn.networks.layers import WeightLayer, apply_weights, input_vjp, weight_vjp
from noisylearn.rules.estimate import Baseline, reference
from noisylearn.rules.feedback.direct import differences
from noisylearn.rules.feedback.regression import Regression, lms_rate, power
from noisylearn.rules.feedback.window import Window

Excitation = Literal["noise", "activity"]
Pairs = list[tuple[Tensor, Tensor]]  # changes of inputs, with those of the pre-activations
INPUTS_PER_ROW, LEAST_ROWS = 4, 100  # of what a step learns from, where activities move the inputs


def learned(
    memory: Memory,
    window: Window,
    regression: Regression,
    baseline: Baseline,
    excitation: Excitation = "noise",
    sent: Mapping[str, Tensor] | None = None,
) -> Memory:
    """Weights of all layers after a window.

    Args:
        memory: those before, by layer. It is not changed.
        window: its readings; those of its segment are learned from.
        regression: how; convolutions other than plain two-dimensional ones by LMS.
        baseline: of the rule.
        excitation: what moves the inputs.
        sent: sum of all updates so far by layer, to follow them; None to do without.
    """
    kept, now = {}, slice(window.n_rows - window.n_rows_now, None)
    for name, reading in window.readings.layers.items():
        state = memory.get(name, {})
        if len(reading.input) == 1 and not state:
            continue
        pairs = _pairs(reading, now, baseline, excitation)
        if state or bool(pairs[0][0].any()):
            followed = {} if sent is None else _followed(state, sent[name])
            moved = followed.get("moved")
            kept[name] = _of_layer(state, moved, pairs, reading.layer, regression, excitation) | followed
    return kept


def learned_of(state: Memory) -> Tensor:
    """What is learned of a layer's weight, in the shape of the weight or as a matrix.

    Args:
        state: of the layer, of either route.
    """
    coefficients: Tensor = state["coefficients"]
    return coefficients.reshape(state["moved"].shape) + state["moved"] if "moved" in state else coefficients


def _followed(state: Memory, sent: Tensor) -> Memory:
    """Where the updates of a layer were at the first step, and how far they have moved its weight since."""
    start = state["start"] if state else sent.clone()
    return {"start": start, "moved": sent - start}


def _of_layer(
    state: Memory,
    moved: Tensor | None,
    pairs: Pairs,
    layer: WeightLayer,
    regression: Regression,
    excitation: Excitation,
) -> Memory:
    """What is learned of one layer, of its weight less the part that is followed."""
    if not _is_by_rows(layer):
        x, a = pairs[0]
        return _shared(state, x, a if moved is None else a - apply_weights(layer, moved, None, x), layer, regression)
    if excitation == "activity":
        pairs = [_worth_their_time(layer, *pair) for pair in pairs]
    rows = [_rows(layer, *pair) for pair in pairs]
    if moved is not None:
        rows = [(x, torch.addmm(a, x, moved.flatten(1).T, alpha=-1)) for x, a in rows]
    return _by_rows(state, rows, regression)


def _pairs(reading: LayerReading, now: slice, baseline: Baseline, excitation: Excitation) -> Pairs:
    """Changes of the inputs of a layer with those of its pre-activations."""
    inputs, activity = reading.input[:, now], reading.activity[:, now]
    pairs = [(differences(inputs, baseline), differences(activity, baseline))]
    if excitation == "activity":
        pairs.append((_deviations(reference(inputs, baseline)), _deviations(reference(activity, baseline))))
    return pairs


def _deviations(values: Tensor) -> Tensor:
    """Deviations from the mean over the batch; 0 where they are rounding alone, as of samples that are all the same."""
    deviations = values - values.mean(0)
    share = deviations.square().sum() > torch.finfo(values.dtype).eps * values.square().sum()
    return deviations * share


def _by_rows(state: Memory, pairs: Pairs, regression: Regression) -> Memory:
    """Least squares of all rows together; LMS in turn, lest the larger ones drown the noise."""
    if regression.is_lms(pairs[0][0].shape[1]):
        return regression.updated(state, *pairs[int(state.get("step", 0)) % len(pairs)])
    return regression.updated(state, torch.cat([x for x, _ in pairs]), torch.cat([a for _, a in pairs]))


def _is_by_rows(layer: WeightLayer) -> bool:
    """Whether a layer is a matrix product of rows: a Linear layer, or a convolution of patches."""
    plain = isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear) or (plain and layer.groups == 1)


def _rows(layer: WeightLayer, x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and pre-activations as rows, a row for every patch of a convolution."""
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2), a.flatten(0, -2)
    assert isinstance(layer, nn.Conv2d)
    patches = Patches(layer)(x)
    return patches.movedim(1, -1).flatten(0, -2), a.movedim(1, -1).flatten(0, -2)


def _worth_their_time(layer: WeightLayer, x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Some of the samples, evenly spread: activities tell the weights from far fewer rows than a batch has."""
    n_rows = a.numel() // a.shape[1 if isinstance(layer, nn.Conv2d) else -1]
    enough = max(layer.weight[0].numel() // INPUTS_PER_ROW, LEAST_ROWS)
    step = min(max(1, n_rows // enough), len(x))
    return x[::step], a[::step]


def signals(
    memory: Memory, window: Window, chip: AnyChip, error: Float[Tensor, "rows ..."], baseline: Baseline
) -> dict[str, Float[Tensor, "rows ..."]]:
    """Estimates g_l of dL/da for all rows of a window, from the errors of its segment.

    Args:
        memory: learned weights by layer.
        window: its readings.
        chip: its model is replayed.
        error: e of the segment.
        baseline: of the rule.
    """
    layers = window.readings.layers
    read = {n: reference(r.activity, baseline).clone().requires_grad_() for n, r in layers.items()}
    placed: Placed = {n: _Replayed(r.layer, _weight(memory, n, r.layer), read[n]) for n, r in layers.items()}
    with torch.enable_grad():
        output = chip.digital_pass(window.segment, through=placed).output[0]
        now = output[window.n_rows - window.n_rows_now :]
        grads = torch.autograd.grad(now, list(read.values()), error.reshape(now.shape), materialize_grads=True)
    return dict(zip(read, grads, strict=True))


def _weight(memory: Memory, name: str, layer: WeightLayer) -> Tensor:
    if name not in memory:
        return torch.zeros_like(layer.weight)
    return learned_of(memory[name]).reshape(layer.weight.shape)


def _shared(state: Memory, dx: Tensor, da: Tensor, layer: WeightLayer, regression: Regression) -> Memory:
    """LMS of a kernel that all positions share."""
    step = int(state["step"]) if state else 0
    before = state["coefficients"] if state else torch.zeros_like(layer.weight)
    missed = da - apply_weights(layer, before, None, dx)
    n_seen = layer.weight[0].numel() * missed[:, :1].numel() / dx.numel()  # times that an input enters a product
    rate = lms_rate(regression.rate, step) / (power(dx) * n_seen)
    return {"coefficients": before + rate * weight_vjp(layer, dx, missed), "step": torch.tensor(step + 1)}


class _Replayed(Digital):
    """A layer that gives again what was read of it, step after step, differentiable through learned weights.

    Args:
        layer: gives the kind of product.
        weight: the learned one.
        activity: pre-activations of all steps, (rows, ...).
    """

    def __init__(self, layer: WeightLayer, weight: Tensor, activity: Tensor) -> None:
        super().__init__(layer)
        self._weight, self._activity = weight, activity
        self._left: list[Tensor] = []

    def read(self, x: Tensor, n_passes: int, purpose: str) -> Tensor:
        if not self._left:
            self._left = list(self._activity.split(x.shape[1]))[::-1]
        activity: Tensor = _Through.apply(x[0], self._weight, self._left.pop(), self.layer)
        return activity.unsqueeze(0)

    def exact(self) -> None:
        return None


class _Through(torch.autograd.Function):
    """Pre-activations as they were read; backward also through the product of learned weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, activity: Tensor, layer: WeightLayer) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.layer, ctx.shape = layer, x.shape
        return activity.view_as(activity)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor, None]:
        (signal,) = grads
        back = input_vjp(ctx.layer, ctx.saved_tensors[0], ctx.shape, signal) if ctx.needs_input_grad[0] else None
        return back, None, signal, None
