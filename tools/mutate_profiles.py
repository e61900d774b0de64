"""Damage packaged profiles at random and see that each one is refused in one line, or works on a chip.

    python tools/mutate_profiles.py --count 10000 --seed 0
    python tools/mutate_profiles.py --numbers

The second command multiplies every number of every profile by 1e3 and by 1e6, one at a time: slips of the unit. A case
that goes wrong is printed with its number; `--only NUMBER` repeats it. Ends with 1 where any went wrong.
"""

import argparse
import collections
import contextlib
import functools
import random
import re
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn

import noisylearn as nl
from noisylearn.backends.loihi import Emulator, quantise, to_microcode
from noisylearn.backends.netlist.rate import from_model
from noisylearn.ground.errors import UserError
from noisylearn.networks import mlp
from noisylearn.profiles import HardwareProfile, parse_profile, profile_files
from noisylearn.rules import REGISTRY

SLOW_S, LARGE_MB = 2.0, 500
FINE = ("valid", "refused")
NUMBER = re.compile(r"(?<![\w.-])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.:-])")
OTHER_VALUES = (
    '""', '"x"', "[]", "[1.0]", "[[1.0]]", "{}", "true", "{ value = 1.0 }", "2020-01-01", "[1.0, -3.0]", "1e30",
    '{ value = "a", status = "measured", source = "x" }', '"\\u0000"', '["clean_pass"]', '["injected_noise"]',
    "{ polynomial = [] }", "'''a\nb'''", "{ polynomial = [0.1], argument = 'us' }", "{ power = [1.0, -2.0] }",
)  # fmt: skip
Damage = Callable[[random.Random, str], str]


# What no packaged profile states: effects beside those of isaac-2016, and modes of writing beside "pulsed".
EFFECTS = {
    "stuck-devices": "at_g_min = 0.01\nat_g_max = 0.02",
    "conductance-spread": 'sigma = 0.1\ndistribution = "lognormal"',
    "conductance-range": "floor_us = 0.1\nceiling_us = 55.0",
    "programming-noise": "reference_g_max_us = 25.0\nsigma_us = { saturating = [0.9, 0.3] }",
    "relaxation": "reference_g_max_us = 50.0\ntimes_s = [1.0, 3600.0]\n"
    "sigma_us = [{ polynomial = [0.4, 0.1] }, { polynomial = [0.9] }]",
    "power-law-drift": "exponent_mean = { polynomial = [0.05] }\nexponent_spread = { power = [0.02, 0.5] }",
    "one-over-f-read-noise": "t_read_ns = 250.0\n"
    "amplitude_us = { log = [0.01, 0.0], argument = 'us', clip = [0.0, 1.0] }",
    "random-telegraph-noise": "share = 0.3\nrelative_amplitude = { polynomial = [0.1] }\ndwell_time_s = [1e-6, 10.0]",
    "read-noise": "reference_g_max_us = 50.0\nsigma_us = { polynomial = [0.2] }",
    "input-noise": "sigma = 0.01",
    "iv-nonlinearity": "kappa = 2.0",
    "ir-drop": "scale = 1.0\nwire_resistance_ohm = 1.0\ndevice_conductance_us = 50.0",
    "gain-spread": "sigma = 0.02",
    "offset-spread": "sigma = 0.03",
    "output-noise": "sigma = 0.04",
    "uniform-node": "width = 0.01",
    "bernoulli-node": "amplitude = 0.01",
    "correlated-node": "sigma = 0.01\ncorrelation = 0.5",
    "ornstein-uhlenbeck-node": "sigma = 0.01\ncorrelation_time_us = 3.0",
    "telegraph-node": "amplitude = 0.01\namplitude_spread = 0.2\noffset_spread = 0.005\ndwell_time_us = 1.0",
}  # fmt: skip
NEURONS = "[specification.neurons]\nCITED\ndecay_spread = 0.05\nthreshold_spread = 0.05\n\n[calibration]"
CITED = 'status = "assumed"\nsource = "this-profile"'
WRITING = {
    "accumulate": "threshold = 0.05",
    "auxiliary": "fast_gain = 1.0\ntransfer_every = 2\ntransfer_rate = 0.1\nthreshold = 0.01\nread_noise = 0.01\n"
    "symmetry_error = 0.02",
}


