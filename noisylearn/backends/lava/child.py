"""The process that Lava runs in: builds the processes of a network file, runs them and writes results into a folder.

    python -m noisylearn.backends.lava.child JOB.json

Started by `noisylearn.backends.lava.launch` as the leader of a process group of its own. It ends its group when the
process that started it is gone: the pipe on its standard input then closes.
"""

import json
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from noisylearn.backends.lava.compat import load_lava
from noisylearn.backends.lava.group import end_with_parent
from noisylearn.backends.lava.integers import IntegerOptions, execute
from noisylearn.backends.lava.monitoring import LAVA, Monitor, Monitors, open_monitors
from noisylearn.backends.lava.netfile import read_net
from noisylearn.backends.lava.process_specs import FloatOptions, NetworkSpecs, process_specs


def main() -> None:
    """Run one job; a failure leaves its traceback in the job's folder."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(job["folder"])
    threading.Thread(target=end_with_parent, args=(folder,), daemon=True).start()
    monitors = open_monitors(folder)
    with Monitor(LAVA, -1, folder, monitors.progress).step(0):
        torch.set_num_threads(1)  # Lava forks, and threads do not survive a fork
        net = read_net(Path(job["net"]))
        if "integers" in job:
            execute(net, IntegerOptions(**job["integers"]), monitors)
        else:
            run_processes(process_specs(net, FloatOptions(**job["options"]), monitors), monitors)


def run_processes(specs: NetworkSpecs, monitors: Monitors) -> None:
    """Connect the processes and run them for one step more than they learn.

    Args:
        specs: of every process.
        monitors: of the run; their titles are published before it starts.
    """
    load_lava()
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg

    monitors.publish()
    critic = connected(specs)
    try:
        n_steps = specs.source.settings.n_steps + 1
        critic.run(condition=RunSteps(num_steps=n_steps), run_cfg=Loihi2SimCfg(select_tag="floating_pt"))
    finally:
        critic.stop()


def connected(specs: NetworkSpecs) -> Any:
    """Build all processes and connect them.

    Args:
        specs: of every process.

    Returns:
        The critic, through which all of them are run and stopped.
    """
    from noisylearn.backends.lava.processes import float_processes as p

    learns = specs.source.settings.learns
    source, critic, loss_log = p.Source(specs.source), p.Critic(specs.critic), p.LossLog(specs.loss_log)
    connections = {spec.layer: p.Connection(spec) for spec in specs.connections}
    neurons = {layer.name: p.Neurons(spec) for layer, spec in zip(specs.layers, specs.neurons, strict=True)}
    activities = {specs.layers[0].below: source.s_out} | {name: process.s_out for name, process in neurons.items()}
    for name, spec in specs.decorrelations.items():
        decorrelation = p.Decorrelation(spec)
        activities[name].connect(decorrelation.s_in)
        activities[name] = decorrelation.s_out
    for layer, given in zip(specs.layers, specs.connections, strict=True):
        connection, population = connections[layer.name], neurons[layer.name]
        activities[layer.below].connect(connection.s_in)
        if layer.recurs:
            activities[layer.name].connect(connection.s_recurrent_in)
        connection.a_out.connect(population.a_in)
        if learns and given.from_noise is not None:
            critic.third_factor_out.connect(connection.s_in_y1)
        elif learns:
            critic.third_factor_out.connect(population.a_third_factor_in)
            population.s_out_y1.connect(connection.s_in_y1)
            if specs.critic.by_nodes:
                population.norm_out.connect(critic.norm_in)
    activities[specs.layers[-1].name].connect(critic.y_in)
    critic.loss_out.connect(loss_log.loss_in)
    return critic


if __name__ == "__main__":
    main()
