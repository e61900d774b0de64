"""One layer here and in other simulators of analog hardware, with the same settings: do they agree in distribution?

python tools/compare_simulators.py           # a table; kits that are not installed are named and left out
python tools/compare_simulators.py --json

Every case draws the outputs of one layer (64 inputs, 32 outputs) for one input vector many times, each from devices
programmed anew or from a new read, and compares mean and variance of every output and the whole distribution
(two-sample Kolmogorov-Smirnov). Cases without random numbers have to agree to rounding. The kits are no dependencies:
docs/other-simulators.md says where they come from, and which of their parameters is which of ours.
"""

import argparse
import importlib.util
import json
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

import noisylearn as nl
from noisylearn.profiles import HardwareProfile, profile_from_text

N_IN, N_OUT, DRAWS = 64, 32, 2000
LARGEST_Z, SMALLEST_P = 4.2, 1e-3  # over 32 outputs: about one comparison in a thousand fails by chance
ROUNDING = 2e-6  # of outputs up to about 10 in float32
TEMPLATE = """
schema_version = 1
name = "one-effect"
title = "one effect"
description = "For a comparison."
observable = ["loss"]
[sources.here]
citation = "A choice of this comparison"
[specification]
date = 2026-11-29
[specification.mapping]
kind = "differential-pair"
status = "assumed"
source = "here"
g_max_us = 100.0
g_min_us = {g_min_us}
scale = "layer"
reads_clip = false
[specification.timing]
status = "assumed"
source = "here"
t0_s = 20.0
pass_interval_us = 1.0
[specification.inputs]
status = "assumed"
source = "here"
{scaling}
{converters}
[calibration]
date = 2026-11-29
{effects}
"""
Samples = np.ndarray  # (draws, outputs)
Sampler = Callable[[np.ndarray, np.ndarray, int, int], Samples]  # (weight, x, draws, seed) -> samples
SCALES = ("prog_noise_scale", "read_noise_scale", "drift_scale")  # of aihwkit's noise of PCM


@dataclass(frozen=True)
class Case:
    """One setting in both simulators.

    Args:
        kit: name of the other simulator.
        name: what is compared, and how it is set there.
        ours: the profile with the same setting.
        theirs: draws outputs in the other simulator.
        programs: whether every draw programs the devices anew; else it is a new read of the same devices.
        after_s: time from programming to the read, in seconds.
        is_exact: whether there are no random numbers.
    """

    kit: str
    name: str
    ours: HardwareProfile
    theirs: Sampler
    programs: bool = False
    after_s: float = 0.0
    is_exact: bool = False

    @property
    def seed(self) -> int:
        """Of the draws in both: another one for every case, the same in every run."""
        return zlib.crc32(f"{self.kit} {self.name}".encode())


