"""The main job in one go: train on a noisy chip with forward passes only, beside backprop programmed onto it.

    python examples/demo.py --out demo-out

A network 784-300-10 on a packaged sample of MNIST and a simulated chip of phase-change memory, whose noise can be
neither read out nor switched off. Takes a minute or two on two cores; needs no download.
"""

import argparse
from pathlib import Path

import noisylearn as nl
from noisylearn.cli.output import print_table, print_text, progress
from noisylearn.experiments.compare import compare
from noisylearn.experiments.row import Row
from noisylearn.report.device import device_picture
from noisylearn.report.plots import accuracy_curves
from noisylearn.report.tables import comparison_table, trivial_baselines

TASK = "mnist-sample"
PCM = "pcm-nandakumar-2019"
EPOCHS = 20

# rule, profile, what differs from its recipe
CONTENDERS = [
    ("lf", PCM, {}),  # two noisy passes
    ("danp", PCM, {}),
    ("danp", PCM, {"draws": 1, "lr": 3e-3}),  # two noisy passes and nothing else
    ("anp", PCM, {}),
    ("anp", PCM, {"draws": 1}),
    ("bp", PCM, {}),
    ("bp", PCM, {"forward": "chip"}),
    ("np", PCM, {}),  # refused: the noise of this chip cannot be read out
    ("np", "gaussian-node", {}),
]


def run(out: Path, epochs: int) -> list[Row]:
    """Train every contender; finished runs in `out` are read again."""
    rows: list[Row] = []
    with progress() as bar:
        for rule, profile, options in CONTENDERS:
            stated = {**options, "epochs": epochs}
            rows += compare(TASK, [rule], [nl.load_profile(profile)], [0], stated, out, watch=bar)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for run files and plots")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="fewer for a quick look")
    arguments = parser.parse_args()
    rows = run(arguments.out, arguments.epochs)

    print_table(comparison_table("784-300-10 on a sample of MNIST: accuracy read on the chip", rows))
    curves, noise = arguments.out / "accuracy.png", arguments.out / f"noise-{PCM}.png"
    accuracy_curves([row for row in rows if row.runs], "accuracy", trivial_baselines(rows), curves)
    device_picture(nl.load_profile(PCM), noise)
    print_text(f"plots: {curves}, {noise}")


if __name__ == "__main__":
    main()
