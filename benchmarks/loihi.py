"""Steps per second of the integer emulator and of Lava's fixed-point engine, in turns on the same network.

    OMP_NUM_THREADS=1 python benchmarks/loihi.py [--hidden 100 500] [--samples 200] [--rounds 3]

A step is one of the 5 phases of a sample. The ratio is formed within each round; the median and the range over all
rounds are shown. Start-up is not counted.
"""

import argparse
import statistics
import time

from loihi_parity import microcode_for, problem

from noisylearn.backends.lava.fixed import run_fixed
from noisylearn.backends.loihi.emulator import Emulator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for recurrent in (False, True):
        inputs, targets = problem(options.samples, signed=not recurrent)
        for hidden in options.hidden:
            microcode = microcode_for(recurrent, [hidden], inputs, "anp", "per-synapse", 3e-3)
            own, lava = [], []
            for _ in range(options.rounds):
                emulator = Emulator(microcode, "squared-error")
                start = time.perf_counter()
                emulator.run(inputs, targets)
                own.append(len(inputs) * microcode.schedule.t_epoch / (time.perf_counter() - start))
                found = run_fixed(microcode, "squared-error", inputs, targets)
                lava.append(found.steps / found.seconds)
            ratios = sorted(a / b for a, b in zip(own, lava, strict=True))
            name = "recurrent" if recurrent else "feed-forward"
            print(
                f"{name} {hidden}: emulator {statistics.median(own):,.0f} steps/s, "
                f"Lava {statistics.median(lava):,.0f}, ratio {statistics.median(ratios):.1f} "
                f"({ratios[0]:.1f} to {ratios[-1]:.1f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
