"""Contents of run files as a run would leave them, without one: for what reads many."""

import hashlib
import json

import numpy as np
from support.small_runs import PCM, profile_text

from noisylearn.experiments.config import resolve
from noisylearn.experiments.run_file import RunFile
from noisylearn.profiles import parse_profile

BASELINES = {"chance": 0.1, "ridge readout": 0.9}


def run_tree(label="anp", profile=PCM, curve=(0.5, 0.7), status="finished", text=None, task="digits", **settings):
    """A run on digits whose held-out accuracy took this course; after a day of drift it has lost 0.02."""
    text = text or profile_text(profile)
    config = resolve("digits", label, parse_profile(text), {"epochs": len(curve), "device": "cpu", **settings})[0]
    config = config.model_copy(update={"task": task})
    perturbs = config.build_rule().perturbs
    epoch = {"held_out_accuracy": curve, "train_loss": curve}
    if perturbs:
        epoch |= {"alignment_hidden1": (0.25,) * len(curve), "noise_to_signal_hidden1": (0.01,) * len(curve)}
    tree = {
        "id": hashlib.sha256((config.model_dump_json() + text).encode()).hexdigest()[:12],
        "status": status,
        "config": config.model_dump_json(),
        "profile": text,
        "versions": json.dumps({"noisylearn": "0.2", "torch": "2.6", "python": "3.11"}),
        "machine": "x86_64",
        "citations": "{}",
        "step": 2,
        "wall_s": 1.5,
        "metrics": {"step": {"loss": np.ones(2)}, "epoch": {key: np.array(values) for key, values in epoch.items()}},
    }
    if status != "finished":
        return tree | {"checkpoint": {}, **({"reason": "the loss is not finite"} if status == "stopped" else {})}
    passes = {"forward_passes_over_data": 4, "backward_passes_over_data": 0 if perturbs else 2, "weight_updates": 20}
    after = {"accuracy_after_1_day": curve[-1] - 0.02, "accuracy_after_1_day_compensated": curve[-1] - 0.01}
    drifted = after if profile == PCM else {}
    return tree | {
        "final": {"accuracy_at_once": curve[-1], **drifted, **passes},
        "baselines": BASELINES,
        "selection": -curve[-1],
        "weights": {"digital": {}, "on_chip": {}},
    }


def write_runs(folder, *trees):
    """Files of runs, named 0.h5, 1.h5 and so on."""
    for number, tree in enumerate(trees):
        RunFile(folder / f"{number}.h5").write(tree)
    return folder