@functools.cache
def texts() -> list[str]:
    """Texts of all packaged profiles, and of made-up ones with all that these do not state."""
    packaged = {name: file.read_text(encoding="utf-8") for name, file in profile_files().items()}
    tables = (f'[[calibration.effects]]\nkind = "{kind}"\nCITED\n{numbers}\n' for kind, numbers in EFFECTS.items())
    everything = packaged["isaac-2016"].replace('"isaac-2016"', '"everything"').replace("[calibration]", NEURONS)
    made_up = ["\n".join([everything, *tables]).replace("CITED", CITED)]
    pulsed = packaged["reram-exponential-gong-2018"].replace('"reram-exponential-gong-2018"', '"written"')
    made_up += [pulsed.replace('mode = "pulsed"', f'mode = "{mode}"\n{more}') for mode, more in WRITING.items()]
    return [*packaged.values(), *made_up, *made_up]  # twice: there is more in them


def _bytes(chance: random.Random, text: str) -> str:
    """A few bytes changed, dropped, added or moved."""
    data = bytearray(text.encode())
    for _ in range(chance.randint(1, 8)):
        at, other = chance.randrange(len(data)), chance.randrange(len(data))
        what = chance.randrange(4)
        if what == 0:
            data[at] = chance.randrange(256)
        elif what == 1:
            del data[at]
        elif what == 2:
            data.insert(at, chance.choice(b"[]{}\"'=.,#\n0123456789-e"))
        else:
            data[at], data[other] = data[other], data[at]
    return data.decode("utf-8", "replace")


def _number(chance: random.Random, text: str) -> str:
    """A number or two replaced."""
    numbers = list(NUMBER.finditer(text))
    some = chance.sample(numbers, min(chance.randint(1, 2), len(numbers)))
    for one in sorted(some, key=lambda one: -one.start()):
        value = float(one.group())
        new = chance.choice(
            [*(f"{value * factor:.6g}" for factor in (1e3, 1e6, 1e-3, 1e-6, -1, 100, 0.01, 10, 0.5, 0)),
             "1e308", "-1e308", "1e-308", "5e-324", "nan", "-nan", "inf", "-inf", "1e400", "0.0", "-0.0", "1", "2",
             "9" * chance.choice([20, 120, 400, 5000]), "0x" + "f" * chance.choice([8, 100, 9000]), "true", '"1"',
             f"{10 ** chance.uniform(-12, 12):.3g}", f"{int(value)}"]
        )  # fmt: skip
        text = text[: one.start()] + new + text[one.end() :]
    return text


def _nesting(chance: random.Random, text: str) -> str:
    """A value, or a new key, within many brackets; closed or not."""
    deep = 10 ** chance.randint(0, 5)
    left, right = chance.choice([("[", "]"), ("{ a = ", " }"), ("[{ a = ", " }]")])
    value = left * deep + "1" + (right * deep if chance.random() < 0.7 else "")
    found = chance.choice(list(NUMBER.finditer(text)))
    if chance.random() < 0.7:
        return text[: found.start()] + value + text[found.end() :]
    return f"extra = {value}\n{text}"


def _dots(chance: random.Random, text: str) -> str:
    """A key, or the name of a table, of many parts."""
    parts = 10 ** chance.randint(0, 5)
    key = chance.choice(["a", '"a"', "'a'", "a ", "specification"]) + chance.choice([".a", '."a"', " . a"]) * parts
    line = chance.choice([f"{key} = 1\n", f"[{key}]\n", f"[[{key}]]\n", f"x = {{ {key} = 1 }}\n"])
    return line + text if chance.random() < 0.5 else text + "\n" + line


def _lines(chance: random.Random, text: str) -> str:
    """Lines dropped, doubled, moved, cut, or their keys renamed."""
    lines = text.splitlines()
    for _ in range(chance.randint(1, 3)):
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        what = chance.randrange(7)
        if what == 0 and len(lines) > 1:
            del lines[at]
        elif what == 1:
            lines.insert(other, lines[at])
        elif what == 2:
            lines[at], lines[other] = lines[other], lines[at]
        elif what == 3:
            lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
        elif what == 4:
            lines[at] = lines[at].replace("_", chance.choice(["", "-", "__", "."]), 1)
        elif what == 5:
            lines[at] = lines[at].split("=")[0] + "=" + lines[other].partition("=")[2]
        else:
            lines[at] = lines[at].split("=")[0] + "= " + chance.choice(OTHER_VALUES)
    return "\n".join(lines)


def _length(chance: random.Random, text: str) -> str:
    """Very long strings, keys, lists or files."""
    n = 10 ** chance.randint(2, 6)
    what = chance.randrange(5)
    if what == 0:
        return text.replace('title = "', 'title = "' + "x" * n, 1)
    if what == 1:
        return f"{'k' * n} = 1\n{text}"
    if what == 2:
        return text + "\n#" + "x" * n
    if what == 3:
        return f'"{"k" * n}" = 1\n{text}'
    found = chance.choice(list(NUMBER.finditer(text)))
    return text[: found.start()] + "[" + "1.0, " * n + "]" + text[found.end() :]


