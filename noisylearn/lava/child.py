"""The process that Lava runs in: builds the processes of a network file, runs them, leaves results in a folder.

    python -m noisylearn.lava.child JOB.json

Started by `noisylearn.lava.runner` as the leader of a process group of its own. It ends its group when the one who
started it is gone: then the pipe on its standard input closes.
"""

import json
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noisylearn.lava.compat import load_lava
from noisylearn.lava.group import end_with_parent
from noisylearn.lava.lowering import Options, Specs, lower
from noisylearn.lava.netfile import read_net

FAILED = "lava.error"
TITLES = "titles.json"
PROGRESS = "progress.npy"


def main() -> None:
    """Run one job; a failure leaves its traceback in the job's folder."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(job["folder"])
    threading.Thread(target=end_with_parent, args=(folder,), daemon=True).start()
    try:
        _run(job, folder)
    except BaseException:
        (folder / FAILED).write_text(traceback.format_exc(), encoding="utf-8")
        raise


def _run(job: dict[str, Any], folder: Path) -> None:
    torch.set_num_threads(1)  # Lava forks, and threads do not survive a fork
    progress = np.lib.format.open_memmap(folder / PROGRESS, mode="r+")
    options = Options(job["n_steps"], job["learns"], job["replays"])
    specs = lower(read_net(Path(job["net"])), options, folder, progress)
    _write_json(folder / TITLES, specs.titles())
    load_lava()
    run_processes(specs, options.n_steps + 1)


def run_processes(specs: Specs, n_steps: int) -> None:
    """Connect the processes and run them."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg

    critic = connected(specs)
    try:
        critic.run(condition=RunSteps(num_steps=n_steps), run_cfg=Loihi2SimCfg(select_tag="floating_pt"))
    finally:
        critic.stop()


def connected(specs: Specs) -> Any:
    """All processes, connected; the critic stands for them."""
    from noisylearn.lava.processes import float_processes as p

    learns = specs.source.run.learns
    source, critic, recorder = p.Source(specs.source), p.Critic(specs.critic), p.Recorder(specs.recorder)
    connections = {spec.layer: p.Connection(spec) for spec in specs.connections}
    neurons = {layer.name: p.Neurons(spec) for layer, spec in zip(specs.layers, specs.neurons, strict=True)}
    activities = {specs.layers[0].below: source.s_out} | {name: process.s_out for name, process in neurons.items()}
    for name, spec in specs.decorrelations.items():
        decorrelation = p.Decorrelation(spec)
        activities[name].connect(decorrelation.s_in)
        activities[name] = decorrelation.s_out
    for layer, told in zip(specs.layers, specs.connections, strict=True):
        connection, population = connections[layer.name], neurons[layer.name]
        activities[layer.below].connect(connection.s_in)
        if layer.recurs:
            activities[layer.name].connect(connection.s_recurrent_in)
        connection.a_out.connect(population.a_in)
        if learns and told.from_noise is not None:
            critic.third_factor_out.connect(connection.s_in_y1)
        elif learns:
            critic.third_factor_out.connect(population.a_third_factor_in)
            population.s_out_y1.connect(connection.s_in_y1)
            population.norm_out.connect(critic.norm_in)
    activities[specs.layers[-1].name].connect(critic.y_in)
    critic.loss_out.connect(recorder.loss_in)
    return critic


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


if __name__ == "__main__":
    main()