@dataclass(frozen=True)
class Agreement:
    """How far two sets of samples differ.

    Args:
        mean_z: largest difference of the means of an output, in standard errors; without random numbers the largest
            difference itself.
        variance_ratio: sum of the variances of theirs over that of ours.
        variance_z: largest logarithm of the ratio of an output's variances, in standard errors of normal samples.
        ks_p: of all samples, every output in units of its standard deviation about its mean in both simulators.
    """

    mean_z: float
    variance_ratio: float
    variance_z: float
    ks_p: float

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against one distribution."""
        return max(self.mean_z, self.variance_z) < LARGEST_Z and self.ks_p > SMALLEST_P


def agreement(ours: Samples, theirs: Samples) -> Agreement:
    """Compare samples (draws, outputs) output by output."""
    n = len(ours)
    a, b = ours.var(0, ddof=1), theirs.var(0, ddof=1)
    mean_z = np.abs(ours.mean(0) - theirs.mean(0)) / np.sqrt((a + b) / n)
    variance_z = np.abs(np.log(b / a)) / np.sqrt(4 / (n - 1))
    centre, width = (ours.mean(0) + theirs.mean(0)) / 2, np.sqrt((a + b) / 2)
    ks = stats.ks_2samp(((ours - centre) / width).ravel(), ((theirs - centre) / width).ravel())
    return Agreement(float(mean_z.max()), float(b.sum() / a.sum()), float(variance_z.max()), float(ks.pvalue))


def layer() -> tuple[np.ndarray, np.ndarray]:
    """Weights (outputs, inputs), the largest of every row 1 in magnitude, and one input vector, all within [-1, 1]."""
    random = np.random.default_rng(0)
    weight = random.uniform(-1, 1, (N_OUT, N_IN))
    weight /= np.abs(weight).max(1, keepdims=True)
    return weight.astype(np.float32), random.uniform(-1, 1, N_IN).astype(np.float32)


def our_samples(case: Case, weight: np.ndarray, x: np.ndarray, draws: int) -> Samples:
    """Outputs of the layer on a simulated chip (draws, outputs)."""
    model = nn.Linear(N_IN, N_OUT, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(weight))
    chip, one = nl.Chip(model, case.ours, seed=case.seed), torch.from_numpy(x)[None]
    if not case.programs:
        return chip(one.expand(draws, -1)).detach().numpy()
    found = []
    for _ in range(draws):
        chip.program()
        if case.after_s:
            chip.advance(case.after_s)
        found.append(chip(one).detach().numpy())
    return np.concatenate(found)


def profile(
    *effects: str, g_min_us: float = 0.0, converters: str = "", scaling: str = 'scaling = "fixed"\nrange = 1.0'
) -> HardwareProfile:
    """A machine of 100 microsiemens with these effects and no others."""
    listed = "\n".join(f'[[calibration.effects]]\nstatus = "assumed"\nsource = "here"\n{one}' for one in effects)
    return profile_from_text(TEMPLATE.format(g_min_us=g_min_us, converters=converters, scaling=scaling, effects=listed))


def converter(which: str, text: str) -> str:
    """The table of a converter."""
    return f'[specification.{which}]\nstatus = "assumed"\nsource = "here"\n{text}\n'


def _noise(kind: str, sigma_us: str) -> str:
    return f'kind = "{kind}"\nreference_g_max_us = 100.0\nsigma_us = {{ {sigma_us} }}'


CONVERTERS = converter("dac", "bits = 6") + converter("adc", "bits = 7\nrange = 8.0")


def crosssim(on_off: float | None = None, programs: bool = False, **settings: Any) -> Sampler:
    """Draws from a core of CrossSim.

    Args:
        on_off: largest conductance over the smallest; None for a smallest of 0.
        programs: whether every draw programs the core anew.
        settings: further parameters by their path, such as "xbar.device.Rmin".
    """

    def draw(weight: np.ndarray, x: np.ndarray, draws: int, seed: int) -> Samples:
        from simulator import AnalogCore, CrossSimParameters

        parameters = CrossSimParameters()
        parameters.update(settings | {"core.mapping.inputs.mvm.min": -1.0, "core.mapping.inputs.mvm.max": 1.0})
        parameters.xbar.device.infinite_on_off_ratio = on_off is None
        parameters.xbar.device.Rmax = parameters.xbar.device.Rmin * (on_off or 1.0)
        np.random.seed(seed)
        core, found = AnalogCore(weight, parameters), []
        for _ in range(draws):
            if programs:
                core.set_matrix(weight)
            found.append(core @ x)
        return np.stack(found)

    return draw


def crosssim_cases() -> list[Case]:
    """Of Sandia's CrossSim: a balanced core, whose conductances are in units of the largest."""

    def device(kind: str, model: str, magnitude: float = 0.0) -> dict[str, Any]:
        place = f"xbar.device.{kind}"
        return {f"{place}.enable": True, f"{place}.model": model, f"{place}.magnitude": magnitude}

    written, read = "programming-noise", "read-noise"
    joshi = {"xbar.device.Rmin": 1 / 25e-6} | device("programming_error", "PCMJoshi")
    milo = {"xbar.device.Rmin": 1 / 225e-6} | device("programming_error", "RRAMMilo")
    dac, adc = "xbar.dac.mvm", "xbar.adc.mvm"
    codes = {f"{dac}.model": "SignMagnitudeDAC", f"{dac}.bits": 6}
    codes |= {f"{adc}.model": "SignMagnitudeADC", f"{adc}.bits": 7, f"{adc}.calibrated_range": [-8, 8]}
    return [
        Case("CrossSim", "programming_error NormalIndependentDevice 0.03",
             profile(_noise(written, "polynomial = [3.0]")),
             crosssim(programs=True, **device("programming_error", "NormalIndependentDevice", 0.03)), programs=True),
        Case("CrossSim", "programming_error NormalProportionalDevice 0.05",
             profile(_noise(written, "polynomial = [0.0, 5.0]")),
             crosssim(programs=True, **device("programming_error", "NormalProportionalDevice", 0.05)), programs=True),
        Case("CrossSim", "programming_error PCMJoshi", nl.load_profile("pcm-joshi-2020").only(written),
             crosssim(100.0, True, **joshi), programs=True),
        Case("CrossSim", "programming_error RRAMMilo", nl.load_profile("rram-milo-2021").only(written),
             crosssim(4.5, True, **milo), programs=True),
        Case("CrossSim", "read_noise NormalIndependentDevice 0.02, Rmax 5 Rmin",
             profile(_noise(read, "polynomial = [2.0]"), g_min_us=20.0),
             crosssim(5.0, **device("read_noise", "NormalIndependentDevice", 0.02))),
        Case("CrossSim", "read_noise NormalProportionalDevice 0.05", profile(_noise(read, "polynomial = [0.0, 5.0]")),
             crosssim(**device("read_noise", "NormalProportionalDevice", 0.05))),
        Case("CrossSim", "SignMagnitudeDAC 6 bits, SignMagnitudeADC 7 bits over 8",
             profile(converters=CONVERTERS), crosssim(**codes), is_exact=True),
    ]  # fmt: skip


