"""How much two passes differ, and the cosine of ANP's estimate with the gradient, by profile and pass interval.

    python benchmarks/pass_interval.py [--intervals-us 0.25,1,10,1000] [--json]

Digits through a freshly programmed 64-32-10 on every profile whose noise perturbs. "differs": standard deviation of the
difference of two passes over sqrt(2), relative to the root mean square of the pre-activations, of both layers together;
"cosine": of ANP's estimate (two noisy passes, batch 100, mean over draws) with the gradient by autograd at the weights
on the devices. Both for the first interval of the profile itself, then for every interval asked for.
"""

import argparse
import json
import sys

import torch
import torch.nn.functional as F

import noisylearn as nl
from noisylearn.chips.readings import Plan
from noisylearn.cli.output import print_table
from noisylearn.ground.table import Table
from noisylearn.profiles import profile_files

BATCH, REPEATS = 100, 200


def with_interval(profile: nl.HardwareProfile, interval_us: float | None) -> nl.HardwareProfile:
    """The same profile with another time between two passes; unchanged for None."""
    timing = profile.specification.timing
    if timing is None or interval_us is None:
        return profile
    timing = timing.model_copy(update={"pass_interval_us": interval_us})
    specification = profile.specification.model_copy(update={"timing": timing})
    return profile.model_copy(update={"specification": specification})


def measure(profile: nl.HardwareProfile, task: nl.tasks.Task) -> dict[str, float]:
    """Means over REPEATS pairs of passes, each on other samples."""
    model = nl.networks.mlp(64, (32,), 10, seed=0)
    chip = nl.Chip(model, profile, seed=0)
    chip.calibrate(task.train_inputs[:500])
    anp, exact = nl.rules.ANP(baseline="noisy"), nl.rules.BP(forward="chip")
    both, signal, noise, cosines = Plan(((True, True),) * 2), 0.0, 0.0, []
    order = torch.Generator().manual_seed(0)
    for _ in range(REPEATS):
        batch = torch.randperm(len(task.train_inputs), generator=order)[:BATCH]
        x, target = task.train_inputs[batch], task.train_targets[batch]
        for reading in chip.passes(x, both).layers.values():
            first, second = reading.activity
            noise += float((first - second).square().mean()) / 2
            signal += float((first * second).mean())
        found = []
        for rule in (anp, exact):
            rule.estimate(chip, x, lambda output, t=target: F.cross_entropy(output, t, reduction="none"))
            found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        cosines.append(float(F.cosine_similarity(*found, dim=0)))
    return {"differs": (noise / signal) ** 0.5, "cosine": sum(cosines) / len(cosines)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--intervals-us", default="0.25,1,10,1000", help="times between two passes, microseconds")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    intervals = [None, *(float(item) for item in options.intervals_us.split(","))]
    task = nl.tasks.load("digits")
    measured = {}
    for name in profile_files():
        profile = nl.load_profile(name)
        if not any(effect.differs_between_passes for effect in profile.all_effects()):
            continue
        print(f"measuring {name} ...", file=sys.stderr)
        remembers = any(e.lifetime == "memory" and e.differs_between_passes for e in profile.all_effects())
        asked = intervals if remembers else intervals[:1]
        measured[name] = {str(us or "own"): measure(with_interval(profile, us), task) for us in asked}
    if options.json:
        print(json.dumps(measured))
        return
    columns = ["profile", "own interval", *(f"{us:g} us" for us in intervals if us)]
    cells = [
        [name, *(f"{100 * m['differs']:.1f} %, {m['cosine']:.3f}" for m in found.values())]
        for name, found in measured.items()
    ]
    cells = [row + [""] * (len(columns) - len(row)) for row in cells]
    print_table(Table("Difference of two passes relative to the signal, cosine of ANP's estimate", columns, cells, 5))


if __name__ == "__main__":
    main()
