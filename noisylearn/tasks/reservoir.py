"""Reservoir computing: an untrained recurrent network with a linear readout, a baseline for trained ones."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.ground.draws import Draws
from noisylearn.tasks.ridge import ridge_predictions

N_UNITS = 300
SPECTRAL_RADIUS = 0.95
BIAS_STD = 0.3
MOST_ROWS = 200_000
PENALTIES = tuple(10.0**k for k in range(-12, 1, 2))


def reservoir_predictions(
    train_inputs: Float[Tensor, "time n_train n_features"],
    train_targets: Float[Tensor, "time n_train n_outputs"],
    inputs: Float[Tensor, "steps batch n_features"],
    warm_up: int = 0,
) -> Float[Tensor, "steps batch n_outputs"]:
    """Predict sequences from the states of a fixed random network, by ridge regression.

        y_t = W (x_t, u_t, 1),   x_t = tanh(A u_t + R x_{t-1} + c)
        A_ij ~ N(0, 1),   R_ij ~ N(0, 0.95^2 / 300),   c_i ~ N(0, 0.3^2)

    There are 300 units, always the same draw. W is fitted to as many of the first training sequences as have 200,000
    steps or fewer in total.

    Args:
        train_inputs: u of the training sequences.
        train_targets: y of the training sequences.
        inputs: u of the sequences to predict.
        warm_up: steps at the start of every training sequence that are left out of the fit.

    Returns:
        Predictions of y.
    """
    n_fit = max(1, MOST_ROWS // len(train_inputs))
    train = reservoir_states(train_inputs[:, :n_fit])
    # by sequence, not by step: the last fifth of the rows, on which the penalty is chosen, are other sequences
    rows, targets = (part[warm_up:].transpose(0, 1).flatten(0, 1) for part in (train, train_targets[:, :n_fit]))
    found = ridge_predictions(rows, targets, reservoir_states(inputs).flatten(0, 1), PENALTIES)
    return found.reshape(*inputs.shape[:2], -1)


def reservoir_states(inputs: Float[Tensor, "time batch n_features"]) -> Float[Tensor, "time batch n_features+300"]:
    """Run the fixed random network from zero.

    Args:
        inputs: u of every step.

    Returns:
        States of the 300 units and inputs of every step.
    """
    draws = Draws(0)
    into = draws.normal(("reservoir", "input"), (N_UNITS, inputs.shape[2]))
    recurrent = draws.normal(("reservoir", "recurrent"), (N_UNITS, N_UNITS)) * (SPECTRAL_RADIUS / math.sqrt(N_UNITS))
    bias = draws.normal(("reservoir", "bias"), (N_UNITS,)) * BIAS_STD
    state, states = inputs.new_zeros(inputs.shape[1], N_UNITS), []
    for u in inputs:
        state = torch.tanh(u @ into.T + state @ recurrent.T + bias)
        states.append(state)
    return torch.cat([torch.stack(states), inputs], 2)