def aihwkit(
    forward: dict[str, Any], noise: dict[str, float] | None = None, after_s: float = 0.0, cpp: bool = False
) -> Sampler:
    """Draws from a tile of aihwkit, each of them programmed anew where there is a noise model of devices.

    Args:
        forward: settings of IOParameters; all others are ideal.
        noise: scales of PCMLikeNoiseModel; None for exact weights.
        after_s: time from programming to the read, in seconds.
        cpp: whether the tile is that in C++; else that in torch, which lacks w_noise and ir_drop.
    """
    ideal = {"inp_res": -1, "out_res": -1, "out_noise": 0.0, "out_bound": 0.0}
    managers = {"noise_management": "NONE", "bound_management": "NONE", "w_noise_type": "NONE"}

    def configuration() -> Any:
        from aihwkit.inference import PCMLikeNoiseModel
        from aihwkit.simulator import configs
        from aihwkit.simulator.parameters import enums

        kinds = {"noise_management": enums.NoiseManagementType, "bound_management": enums.BoundManagementType,
                 "w_noise_type": enums.WeightNoiseType}  # fmt: skip
        config = (configs.InferenceRPUConfig if cpp else configs.TorchInferenceRPUConfig)()
        config.drift_compensation, config.mapping.weight_scaling_omega = None, 0.0
        for key, value in (ideal | managers | forward).items():
            setattr(config.forward, key, kinds[key][value] if key in kinds else value)
        if noise is not None:
            config.forward.is_perfect, config.noise_model = True, PCMLikeNoiseModel(g_max=25.0, **noise)
        return config

    def draw(weight: np.ndarray, x: np.ndarray, draws: int, seed: int) -> Samples:
        from aihwkit.nn import AnalogLinear

        torch.manual_seed(seed)
        layer = AnalogLinear(N_IN, N_OUT, bias=False, rpu_config=configuration()).eval()
        layer.set_weights(torch.from_numpy(weight))
        one, found = torch.from_numpy(x)[None], []
        for _ in range(draws):
            if noise is not None:
                layer.program_analog_weights()
                layer.drift_analog_weights(after_s)
            found.append(layer(one).detach().numpy())
        return np.concatenate(found)

    return draw


