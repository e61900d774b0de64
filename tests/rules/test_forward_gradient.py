"""Forward gradients against autograd, with the directions that they drew."""

import numpy as np
import pytest
import torch
from support.checks import gradients, node_profile, sample_batch, tanh_net
from torch import Tensor, nn

from noisylearn import Chip, UserError, networks
from noisylearn.ground.draws import RecordedDraws
from noisylearn.rules import BPTT, NP, Delta, ForwardGradient, Learner, PerLayer

X, T = sample_batch(5, 3, 2)
LAYERS = ("0", "2")


def loss_fn(output: Tensor) -> Tensor:
    return ((output - T) ** 2).sum(1) + 0.1 * output.sum(1) ** 3


def recorded(rule: ForwardGradient, model: nn.Module) -> dict[str, Tensor]:
    """Directions of one estimate, by the last part of their streams' names; the estimate is left in `.grad`."""
    draws = RecordedDraws(11)
    rule.estimate(Chip(model, "ideal", draws=draws), X, loss_fn)
    return {name[-1]: drawn[-1].double() for name, drawn in draws.record.items() if name[0] == "rule"}


def signals(model: nn.Sequential) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """dL/da of every layer and sample by autograd, and the layer's input."""
    a1 = model[0](X)
    h = torch.tanh(a1)
    a2 = model[2](h)
    g1, g2 = torch.autograd.grad(loss_fn(a2).sum(), [a1, a2])
    return {"0": g1, "2": g2}, {"0": X, "2": h.detach()}


@pytest.mark.parametrize("draws", [1, 2])
def test_activity_directions_give_the_derivative_along_them(draws: int) -> None:
    model = tanh_net(3, 4, 2)
    v = recorded(ForwardGradient(draws=draws), model)
    found, (g, inputs) = gradients(model), signals(model)
    for name in LAYERS:
        signal = torch.zeros_like(g[name])
        for k in range(draws):
            slope = sum((g[one] * v[f"draw {k}, {one}, 0"]).sum(1) for one in LAYERS)
            signal += slope[:, None] * v[f"draw {k}, {name}, 0"] / draws
        np.testing.assert_allclose(found[f"{name}.weight"], signal.T @ inputs[name] / len(X), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found[f"{name}.bias"], signal.mean(0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("draws", [1, 2])
def test_weight_directions_give_the_derivative_along_them(draws: int) -> None:
    model = tanh_net(3, 4, 2)
    v = recorded(ForwardGradient(perturb="weight", draws=draws), model)
    found = gradients(model)
    names = [(name, key) for name in LAYERS for key in ("weight", "bias")]
    exact = torch.autograd.grad(loss_fn(model(X)).mean(), [model.get_parameter(f"{n}.{k}") for n, k in names])
    expected = dict.fromkeys(names, 0.0)
    for k in range(draws):
        own = {name: v[f"draw {k}, {name[0]}, {name[1]}"] for name in names}
        slope = sum((g * own[name]).sum() for name, g in zip(names, exact, strict=True))
        expected = {name: expected[name] + slope * own[name] / draws for name in names}
    for name, one in expected.items():
        np.testing.assert_allclose(found[".".join(name)], one, rtol=1e-6, atol=1e-9)


def test_every_step_has_directions_of_its_own_and_a_resumed_one_the_same() -> None:
    rule, rows = ForwardGradient(), []
    first = Chip(tanh_net(3, 4, 2), "ideal")
    for _ in range(3):
        rule.estimate(first, X, loss_fn)
        rows.append(gradients(first.model)["0.weight"])
    assert not np.array_equal(rows[0], rows[1])
    second = Chip(tanh_net(3, 4, 2), "ideal", seed=5)
    other = Learner(rule, second)
    other.state = {"steps": torch.tensor(2)}
    other.estimate(X, loss_fn)
    assert not np.array_equal(rows[2], gradients(second.model)["0.weight"]), "another seed"
    third = Chip(tanh_net(3, 4, 2), "ideal")
    Learner(rule, third).state = {"steps": torch.tensor(2)}
    rule.estimate(third, X, loss_fn)
    assert np.array_equal(rows[2], gradients(third.model)["0.weight"])


def test_all_losses_of_a_sequence_make_it_unbiased_for_the_gradient_through_time() -> None:
    """Along the directions drawn: the projection on the gradient of many draws, mean 1, error from its spread."""
    torch.manual_seed(0)
    model = networks.RNN(2, 6, 3).double()
    x, t = torch.randn(4, 2000, 2, dtype=torch.float64), torch.randn(4, 1, 3, dtype=torch.float64).expand(4, 2000, 3)
    x = x[:, :1].expand_as(x)

    def step_loss(output: Tensor, target: Tensor) -> Tensor:
        return ((output - target) ** 2).sum(1)

    chip = Chip(model, "ideal")
    BPTT().run(chip, x[:, :1], t[:, :1], step_loss)
    exact = np.concatenate([g.ravel() for g in gradients(model).values()])
    ratios = []
    for _ in range(20):
        ForwardGradient(credit="reward-to-go").run(chip, x, t, step_loss)
        found = np.concatenate([g.ravel() for g in gradients(model).values()])
        ratios.append(found @ exact / (exact @ exact))
    error = 5.0 * np.std(ratios, ddof=1) / np.sqrt(len(ratios))  # t of 19: a false alarm in 10^4
    assert error < 0.1
    assert abs(np.mean(ratios) - 1) < error


def test_a_map_of_rules_counts_its_pass_too() -> None:
    model = tanh_net(3, 4, 2)
    rule = PerLayer(rules={"2": Delta(), "*": ForwardGradient(draws=3)})
    assert rule.forward_passes(2) == 3 + 1
    both = PerLayer(rules={"2": NP(), "*": ForwardGradient()})
    assert both.forward_passes(2) == 2 + 1
    for one in (rule, both):
        one.estimate(Chip(model, node_profile(1e-2)), X, loss_fn)
        assert set(gradients(model)) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_what_it_cannot_do_is_said() -> None:
    spiking = Chip(networks.Spiking(3, (4,), 2), "ideal")
    x = torch.rand(4, 5, 3)
    with pytest.raises(UserError, match=r"no forward-mode derivative.*use bp"):
        ForwardGradient().run(spiking, x, torch.zeros(4, 5, 2), lambda y, t: ((y - t) ** 2).sum(1))
    with pytest.raises(UserError, match="credit 'trace' goes with perturb 'activity'"):
        ForwardGradient(credit="trace", update="online")
    with pytest.raises(UserError, match="credit 'sequence' goes with perturb 'activity'"):
        ForwardGradient(credit="sequence", perturb="weight")
    with pytest.raises(UserError, match="draws = 0"):
        ForwardGradient(draws=0)
