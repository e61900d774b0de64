"""Lava's processes in float64 against torch, number by number, after many updates with the same draws."""

import numpy as np

from noisylearn.backends.conformance.cases import Case, model, profile, samples
from noisylearn.backends.lava.export import to_lava_net
from noisylearn.backends.lava.launch import replay_here
from noisylearn.backends.lava.process_specs import why_not as why_no_processes
from noisylearn.backends.netlist.rate import from_model

STEPS, LR = 500, 1e-3


def why_not(case: Case) -> str | None:
    """Why the case has no form as processes; None where it has one."""
    return why_no_processes(case.rule, profile(case), from_model(model(case)))


def tolerance(case: Case) -> float:
    """Of weights, biases and decorrelating matrices: sums go in another order, which recurrence makes larger."""
    return 1e-10 if case.in_time else 1e-12


def check(case: Case) -> str:
    """Empty if Lava learns what torch does, else by how much it differs."""
    net = to_lava_net(model(case), case.rule, profile(case), samples(case, STEPS), LR)
    difference = float(np.max(list(replay_here(net).difference(net).values())))
    return "" if difference <= tolerance(case) else f"differs by {difference:.1e}"
