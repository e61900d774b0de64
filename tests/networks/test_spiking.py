"""Spiking networks: against snntorch by hand, learning through spikes, spread of neurons.

Budget: 1e-5 for every statistical assertion; seeds are fixed.
"""

import sys

import pytest
import torch
import torch.nn.functional as F
from support.checks import machine, moments_agree
from torch import Tensor

from noisylearn import Chip, UserError, networks
from noisylearn.chips.segments import Segment, Trajectory
from noisylearn.networks.neurons import FiringWarning
from noisylearn.rules import ANP, BPTT, INP, NP, REINFORCE, WP

snntorch = pytest.importorskip("snntorch", reason="snntorch is not installed")

ALARM = 1e-5
KINDS = ["leaky", "rleaky", "synaptic"]
SPREAD = "[specification.neurons]\nCITEDdecay_spread = 0.05\nthreshold_spread = 0.1\n"


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output, target, reduction="none")


def spike_trains(steps: int = 12, batch: int = 16) -> tuple[Tensor, Tensor]:
    """Four classes of rate-coded patterns."""
    generator = torch.Generator().manual_seed(0)
    rates = torch.rand(4, 10, generator=generator)
    classes = torch.arange(batch) % 4
    trains = torch.rand(steps, batch, 10, generator=generator) < rates[classes]
    return trains.float(), classes.expand(steps, batch)


@pytest.mark.parametrize("kind", KINDS)
def test_backprop_through_time_equals_snntorch_by_hand(kind: str) -> None:
    inputs, targets = spike_trains()
    model = networks.Spiking(10, 8, 4, neuron=kind, seed=0)
    BPTT().run(Chip(model), inputs, targets, cross_entropy)
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    neurons, mem, extra, out, total = model.neurons1, torch.zeros(16, 8), torch.zeros(16, 8), torch.zeros(16, 4), 0.0
    for x, target in zip(inputs, targets, strict=True):
        current = model.hidden1(x)
        if kind == "leaky":
            spikes, mem = neurons(current, mem)
        elif kind == "rleaky":
            spikes, mem = neurons(current, extra, mem)
            extra = spikes
        else:
            spikes, extra, mem = neurons(current, extra, mem)
        out = 0.9 * out + model.readout(spikes)
        total = total + F.cross_entropy(out, target)
    (total / len(inputs)).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-6)
    assert found["hidden1.weight"].abs().max() > 0


RULES = {
    "np": (NP(draws=8), 'kind = "gaussian-node"\nsigma = 0.1', "injected_noise"),
    "anp": (ANP(draws=8), 'kind = "gaussian-node"\nsigma = 0.1', "injected_noise"),
    "anp noisy": (ANP(draws=8, baseline="noisy", update="online"), 'kind = "gaussian-node"\nsigma = 0.1', ""),
    "inp": (INP(draws=4), 'kind = "gaussian-node"\nsigma = 0.1', "injected_noise"),
    "reinforce": (REINFORCE(draws=8), 'kind = "gaussian-node"\nsigma = 0.1', "injected_noise"),
    "wp": (WP(draws=50), 'kind = "gaussian-weight"\nsigma = 0.05', "injected_weight_noise"),
}


@pytest.mark.filterwarnings("ignore::noisylearn.chips.simulated.NoiseLevelWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", RULES)
def test_every_rule_learns_through_spikes(name: str, kind: str) -> None:
    rule, noise, shown = RULES[name]
    model = networks.Spiking(10, 20, 4, neuron=kind, seed=0)
    chip = Chip(model, machine(noise, observable=("clean_pass", shown) if shown else ()), seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01 if rule.update == "sequence" else 0.002)
    losses = []
    inputs, targets = spike_trains()
    for _ in range(30):
        losses.append(float(rule.run(chip, inputs, targets, cross_entropy, optimizer).mean()))
        if rule.update == "sequence":
            optimizer.step()
            chip.program()
    assert losses[-1] < 0.85 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_reset_to_zero_by_hand_and_on_a_chip(kind: str) -> None:
    inputs, targets = spike_trains()
    model = networks.Spiking(10, 8, 4, neuron=kind, threshold=0.3, seed=0, reset="zero")
    BPTT().run(Chip(model), inputs, targets, cross_entropy)
    state, before = None, (torch.zeros(16, 8), torch.zeros(16, 8), torch.zeros(16, 8))
    fired = 0
    for x in inputs:
        spikes, current, membrane = before
        current = (0.8 * current if kind == "synaptic" else 0) + model.hidden1(x)
        current = current + (model.neurons1.recurrent(spikes) if kind == "rleaky" else 0)
        membrane = 0.9 * membrane + current
        spikes = (membrane > 0.3).float()
        before = (spikes, current, membrane * (1 - spikes))
        _, state = model(x, state)
        torch.testing.assert_close(state[0][-1], before[2], rtol=1e-5, atol=1e-6)
        fired += int(spikes.sum())
    assert fired > 100
    assert model.hidden1.weight.grad.abs().max() > 0
    with pytest.raises(UserError, match="reset 'none'; choose subtract, zero"):
        networks.Spiking(3, 5, 1, reset="none")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"threshold -1\.0: neurons at rest would fire"):
        networks.Spiking(3, 5, 1, threshold=-1.0)


