"""Steps of sequences that are recorded and played again, as by CUDA graphs.

Without a GPU a tape takes the place of the graph: it keeps every kernel that ran, with the addresses it read and
wrote, and runs the same kernels at the same addresses. Like a CUDA graph it cannot run Python again.
"""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import noisylearn as nl
from noisylearn.chips.execution.cuda_graphs import Capture, cuda_graph
from noisylearn.chips.execution.executor import StackedExecutor
from noisylearn.chips.execution.replay import CAPTURES
from noisylearn.chips.readings import Plan
from noisylearn.chips.segments import START, Segment

T, BATCH = 6, 3
GPU = torch.device("cuda:0")
NOISE = Plan(((True, True), (True, True)))


class Tape(TorchDispatchMode):
    """Records kernels, and runs them again."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[tuple[Any, Any, Any, Any]] = []
        self.played = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        self.kernels.append((function, args, kwargs or {}, found))
        return found

    def play(self) -> None:
        self.played += 1
        with torch.no_grad():
            for function, args, kwargs, found in self.kernels:
                again = function(*args, **kwargs)
                for into, value in zip(tree_leaves(found), tree_leaves(again), strict=True):
                    if isinstance(into, Tensor) and into.data_ptr() != value.data_ptr():
                        into.copy_(value)


class Tapes:
    """A recorder that keeps its tapes."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []

    def __call__(self, call: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        tape = Tape()
        with tape:
            found = call()
        for kernel in tape.kernels:  # a recorded kernel has not run
            for leaf in tree_leaves(kernel[3]):
                if isinstance(leaf, Tensor) and leaf._base is None and leaf.is_floating_point():
                    leaf.fill_(torch.nan)
        self.tapes.append(tape)
        return found, tape.play

    @property
    def played(self) -> int:
        return sum(tape.played for tape in self.tapes)


def recording_chip(model: nn.Module, record: Capture, profile: str = "gaussian-node") -> nl.Chip:
    chip = nl.Chip(model, profile, seed=1)
    chip._executor = StackedExecutor(model, chip.draws, {}, record)
    return chip


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().mean(1)


class Convolving(nn.Module):
    """A user's network in time, with a bias, a convolution and a dict of states."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 2)
        self.readout = nn.Linear(6, 1)

    def forward(self, x: Tensor, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
        before = state["x"] if state else torch.zeros_like(x)
        now = torch.tanh(self.conv((x + before)[:, None]).flatten(1))
        return self.readout(now), {"x": x + now[:, :4] * 0.1}


MODELS: dict[str, Callable[[], nn.Module]] = {
    "rnn": lambda: nl.networks.RNN(4, 5, 1, seed=2),
    "two layers, bias": lambda: nl.networks.RNN(4, (5, 3), 1, bias=True, seed=2),
    "decorrelated": lambda: nl.networks.RNN(4, 5, 1, decorrelation_rate=1e-2, seed=2),
    "convolving": Convolving,
}
RULES: dict[str, nl.rules.Rule] = {
    "anp": nl.rules.ANP(baseline="noisy"),
    "anp, 3 draws": nl.rules.ANP(baseline="mean", draws=3),
    "np": nl.rules.NP(),
    "inp": nl.rules.INP(),
}


def trained(chip: nl.Chip, rule: nl.rules.Rule, steps: int = 5, length: int = T) -> list[Tensor]:
    """Losses of some steps of training on data that change, and the weights after them."""
    optimizer = torch.optim.Adam(chip.model.parameters(), lr=0.01)
    found = []
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        x = torch.randn(length, BATCH, 4, generator=generator)
        found.append(rule.run(chip, x, x[..., :1].roll(1, 0), squared_error, optimizer))
        optimizer.step()
        chip.program()
        found.append(chip.follow(x).flatten())
    return [
        *found,
        *(p.detach().flatten() for p in chip.model.parameters()),
        *(b.flatten() for b in chip.model.buffers()),
    ]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_recorded_steps_give_the_bits_of_plain_ones(model: Callable[[], nn.Module], rule: nl.rules.Rule) -> None:
    tapes = Tapes()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = trained(nl.Chip(model(), "gaussian-node", seed=1), rule)
        torch.manual_seed(0)
        recorded = trained(recording_chip(model(), tapes), rule)
    assert tapes.played >= 8, "nothing was played"
    for one, other in zip(plain, recorded, strict=True):
        assert torch.equal(one, other)


def test_a_played_reading_is_not_overwritten_by_the_next() -> None:
    tapes = Tapes()
    chip = recording_chip(MODELS["rnn"](), tapes)
    x = torch.randn(T, BATCH, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        kept = chip.passes(Segment(x, in_time=True), NOISE)
    before = kept.output.clone(), kept.layers["hidden1"].activity.clone(), kept.end.network[0].clone()
    chip.passes(Segment(-x, in_time=True), NOISE)
    assert tapes.played == 2
    for value, found in zip(before, (kept.output, kept.layers["hidden1"].activity, kept.end.network[0]), strict=True):
        assert torch.equal(value, found)


def test_states_go_on_from_one_recording_to_the_next() -> None:
    x = torch.randn(4 * T, BATCH, 4, generator=torch.Generator().manual_seed(0))
    tapes = Tapes()
    plain, recorded = nl.Chip(MODELS["rnn"](), "ideal"), recording_chip(MODELS["rnn"](), tapes, "ideal")
    found = []
    for chip in (plain, recorded):
        end, outputs = START, []
        for part in x.split(T):
            readings = chip.passes(Segment(part, True, end), Plan(((False, False),)))
            end = readings.end
            outputs.append(readings.output)
        found.append(torch.cat(outputs, 1))
    assert torch.equal(*found)
    assert tapes.played == 2, "the first part starts without a state, the second is the first of its kind"


def test_a_parameter_that_moved_is_recorded_anew() -> None:
    tapes = Tapes()
    model = MODELS["decorrelated"]()
    plain_model = MODELS["decorrelated"]()
    chip, plain = recording_chip(model, tapes, "ideal"), nl.Chip(plain_model, "ideal")
    x = torch.randn(T, BATCH, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        chip.follow(x)
    for one in (model, plain_model):
        one.decorrelation1.matrix = torch.eye(5) * 2
    for _ in range(3):
        assert torch.equal(chip.follow(x), plain.follow(x))
    assert len(tapes.tapes) == 2


def test_hooks_see_every_step() -> None:
    tapes = Tapes()
    model = MODELS["rnn"]()
    chip = recording_chip(model, tapes)
    seen = []
    model.get_submodule("activation").register_forward_hook(lambda *_: seen.append(1))
    x = torch.zeros(T, BATCH, 4)
    for _ in range(3):
        chip.passes(Segment(x, in_time=True), NOISE)
    assert not tapes.tapes
    assert len(seen) == 3 * T


@pytest.mark.parametrize("profile", ["pcm-nandakumar-2019", "gaussian-weight"])
def test_noise_of_reads_and_of_weights_stays_plain(profile: str) -> None:
    tapes = Tapes()
    chip, plain = recording_chip(MODELS["rnn"](), tapes, profile), nl.Chip(MODELS["rnn"](), profile, seed=1)
    x = torch.randn(T, BATCH, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        assert torch.equal(
            chip.passes(Segment(x, in_time=True), NOISE).output, plain.passes(Segment(x, in_time=True), NOISE).output
        )
    assert not tapes.tapes


def test_few_recordings_are_held() -> None:
    tapes = Tapes()
    chip = recording_chip(MODELS["rnn"](), tapes)
    for length in range(2, 4 + CAPTURES):
        for _ in range(2):
            chip.passes(Segment(torch.zeros(length, BATCH, 4), in_time=True), NOISE)
    assert len(recordings(chip)) == CAPTURES
    for _ in range(2):
        chip.passes(Segment(torch.zeros(1, BATCH, 4), in_time=True), NOISE)
    assert len(tapes.tapes) == 2 + CAPTURES, "a single step is not worth a recording"


def test_kinds_that_come_once_push_no_recording_out() -> None:
    tapes = Tapes()
    chip = recording_chip(MODELS["rnn"](), tapes)
    for length in (T, *range(100, 130)):
        for _ in range(2 if length == T else 1):
            chip.passes(Segment(torch.zeros(length, BATCH, 4), in_time=True), NOISE)
    chip.passes(Segment(torch.zeros(T, BATCH, 4), in_time=True), NOISE)
    assert (len(tapes.tapes), tapes.played) == (1, 2)


def recordings(chip: nl.Chip) -> list[object]:
    recorded = chip._executor._replayed
    assert recorded is not None
    return [kind.captured for kind in recorded._kinds.values() if kind.captured is not None]


def test_a_chip_that_is_dropped_takes_its_recordings_along() -> None:
    chip = recording_chip(MODELS["rnn"](), Tapes())
    for _ in range(2):
        chip.passes(Segment(torch.zeros(T, BATCH, 4), in_time=True), NOISE)
    gc.disable()
    try:
        held = weakref.ref(recordings(chip)[0])
        del chip
        assert held() is None
    finally:
        gc.enable()


class Own(nn.Module):
    """A network whose state, modules and use of layers can be chosen."""

    def __init__(self, state: Callable[[int], Any] = lambda t: None, uses: int = T, dtype: Any = torch.float32) -> None:
        super().__init__()
        self.inner, self.act = nn.Linear(4, 4), nn.Tanh()
        self.readout = nn.Linear(4, 1, dtype=dtype)
        self.state_after, self.uses, self.t = state, uses, 0

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        self.t = self.t % T + 1
        hidden = self.act(self.inner(x.float()) if self.t <= self.uses else x.float())
        return self.readout(hidden.to(self.readout.weight.dtype)).float(), self.state_after(self.t)


def agrees(model: Own, plain: Own, x: Tensor, profile: str = "gaussian-node") -> Tapes:
    """Sees that a recording chip and a plain one give the same, several times over."""
    tapes = Tapes()
    plain.load_state_dict(model.state_dict())
    chips = recording_chip(model, tapes, profile), nl.Chip(plain, profile, seed=1)
    for _ in range(4):
        one, other = (chip.passes(Segment(x, in_time=True), NOISE).output for chip in chips)
        assert torch.equal(one, other)
    return tapes


X = torch.randn(T, BATCH, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "values"),
    [("act", nn.ReLU()), ("forward of act", torch.sin), ("training of act", False)],
    ids=["module", "forward", "training"],
)
def test_other_modules_and_ways_are_recorded_anew(change: str, values: Any) -> None:
    tapes = Tapes()
    model, plain = Own(), Own()
    plain.load_state_dict(model.state_dict())
    chips = recording_chip(model, tapes, "ideal"), nl.Chip(plain, "ideal")
    for changed in (False, True):
        if changed:
            for one in (model, plain):
                if change == "act":
                    one.act = values
                elif change == "forward of act":
                    one.act.forward = values
                else:
                    one.act.eval()
        for _ in range(3):
            assert torch.equal(*(chip.follow(X) for chip in chips))
    assert len(tapes.tapes) == 2


def test_states_of_more_than_tensors_stay_plain() -> None:
    assert not agrees(Own(state=lambda t: {"t": t}), Own(state=lambda t: {"t": t}), X).tapes
    assert agrees(Own(), Own(), X).tapes


def test_inputs_of_whole_numbers_and_layers_of_two_precisions() -> None:
    assert agrees(Own(), Own(), (X > 0).long()).tapes
    assert agrees(Own(dtype=torch.float64), Own(dtype=torch.float64), X).tapes


def test_a_layer_that_not_every_step_uses_is_named_every_time() -> None:
    chip = recording_chip(Own(uses=2), Tapes())
    chip._executor._found_pure.add((True, X.shape[2:], X.dtype))  # which takes steps of its own
    for _ in range(3):
        with pytest.raises(nl.UserError, match="layer 'inner' was not used"):
            chip.passes(Segment(X, in_time=True), NOISE)


def test_recordings_under_inference_mode_serve_that_alone() -> None:
    tapes = Tapes()
    chip, plain = recording_chip(MODELS["rnn"](), tapes, "ideal"), nl.Chip(MODELS["rnn"](), "ideal")
    for inference in (True, False, True):
        with torch.inference_mode(inference):
            for _ in range(3):
                assert torch.equal(chip.follow(X), plain.follow(X))
    assert len(tapes.tapes) == 2


def test_graphs_without_a_gpu_are_refused() -> None:
    with pytest.raises(nl.UserError, match="the model is on cpu"):
        nl.Chip(MODELS["rnn"](), "ideal", cuda_graphs=True)


class NoGpu:
    """Stands in for streams, graphs and their contexts, to see what is asked of them."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.replays = 0

    def wait_stream(self, _: Any) -> None:
        pass

    def replay(self) -> None:
        self.replays += 1

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Stream", "stream", "CUDAGraph", "graph", "current_stream", "device", "set_stream"):
        monkeypatch.setattr(torch.cuda, name, NoGpu)


def test_a_graph_is_recorded_after_a_run_beside_it(no_gpu: None) -> None:
    runs = []
    found, play = cuda_graph(GPU)(lambda: runs.append(len(runs)) or len(runs))
    assert (found, runs) == (2, [0, 1])
    play()
    assert play.__self__.replays == 1


def test_what_a_graph_cannot_record_is_said_in_one_line(no_gpu: None) -> None:
    calls = iter([None, RuntimeError("operation not permitted when stream is capturing\nmore")])

    def call() -> None:
        if error := next(calls):
            raise error

    with pytest.raises(nl.UserError, match=r"^cuda_graphs: .* \(operation not .* capturing\); leave the option out$"):
        cuda_graph(GPU)(call)


class Looking(nn.Module):
    """A network whose Python depends on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.readout = nn.Linear(4, 1)

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.readout(x if bool(x.sum() > 0) else -x), state


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("name", MODELS)
def test_cuda_graphs_agree_with_the_plain_loop(name: str, rule: nl.rules.Rule) -> None:
    found = []
    for graphs in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = MODELS[name]().cuda()
        chip = nl.Chip(model, "gaussian-node", seed=1, cuda_graphs=graphs)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        losses = []
        for seed in range(5):
            x = torch.randn(T, BATCH, 4, generator=torch.Generator().manual_seed(seed)).cuda()
            losses.append(rule.run(chip, x, x[..., :1].roll(1, 0), squared_error, optimizer))
            optimizer.step()
            chip.program()
        found.append(torch.stack(losses))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_waits_for_the_gpu_is_named() -> None:
    chip = nl.Chip(Looking().cuda(), "gaussian-node", cuda_graphs=True)
    x = torch.ones(T, BATCH, 4, device="cuda")
    chip.follow(x)
    with pytest.raises(nl.UserError, match="cannot be recorded"):
        chip.follow(x)
