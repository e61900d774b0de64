"""Operations counted by hand on small networks, and what the command prints."""

import json
from pathlib import Path

import pytest
import torch
from support.small_runs import GAUSSIAN, small_task, small_train
from typer.testing import CliRunner

from noisylearn import UserError, decorrelate, networks, tasks
from noisylearn.backends.netlist.operations import (
    LOIHI_1,
    Operations,
    count_netlist,
    count_spiking,
    measured_rates,
    per_inference,
    per_learning_step,
    table,
)
from noisylearn.backends.netlist.rate import from_model
from noisylearn.backends.netlist.spiking import from_spiking
from noisylearn.cli import app
from noisylearn.rules import ANP, BP, INP, NP


def test_a_feed_forward_network_by_hand() -> None:
    layers = count_netlist(from_model(networks.mlp(5, [3], 2)))
    assert [layer.per_step for layer in layers] == [Operations(15, 3, 5), Operations(6, 2, 3)]
    assert [layer.n_parameters for layer in layers] == [15 + 3, 6 + 2]
    assert per_inference(layers) == Operations(21, 5, 8)


def test_decorrelation_counts_as_weights_to_units_of_its_own() -> None:
    layers = count_netlist(from_model(decorrelate(networks.mlp(5, [3], 2), 1e-3)))
    assert per_inference(layers) == Operations(21 + 25 + 9, 5 + 5 + 3, 8 + 5 + 3)
    assert [layer.n_parameters for layer in layers] == [18 + 25, 8 + 9]


def test_a_recurrent_network_by_hand() -> None:
    layers = count_netlist(from_model(networks.RNN(5, 3, 2)))
    assert [layer.per_step for layer in layers] == [Operations(15 + 9, 3, 5 + 3), Operations(6, 2, 3)]
    assert per_inference(layers, 10) == Operations(300, 50, 110)
    decorrelated = count_netlist(from_model(networks.RNN(5, 3, 2, decorrelation_rate=1e-3)))
    assert per_inference(decorrelated) == Operations(30 + 9, 5 + 3, 11 + 3)


def test_a_spiking_network_by_hand() -> None:
    pytest.importorskip("snntorch", reason="snntorch is not installed")
    rates = [0.5, 0.25]
    leaky = count_spiking(from_spiking(networks.Spiking(4, 8, 2)), rates)
    assert [layer.per_step for layer in leaky] == [Operations(16, 8, 2), Operations(4, 2, 2)]
    recurrent = count_spiking(from_spiking(networks.Spiking(4, 8, 2, neuron="rleaky")), rates)
    assert recurrent[0].per_step == Operations(16 + 0.25 * 64, 8, 2 + 2)
    assert recurrent[0].n_parameters == 32 + 8 + 64 + 8
    decorrelated = count_spiking(from_spiking(decorrelate(networks.Spiking(4, 8, 2), 1e-3)), rates)
    assert decorrelated[0].per_step == Operations(32 + 0.5 * 16, 8 + 4, 4 + 2)
    with pytest.raises(UserError, match="give spikes per unit and step, 0 to 1, of the input and of 1 layers"):
        count_spiking(from_spiking(networks.Spiking(4, 8, 2)), [0.5])


def test_spike_rates_are_measured() -> None:
    pytest.importorskip("snntorch", reason="snntorch is not installed")
    model = networks.Spiking(2, 2, 1, threshold=0.5, beta=0.0, reset="zero")
    with torch.no_grad():
        model.hidden1.weight.copy_(torch.eye(2))
        model.hidden1.bias.zero_()
    spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]], [[0.0, 0.0]], [[1.0, 0.0]]])
    assert measured_rates(model, spikes) == [0.5, 0.5]
    assert measured_rates(model, 0.6 * spikes) == [1.0, 0.5]


def test_a_learning_step_is_the_passes_of_the_rule_and_one_writing() -> None:
    layers = count_netlist(from_model(networks.mlp(5, [3], 2)))
    one = Operations(21, 5, 8)
    assert per_learning_step(layers, ANP(draws=3)) == one * 4 + Operations(learning_updates=26)
    assert per_learning_step(layers, NP(), batch=10) == one * 20 + Operations(learning_updates=26)
    assert per_learning_step(layers, INP()) == one * 3 + Operations(learning_updates=26)
    assert per_learning_step(layers, NP(), n_steps=7, updates=7) == one * 14 + Operations(learning_updates=7 * 26)
    with pytest.raises(UserError, match="rule bp goes backward"):
        per_learning_step(layers, BP())


def test_energy_is_the_sum_of_published_numbers_times_counts() -> None:
    assert Operations(2, 3, 5, 7).estimated_energy_pj() == pytest.approx(2 * 23.6 + 3 * 81 + 5 * 4 + 7 * 120)
    assert "Davies" in LOIHI_1.source
    assert "pre-silicon" in LOIHI_1.obtained
    rows = table(count_netlist(from_model(networks.mlp(5, [3], 2))), ANP(), batch=2)
    assert [row["what"] for row in rows] == [
        "hidden1", "readout", "one inference", "one learning step of anp, batch of 2",
    ]  # fmt: skip
    assert rows[2]["estimated_energy_nj"] == pytest.approx((21 * 23.6 + 5 * 81 + 8 * 4) / 1000)


@pytest.mark.parametrize(
    ("changes", "inputs"),
    [({}, 49), ({"task": "latency-mnist-sample", "network": "spiking", "activation": "leaky-relu", "seq_len": 5}, 784)],
    ids=["mlp", "spiking"],
)
def test_the_command_counts_a_run(changes: dict, inputs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if changes:
        pytest.importorskip("snntorch", reason="snntorch is not installed")
    monkeypatch.setattr(tasks, "load", small_task)
    run = small_train(tmp_path, GAUSSIAN | {"epochs": 1} | changes)
    result = CliRunner().invoke(app, ["operations", str(run.path), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert "that of Loihi 1, estimated" in found["energy"]
    assert found["energy"].endswith("it says nothing of the energy of gaussian-node, on which the network was trained")
    first, *_, inference, learning = found["operations"]
    n_steps = found["time_steps"]
    assert n_steps == (5 if changes else 1)
    assert first["neuron_updates"] == 12 * n_steps
    assert first["synaptic_operations"] == pytest.approx(12 * first["messages"])
    assert 0 < first["messages"] <= inputs * n_steps
    assert learning["learning_updates"] == 12 * (inputs + 1) + 10 * 13
    assert learning["synaptic_operations"] == pytest.approx(2 * 40 * inference["synaptic_operations"])
    text = CliRunner().invoke(app, ["operations", str(run.path)])
    assert "energy on Loihi 1, estimated (nJ)" in text.stdout
    assert "Davies et al. 2018" in text.stdout
