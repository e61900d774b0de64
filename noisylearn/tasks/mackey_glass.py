"""The Mackey-Glass series: a chaotic delay equation, to be forecast 15 steps ahead.

    dx/dt = 0.2 x(t - 17) / (1 + x(t - 17)^10) - 0.1 x(t)

Source: Mackey and Glass, Science 197, 1977; the setup of Voelker et al., NeurIPS 2019, as used in [RNN] 3.1.
"""

import os

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.ground.draws import Draws
from noisylearn.tasks.base import Description, Samples
from noisylearn.tasks.sequences import Forecast, checked_length, drawn_parts

TAU = 17
EULER_STEPS = 10  # per sample, of 0.1 each
AHEAD = 15
WASHOUT = 1_000
WARM_UP = 100
N_SEQUENCES, LENGTH = 10, 5_000

DESCRIPTION = Description(
    name="mackey-glass",
    title="Mackey-Glass series, 15 steps ahead, generated",
    notes=(
        "Mackey and Glass 1977, setup of Voelker et al. 2019: tau 17, ten Euler steps of 0.1 per sample, tanh(x - 1) "
        "minus the mean of the training part. The target of step t is the value at step t + 15; the first 100 steps of "
        "a sequence (half of a short one) do not count. 10 sequences of 5,000 steps for training, 10 others held out, "
        "with initial values drawn from the seed; --seq-len divides as many steps into more sequences."
    ),
    in_time=True,
)


def load(
    data_dir: str | os.PathLike[str] | None = None, held_out: str = "test", seed: int = 0, seq_len: int = LENGTH
) -> Forecast:
    """Generate the task: inputs (n, seq_len, 1) and targets (n, seq_len, 1), with n seq_len about 50,000.

    Args:
        data_dir: not used.
        held_out: "test" or "validation".
        seed: of the initial values.
        seq_len: steps of a sequence.

    Returns:
        The task.

    Raises:
        UserError: sequences have fewer than 2 steps, or `held_out` is unknown.
    """
    n = max(N_SEQUENCES, N_SEQUENCES * LENGTH // checked_length(DESCRIPTION.name, seq_len))
    draws = Draws(seed)

    def draw(part: str, n: int) -> Samples:
        history = 0.5 + draws.uniform(("mackey-glass", part), (n,))
        series = torch.tanh(mackey_glass(history, seq_len + AHEAD) - 1.0).unsqueeze(2)
        return series[:, :seq_len], series[:, AHEAD:]

    train, test = drawn_parts(held_out, draw, n, n)
    mean = train[0].mean()
    train, test = ((inputs - mean, targets - mean) for inputs, targets in (train, test))
    return Forecast(DESCRIPTION, held_out, *train, *test, n_outputs=1, warm_up=min(WARM_UP, seq_len // 2))


def mackey_glass(history: Float[Tensor, " n"], n_samples: int) -> Float[Tensor, "n {n_samples}"]:
    """Integrate the equation from constant histories, and drop the first 1,000 samples.

    Args:
        history: x(t) of every series for t <= 0.
        n_samples: samples to return, one per unit of time.

    Returns:
        The series.
    """
    past = np.repeat(history.double().numpy()[None], TAU * EULER_STEPS, axis=0)  # a ring of x(t - tau) .. x(t - dt)
    x = past[0].copy()
    series = np.empty((WASHOUT + n_samples, len(x)))
    for sample in range(len(series)):
        for step in range(sample * EULER_STEPS, (sample + 1) * EULER_STEPS):
            place = step % len(past)
            delayed = past[place].copy()
            past[place] = x
            x = x + (0.2 * delayed / (1.0 + delayed**10) - 0.1 * x) / EULER_STEPS
        series[sample] = x
    return torch.tensor(series[WASHOUT:].T, dtype=torch.float32)
