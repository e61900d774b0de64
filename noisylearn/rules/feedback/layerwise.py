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

so that nothing learned grows stale. V_l starts from nothing, and takes in what the devices made of the updates. Where
devices are programmed with the weights, errors of one update do not add to those of the next, V_l hardly changes, and
after the first steps every fourth is learned from. Pulsed devices add up what they make of every update: there, and
where the noise alone teaches, all steps are; and as a pulse may miss by more than it moves, a Kalman filter takes the
place of the regression, which knows that the other weights are still what they were.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisylearn.chips.crossbar import Digital
from noisylearn.chips.interface import AnyChip, Memory, Placed
from noisylearn.networks.decorrelation import Patches
from noisylearn.networks.layers import WeightLayer, apply_weights, input_vjp, weight_vjp
from noisylearn.profiles import Machine
from noisylearn.rules.estimate import Baseline, reference
from noisylearn.rules.feedback.direct import differences
from noisylearn.rules.feedback.regression import Regression, followed, lms_sums
from noisylearn.rules.feedback.window import Window

Excitation = Literal["noise", "activity"]
INPUTS_PER_ROW, LEAST_ROWS = 4, 100  # of what a step learns from, where activities move the inputs
LEARNED_AT_FIRST = 100  # steps, each of which is learned from
LEARNED_EVERY = 4  # steps after that, where devices are programmed with weights that are known
FILTERED_ROWS = 32  # of what a step learns from by a Kalman filter, which forgets nothing and costs more for each


def shown(
    memory: Memory,
    window: Window,
    regression: Regression,
    baseline: Baseline,
    excitation: Excitation = "noise",
    sent: Mapping[str, Tensor] | None = None,
    every: int = 1,
    alone: bool = True,
) -> Memory:
    """Sums over the rows of a window that `learned` learns from, by layer; those of several places are added before.

    Layers whose inputs are the same in all passes have none, unless they had others before.

    Args:
        memory: learned weights so far, by layer. It is not changed.
        window: its readings; those of its segment are learned from.
        regression: how; convolutions other than plain two-dimensional ones by LMS.
        baseline: of the rule.
        excitation: what moves the inputs.
        sent: sum of all updates so far by layer, to follow them; None to do without.
        every: which step is learned from after the first.
        alone: whether no sums of other places are added, so that what is the same here is the same in all.
    """
    found, now = {}, slice(window.n_rows - window.n_rows_now, None)
    for name, reading in window.readings.layers.items():
        state, moved = memory.get(name, {}), None if sent is None else _as_learned(reading.layer, sent[name])
        inputs, activity = reading.input[:, now], reading.activity[:, now]
        moves = bool(state) or (len(inputs) > 1 and bool(differences(inputs, baseline).any()))
        if (moves or (len(inputs) > 1 and not alone)) and _is_due(state, every):
            sums = _sums_of_layer(state, inputs, activity, reading.layer, regression, baseline, excitation, moved)
            found[name] = {"sums": sums, "moves": activity.new_tensor(float(moves))}
    return found


def learned(
    memory: Memory,
    shown: Memory,
    window: Window,
    regression: Regression,
    sent: Mapping[str, Tensor] | None = None,
) -> Memory:
    """Weights of all layers after a window, as "coefficients" of each, in the shape of the weight or as a matrix.

    Args:
        memory: those before, by layer. It is not changed.
        shown: what the window shows of some layers, see `shown`; the others follow what was sent alone.
        window: names the layers.
        regression: how.
        sent: sum of all updates so far by layer, to follow them; None to do without.
    """
    kept = {}
    for name, reading in window.readings.layers.items():
        state, moved = memory.get(name, {}), None if sent is None else _as_learned(reading.layer, sent[name])
        if name in shown and bool(shown[name]["moves"]):
            kept[name] = regression.taught(state, shown[name]["sums"], moved) | {"waited": torch.tensor(0)}
        elif state:
            kept[name] = followed(state, moved) | {"waited": state["waited"] + 1}
    return kept


def learned_every(profile: Machine) -> int:
    """Which step to learn from after the first, where activities move the inputs and updates are followed.

    Every fourth on simulated devices that are programmed with weights that are kept digitally; of other chips nothing
    is known.

    Args:
        profile: of the chip.
    """
    return LEARNED_EVERY if getattr(profile, "in_place", profile) is None else 1