def test_a_sequence_starts_at_rest_whatever_went_before() -> None:
    model = networks.Spiking(10, 8, 4, seed=0)
    inputs, targets = spike_trains()
    chip = Chip(model)
    first = BPTT().run(chip, inputs, targets, cross_entropy)
    assert torch.equal(first, BPTT().run(chip, inputs, targets, cross_entropy))


def test_neurons_have_decays_and_thresholds_of_their_own() -> None:
    model = networks.Spiking(3, 4000, 1, neuron="synaptic", seed=0)
    chip = Chip(model, machine(specification=SPREAD), seed=1)
    x = torch.zeros(1, 2, 3)
    state = chip.digital_pass(Segment(x, in_time=True), on_devices=True).end.network
    drawn = {key: value.double().numpy() for key, value in chip.state()["neurons/neurons1"].items()}
    assert set(drawn) == {"alpha", "beta", "threshold"}
    for name, sigma in (("alpha", 0.05), ("beta", 0.05), ("threshold", 0.1)):
        assert moments_agree(drawn[name], 1.0, sigma**2, ALARM)
    before = tuple(torch.full_like(part, 0.7) for part in state[0])
    later = Segment(x, True, Trajectory((before, state[1])))
    after = chip.digital_pass(later, on_devices=True).end.network
    current = model.hidden1(torch.zeros(2, 3))
    synaptic = (0.8 * torch.from_numpy(drawn["alpha"])).float() * 0.7 + current
    membrane = (0.9 * torch.from_numpy(drawn["beta"])).float().clamp(0, 1) * 0.7 + synaptic
    fired = torch.from_numpy(drawn["threshold"]).float() < 0.7
    torch.testing.assert_close(after[0][0], synaptic)
    torch.testing.assert_close(after[0][1], membrane - fired * torch.from_numpy(drawn["threshold"]).float())
    assert float(model.neurons1.beta) == pytest.approx(0.9), "the model itself is left alone"
    digital = chip.digital_pass(later).end.network
    torch.testing.assert_close(digital[0][0], 0.8 * 0.7 + current, msg="off the chip there is no spread")


def test_the_spread_of_neurons_is_in_a_checkpoint() -> None:
    chips = [Chip(networks.Spiking(3, 5, 1, seed=0), machine(specification=SPREAD), seed=seed) for seed in (1, 2)]
    x = torch.ones(2, 3)
    chips[0].digital_pass(Segment(x[None], in_time=True), on_devices=True)
    chips[1].load_state(chips[0].state())
    chips[1].digital_pass(Segment(x[None], in_time=True), on_devices=True)
    for key, value in chips[0].state()["neurons/neurons1"].items():
        assert torch.equal(value, chips[1].state()["neurons/neurons1"][key])


@pytest.mark.parametrize(
    ("threshold", "says"), [(1e3, "'neurons1' never fired"), (-1e3, "'neurons1' fired at every step")]
)
def test_neurons_that_never_or_always_fire_are_named(threshold: float, says: str) -> None:
    inputs, targets = spike_trains()
    model = networks.Spiking(10, 8, 4, seed=0)
    model.neurons1.threshold.fill_(threshold)
    with pytest.warns(FiringWarning, match=says):
        BPTT().run(Chip(model), inputs, targets, cross_entropy)


def test_without_snntorch_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "snntorch", None)
    with pytest.raises(UserError, match=r"pip install '\.\[spiking\]'"):
        networks.Spiking(3, 5, 1)


def test_an_unknown_neuron_is_named() -> None:
    with pytest.raises(UserError, match="neuron 'lif'; choose leaky, rleaky, synaptic"):
        networks.Spiking(3, 5, 1, neuron="lif")  # type: ignore[arg-type]
