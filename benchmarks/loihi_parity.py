"""Emulator against Lava's fixed-point engine, bit for bit: weights, traces, payloads and losses.

    OMP_NUM_THREADS=1 python benchmarks/loihi_parity.py [--hidden 100 500] [--samples 400] [--rounding per-synapse]

Prints a line for each network with what differs, and the steps per second of both. Ends with status 1 if anything
differs.
"""

import argparse
import sys
import time

import numpy as np

import noisylearn as nl
from noisylearn.backends.lava.fixed import run_fixed
from noisylearn.backends.loihi.emulator import Emulator
from noisylearn.backends.loihi.microcode import Microcode, to_microcode
from noisylearn.backends.loihi.network import Array
from noisylearn.backends.loihi.quantisation import quantise
from noisylearn.backends.netlist.rate import from_model
from noisylearn.profiles import HardwareProfile, load_profile

N_IN, N_OUT = 16, 4


def with_rounding(profile: str, rounding: str) -> HardwareProfile:
    """The profile with another rounding of its cores."""
    machine = load_profile(profile)
    assert machine.specification.cores is not None
    cores = machine.specification.cores.model_copy(update={"rounding": rounding})
    return machine.model_copy(update={"specification": machine.specification.model_copy(update={"cores": cores})})


def problem(n_samples: int, signed: bool, seed: int = 3) -> tuple[Array, Array]:
    """Inputs (samples, 16) and targets (samples, 4) of a random teacher."""
    random = np.random.default_rng(seed)
    inputs = random.uniform(-1 if signed else 0, 1, size=(n_samples, N_IN))
    return inputs, np.tanh(inputs @ random.normal(size=(N_IN, N_OUT)) / 2)


def microcode_for(
    recurrent: bool, hidden: list[int], inputs: Array, rule: str, rounding: str, rate: float, mantissa: int = 4
) -> Microcode:
    """A network of random weights on the integer cores, and the rule on it."""
    if recurrent:
        model = nl.networks.RNN(N_IN, hidden, N_OUT, activation="relu", bias=True)
    else:
        model = nl.networks.mlp(N_IN, hidden, N_OUT, activation="relu")
    network = quantise(from_model(model), with_rounding("loihi2-lava-0.10", rounding), inputs)
    kind = {"anp": nl.rules.ANP, "np": nl.rules.NP}[rule]
    return to_microcode(kind(baseline="noisy", update="online"), network, rate, mantissa)


def differences(
    microcode: Microcode, inputs: Array, targets: Array, seed: int = 0
) -> tuple[dict[str, int], float, float]:
    """Run both; return the number of differing values by kind, and steps per second of the emulator and of Lava."""
    emulator = Emulator(microcode, "squared-error", seed)
    start = time.perf_counter()
    own = emulator.run(inputs, targets, keep_payloads=True)
    own_rate = len(inputs) * microcode.schedule.t_epoch / (time.perf_counter() - start)
    found = run_fixed(microcode, "squared-error", inputs, targets, seed, keep_payloads=True)
    differ = {"losses": int((own.losses != found.losses).sum())}
    differ["payloads"] = sum(int((own.payloads[name] != found.payloads[name]).sum()) for name in own.payloads)
    differ["weights"] = differ["traces"] = differ["weights that learned"] = 0
    for c in microcode.network.connections:
        differ["weights"] += int((emulator.weights[c.name] != found.weights[c.name]).sum())
        differ["weights that learned"] += int((c.weights != found.weights[c.name]).sum())
        expected = {"x1": emulator.x1[c.source, c.delayed], **emulator.y[c.target]}
        differ["traces"] += sum(int((expected[key] != found.traces[c.name][key]).sum()) for key in expected)
    return differ, own_rate, found.steps / found.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--layers", type=int, default=1, help="hidden layers of that size")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--mantissa", type=int, default=4, choices=[1, 2, 4])
    parser.add_argument("--rounding", nargs="+", default=["per-synapse"])
    parser.add_argument("--rule", nargs="+", default=["anp"], choices=["anp", "np"])
    parser.add_argument("--rate", type=float, default=3e-3)
    options = parser.parse_args()
    wrong = False
    for recurrent in (False, True):
        inputs, targets = problem(options.samples, signed=not recurrent)
        for hidden in options.hidden:
            for rounding in options.rounding:
                for rule in options.rule:
                    sizes = [hidden] * options.layers
                    microcode = microcode_for(recurrent, sizes, inputs, rule, rounding, options.rate, options.mantissa)
                    differ, own, lava = differences(microcode, inputs, targets)
                    learned = differ.pop("weights that learned")
                    wrong |= any(differ.values()) or not learned
                    what = f"{'recurrent' if recurrent else 'feed-forward'} {hidden} {rule} {rounding}"
                    speed = f"emulator {own:,.0f}, Lava {lava:,.0f}, ratio {own / lava:.1f}"
                    print(
                        f"{what}: differing {differ}, {learned:,} weights learned; steps/s {speed}",
                        flush=True,
                    )
    sys.exit(wrong)


if __name__ == "__main__":
    main()
