"""Control variates: a learned prediction of the loss differences, which leaves the estimate of a rule less to do.

    dL' = dL - sum_l g^_l . xi_l,   g_l = (the rule's estimate from dL') + g^_l

with xi_l the difference that the noise of layer l itself makes to its pre-activations: the noise where it can be read
out, otherwise da_l - W_l dx_l with learned weights W_l, dx_l the difference of its input. g^ is the error at the
output, led back through the same weights (see `layerwise`). The prediction is made before the passes of a step are
learned from, so that it does not depend on their noise. For noise that is independent and of equal variance in all
units, the expectation of NP and INP, and of ANP in one layer, stays what it is, and the variance becomes that for the
gradient g - g^ in place of g, in total 1 - R^2 of it with R^2 = 1 - |g - g^|^2 / |g|^2. In deep networks the bias of
ANP is left on g - g^ alone.

Weights that are learned too small leave noise of earlier layers in xi_l, which is then predicted once more: activities
teach them, as noise would only in very many steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.chips.interface import Memory
from noisylearn.chips.readings import LayerReading
from noisylearn.networks.layers import apply_weights
from noisylearn.rules.estimate import Baseline, reference
from noisylearn.rules.feedback import layerwise
from noisylearn.rules.feedback.regression import Regression
from noisylearn.rules.feedback.window import Window
from noisylearn.rules.observation import Observation

ControlVariate = Literal["none", "error", "loss"]


@dataclass(frozen=True)
class Prediction:
    """What was predicted of one segment.

    Args:
        signals: g^_l by layer, in the shape of the pre-activations of the reference.
        losses: sum_l g^_l . xi_l of every pass.
    """

    signals: Mapping[str, Float[Tensor, "rows ..."]]
    losses: Float[Tensor, "passes rows"]


def predicted(
    kind: ControlVariate, memory: Memory, seen: Observation, window: Window, baseline: Baseline, knows_noise: bool
) -> tuple[Prediction, Memory]:
    """Predict the loss differences of a segment, then learn from it.

    Args:
        kind: "error" takes the error at the output back through learned feedback; "loss" an error that is itself
            predicted, from loss differences alone.
        memory: of the prediction. It is not changed.
        seen: gives the error and the transfer functions.
        window: what the passes over the segment showed.
        baseline: of the rule.
        knows_noise: whether the rule reads out the noise.

    Returns:
        The prediction, and what it remembers from now on.
    """
    layers, outputs, sent = window.readings.layers, window.readings.output, seen.chip.sent()
    before = memory.get("weights", {})
    given = shown(kind, memory, seen, window, baseline) if seen.shown is None else seen.shown
    after: Memory = {"weights": layerwise.learned(before, given["weights"], window, Regression(), sent)}
    weights = layerwise.followed_weights(before, window, sent)
    if kind == "error":
        error = seen.error(reference(outputs, baseline))
    else:
        critic = memory.get("critic", {})
        error, after["critic"] = _expected_error(critic, window, baseline), Regression().taught(critic, given["critic"])
    signals = layerwise.signals(weights, window, seen.chip, error, baseline)
    losses = torch.zeros_like(window.losses)
    for name, signal in signals.items():
        noise = _noise_of(layers[name], weights.get(name), baseline, knows_noise)
        losses = losses + torch.einsum("pbn,bn->pb", noise.flatten(2), signal.flatten(1))
    return Prediction(signals, losses), after


def shown(
    kind: ControlVariate, memory: Memory, seen: Observation, window: Window, baseline: Baseline, alone: bool = True
) -> Memory:
    """Sums over the rows of a segment that a prediction is learned from; those of several places are added before.

    Args:
        kind: as for `predicted`.
        memory: of the prediction. It is not changed.
        seen: gives the updates that were sent.
        window: what the passes over the segment showed.
        baseline: of the rule.
        alone: whether no sums of other places are added.
    """
    before, sent, every = memory.get("weights", {}), seen.chip.sent(), layerwise.learned_every(seen.chip.profile)
    regression = layerwise.suited(Regression(), seen.chip.profile) if alone else Regression()
    found: Memory = {"weights": layerwise.shown(before, window, regression, baseline, "activity", sent, every, alone)}
    if kind == "loss":
        features, moved = _features(window, baseline), _error_as_noise_tells(window, baseline)
        found["critic"] = Regression().sums(memory.get("critic", {}), features, moved)
    return found


def _expected_error(critic: Memory, window: Window, baseline: Baseline) -> Tensor:
    """The error at the output as its noise tells it, regressed on what the readout sees and gives.

        e^ = K phi,   phi = (1, y, inputs of the readout),   K = argmin E || n dL dy / ||dy||^2 - K phi ||^2

    with n outputs, over all passes. n dL dy / ||dy||^2 has the expectation e, and a variance n times its square.
    """
    output = reference(window.readings.output.flatten(2), baseline)
    return _features(window, baseline) @ critic["coefficients"].T if critic else torch.zeros_like(output)


def _features(window: Window, baseline: Baseline) -> Tensor:
    """phi of `_expected_error`."""
    output = reference(window.readings.output.flatten(2), baseline)
    seen = reference(window.readings.layers[window.readings.last].input, baseline)
    return torch.cat([torch.ones_like(output[:, :1]), output, seen.flatten(1)], 1)


def _error_as_noise_tells(window: Window, baseline: Baseline) -> Tensor:
    """Mean of n dL dy / ||dy||^2 over the passes in which the output differs."""
    y = window.readings.output.flatten(2)
    dy, dl = (values - reference(values, baseline) for values in (y, window.losses))
    squares = dy.square().sum(2)
    moved = (dl * y.shape[2] / (squares + (squares == 0))).unsqueeze(2) * dy
    return moved.sum(0) / max(int((squares != 0).any(1).sum()), 1)


def _noise_of(reading: LayerReading, weight: Memory | None, baseline: Baseline, knows_noise: bool) -> Tensor:
    """What the noise of the layer itself changes in its pre-activations, against the reference."""
    if knows_noise:
        assert reading.noise is not None
        return reading.noise - reference(reading.noise, baseline)
    moved = reading.activity - reference(reading.activity, baseline)
    if weight is None:
        return moved
    dx, layer = reading.input - reference(reading.input, baseline), reading.layer
    learned = weight["coefficients"].reshape(layer.weight.shape)
    return moved - apply_weights(layer, learned, None, dx.flatten(0, 1)).reshape(moved.shape)