DAMAGES: tuple[Damage, ...] = (_bytes, _number, _number, _number, _lines, _lines, _nesting, _dots, _length)


def mutant(seed: int, number: int) -> str:
    """A damaged profile.

    Args:
        seed: of all of them.
        number: which one.
    """
    chance = random.Random(f"{seed} {number}")
    text = chance.choice(texts())
    return chance.choice(DAMAGES)(chance, text)


def slips() -> Iterator[str]:
    """Every packaged profile with one number times 1e3 or 1e6."""
    for text in dict.fromkeys(texts()):
        for found in NUMBER.finditer(text):
            for factor in (1e3, 1e6):
                value = float(found.group()) * factor
                new = repr(value) if re.search(r"[.e]", found.group()) else str(int(value))
                yield text[: found.start()] + new + text[found.end() :]


def verdict(text: str) -> str:
    """What becomes of a profile: "valid", "refused", or what went wrong.

    Args:
        text: of the profile.
    """
    try:
        profile = parse_profile(text, "mutant.toml")
    except UserError as error:
        return "refused" if len(str(error).splitlines()) == 1 and len(str(error)) < 2000 else "a message too long"
    except Exception as error:
        return f"{type(error).__name__} on reading"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _on_a_chip(profile)
    except Exception as error:
        return f"{type(error).__name__} on a chip: {str(error)[:80]}"


def _on_a_chip(profile: HardwareProfile) -> str:
    """Calibrate, read, let time pass, estimate, write anew, read: all finite?"""
    torch.manual_seed(0)
    net = mlp(6, (5,), 3)
    x = torch.randn(4, 6)
    chip = nl.Chip(net, profile, seed=0)
    chip.calibrate(x)
    seen = [chip(x)]
    chip.advance(1.0)
    chip.advance(86400.0)
    seen.append(chip(x))
    rule = next(found for name in ("np", "anp", "wp", "bp") if (found := REGISTRY[name].on(profile)) is not None)
    seen.append(rule.estimate(chip, x, lambda y: (y - 1).square().mean(1)))
    seen += [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    for _ in range(3):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
        chip.program()
    seen.append(chip(x))
    if not all(bool(torch.isfinite(one).all()) for one in seen):
        return "not finite on a chip"
    if profile.specification.cores is not None:
        _on_cores(profile)
    return "valid"


def _on_cores(profile: HardwareProfile) -> None:
    """Quantise a network, run it and let it learn; cores refuse what does not fit them."""
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    x = torch.rand(4, 6).numpy()
    with contextlib.suppress(UserError):
        microcode = to_microcode(nl.rules.ANP(baseline="noisy"), quantise(from_model(net), profile, x), 1e-3)
        Emulator(microcode, "squared-error").run(x, x[:, :3])


def count(cases: Iterable[tuple[int, str]]) -> collections.Counter[str]:
    """Verdicts on texts, how many of each; what is neither valid nor refused is printed.

    Args:
        cases: number and text of each.
    """
    verdicts: collections.Counter[str] = collections.Counter()
    for number, text in cases:
        start, before_mb = time.perf_counter(), _most_mb()
        found = verdict(text)
        if time.perf_counter() - start > SLOW_S:
            found = f"over {SLOW_S:g} s"
        if _most_mb() - before_mb > LARGE_MB:
            found = f"over {LARGE_MB} MB"
        if found not in FINE:
            print(f"{number}: {found}", flush=True)
        verdicts[found] += 1
    return verdicts


def _most_mb() -> float:
    """Most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="damaged profiles")
    parser.add_argument("--seed", type=int, default=0, help="of all of them")
    parser.add_argument("--numbers", action="store_true", help="every number times 1e3 and 1e6 instead")
    parser.add_argument("--only", type=int, help="one case, with its text")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    verdict(texts()[0])  # what the first one costs is no case's
    numbers = range(asked.count) if asked.only is None else (asked.only,)
    cases = list(enumerate(slips())) if asked.numbers else ((i, mutant(asked.seed, i)) for i in numbers)
    if asked.only is not None:
        cases = [case for case in cases if case[0] == asked.only]
        print(cases[0][1][:20000])
    before_mb, start = _most_mb(), time.perf_counter()
    verdicts = count(cases)
    for what, many in verdicts.most_common():
        print(f"{many:6d} {what}")
    print(f"{time.perf_counter() - start:.0f} s in all; at most {_most_mb() - before_mb:.0f} MB more than at the start")
    return int(any(what not in FINE for what in verdicts))


if __name__ == "__main__":
    sys.exit(main())