def aihwkit_cases() -> list[Case]:
    """Of IBM's aihwkit: tiles for inference."""
    pcm, none = nl.load_profile("pcm-nandakumar-2019"), dict.fromkeys(SCALES, 0.0)
    steps = {"inp_res": 1 / (2**6 - 2), "out_res": 1 / (2**7 - 2), "out_bound": 8.0}
    managed = {"noise_management": "ABS_MAX", "bound_management": "ITERATIVE", "inp_res": 1 / (2**7 - 2),
               "out_res": 1 / (2**9 - 2), "out_bound": 2.0}  # fmt: skip
    halving = 'bits = 9\nrange = 2.0\nsaturation = "halve-inputs"\nmax_halvings = 8'
    follows = profile(
        converters=converter("dac", "bits = 7") + converter("adc", halving), scaling='scaling = "absolute-maximum"'
    )
    wires = 'kind = "ir-drop"\nscale = 1.0\nwire_resistance_ohm = 10.0\ndevice_conductance_us = 50.0'
    both, root = _noise("read-noise", f"polynomial = [{2 / 2**0.5}]"), _noise("read-noise", "power = [5.0, 0.5]")
    return [
        Case("aihwkit", "out_noise 0.06", profile('kind = "output-noise"\nsigma = 0.06'), aihwkit({"out_noise": 0.06})),
        Case("aihwkit", "inp_noise 0.02", profile('kind = "input-noise"\nsigma = 0.02'), aihwkit({"inp_noise": 0.02})),
        Case("aihwkit", "PCMLikeNoiseModel: programming noise", pcm.only("programming-noise"),
             aihwkit({}, none | {"prog_noise_scale": 1.0}), programs=True),
        Case("aihwkit", "PCMLikeNoiseModel: drift of 10,000 s", pcm.only("power-law-drift"),
             aihwkit({}, none | {"drift_scale": 1.0}, 1e4), programs=True, after_s=1e4),
        Case("aihwkit", "PCMLikeNoiseModel: 1/f noise after 10,000 s", pcm.only("one-over-f-read-noise"),
             aihwkit({}, none | {"read_noise_scale": 1.0}, 1e4), programs=True, after_s=1e4),
        Case("aihwkit", "inp_res of 6 bits, out_res of 7 bits over 8", profile(converters=CONVERTERS), aihwkit(steps),
             is_exact=True),
        Case("aihwkit", "ABS_MAX and ITERATIVE, 7 and 9 bits over 2", follows, aihwkit(managed), is_exact=True),
        Case("aihwkit", "w_noise 0.02 ADDITIVE_CONSTANT", profile(both),
             aihwkit({"w_noise": 0.02, "w_noise_type": "ADDITIVE_CONSTANT"}, cpp=True)),
        Case("aihwkit", "w_noise 0.05 PCM_READ", profile(root),
             aihwkit({"w_noise": 0.05, "w_noise_type": "PCM_READ"}, cpp=True)),
        Case("aihwkit", "ir_drop 1, ir_drop_g_ratio 2,000", profile(wires),
             aihwkit({"ir_drop": 1.0, "ir_drop_g_ratio": 2000.0}, cpp=True), is_exact=True),
    ]  # fmt: skip


CASES = {"simulator": crosssim_cases, "aihwkit": aihwkit_cases}  # by the module that has to be there


def compared(case: Case, draws: int = DRAWS) -> Agreement:
    """Run a case in both simulators; without random numbers, the largest difference in units of what rounding makes."""
    weight, x = layer()
    if case.is_exact:
        difference = np.abs(our_samples(case, weight, x, 1) - case.theirs(weight, x, 1, case.seed)).max()
        return Agreement(LARGEST_Z * float(difference) / ROUNDING, 1.0, 0.0, 1.0)
    return agreement(our_samples(case, weight, x, draws), case.theirs(weight, x, draws, case.seed))


def main() -> None:
    """Print what was found; the exit status is 1 where a case does not agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    as_json = parser.parse_args().json
    found = []
    for module, cases in CASES.items():
        if importlib.util.find_spec(module) is None:
            print(f"{module}: not installed, left out (docs/other-simulators.md)", file=sys.stderr)
        else:
            found += [(case, compared(case)) for case in cases()]
    if as_json:
        print(json.dumps([{"kit": c.kit, "name": c.name, **vars(a), "holds": a.holds} for c, a in found], indent=2))
    elif found:
        print("| | means, s.e. | variance | variances, s.e. | KS p | |\n| --- |" + " ---: |" * 4 + " --- |")
        for case, a in found:
            numbers = f"{a.mean_z:.1f} | {a.variance_ratio:.3f} | {a.variance_z:.1f} | {a.ks_p:.2f}"
            measured = "equal | | |" if case.is_exact and a.holds else numbers
            print(f"| {case.kit}: {case.name} | {measured} | {'agrees' if a.holds else 'differs'} |")
    sys.exit(not all(a.holds for _, a in found))


if __name__ == "__main__":
    main()