def suited(regression: Regression, profile: Machine) -> Regression:
    """A regression of weights whose updates are followed, for what a machine makes of those.

    Args:
        regression: the method "auto" becomes a Kalman filter on simulated devices that are pulsed.
        profile: of the chip.
    """
    return replace(regression, errors_stay=getattr(profile, "in_place", None) is not None)


def followed_weights(memory: Memory, window: Window, sent: Mapping[str, Tensor]) -> Memory:
    """Learned weights as they are now, before the window is learned from: moved by the updates since.

    Args:
        memory: learned weights by layer. It is not changed.
        window: names the layers.
        sent: sum of all updates so far by layer.
    """
    layers = window.readings.layers
    return {name: followed(state, _as_learned(layers[name].layer, sent[name])) for name, state in memory.items()}


def _is_due(state: Memory, every: int) -> bool:
    return not state or int(state["step"]) < LEARNED_AT_FIRST or int(state["waited"]) + 1 >= every


def _sums_of_layer(
    state: Memory,
    inputs: Tensor,
    activity: Tensor,
    layer: WeightLayer,
    regression: Regression,
    baseline: Baseline,
    excitation: Excitation,
    sent: Tensor | None,
) -> Memory:
    """What is to be learned of one layer.

    LMS takes noise and activities in turn, lest the larger ones drown the noise.
    """
    if not _is_by_rows(layer):
        return _sums_of_kernel(state, differences(inputs, baseline), differences(activity, baseline), layer, sent)
    kinds: list[Excitation] = ["noise", "activity"] if excitation == "activity" else ["noise"]
    n_in = layer.weight[0].numel()
    method = regression.method_of(n_in, state)
    if method == "lms":
        kinds = [kinds[int(state.get("step", 0)) % len(kinds)]]
    enough = FILTERED_ROWS if method == "kalman" else max(n_in // INPUTS_PER_ROW, LEAST_ROWS)
    spacing = _spacing(layer, activity, enough) if excitation == "activity" else 1
    pairs = [_rows(layer, *(_changes(v, baseline, kind, spacing) for v in (inputs, activity))) for kind in kinds]
    x, a = (torch.cat(rows) for rows in zip(*pairs, strict=True))
    return regression.sums(state, x, a, sent)


def _spacing(layer: WeightLayer, activity: Tensor, enough: int) -> int:
    """Every which sample to learn from: activities tell the weights from far fewer rows than a batch has."""
    n_rows = activity[0].numel() // layer.weight.shape[0]
    return min(max(1, n_rows // enough), activity.shape[1])


def _changes(passes: Tensor, baseline: Baseline, kind: Excitation, spacing: int) -> Tensor:
    """Differences of the passes, or deviations of the samples from their mean, of every so many samples.

    Deviations are 0 where they are rounding alone, as of samples that are all the same.
    """
    if kind == "noise":
        return differences(passes[:, ::spacing], baseline)
    values = reference(passes, baseline)
    some = values[::spacing]
    deviations = some - values.mean(0)
    return deviations * (deviations.square().sum() > torch.finfo(values.dtype).eps * some.square().sum())


def _is_by_rows(layer: WeightLayer) -> bool:
    """Whether a layer is a matrix product of rows: a Linear layer, or a convolution of patches."""
    plain = isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear) or (plain and layer.groups == 1)


def _as_learned(layer: WeightLayer, weight: Tensor) -> Tensor:
    """A weight in the shape in which it is learned: a matrix, where a layer is a product of rows."""
    return weight.flatten(1) if _is_by_rows(layer) else weight


def _rows(layer: WeightLayer, x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and pre-activations as rows, a row for every patch of a convolution."""
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2), a.flatten(0, -2)
    assert isinstance(layer, nn.Conv2d)
    patches = Patches(layer)(x)
    return patches.movedim(1, -1).flatten(0, -2), a.movedim(1, -1).flatten(0, -2)


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
        return layer.weight.new_zeros(()).expand(layer.weight.shape)
    return memory[name]["coefficients"].reshape(layer.weight.shape)


def _sums_of_kernel(state: Memory, dx: Tensor, da: Tensor, layer: WeightLayer, sent: Tensor | None) -> Memory:
    """For LMS of a kernel that all positions share."""
    before = followed(state, sent)["coefficients"] if state else torch.zeros_like(layer.weight)
    missed = da - apply_weights(layer, before, None, dx)
    n_uses = layer.weight[0].numel() * missed[:, :1].numel() / dx.numel()
    return lms_sums(weight_vjp(layer, dx, missed), dx, n_uses)


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
