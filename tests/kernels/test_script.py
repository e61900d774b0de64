"""The script for the first day with a GPU, on the CPU."""

import json
import sys
from pathlib import Path

import pytest
import torch

import noisylearn as nl
from noisylearn.ground.counter_draws import CounterDraws

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import gpu
import gpu_checks
import gpu_times
from timing import interleaved

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(autouse=True)
def _threads():
    """The script sets their number."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def called(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    return gpu.main()


@NO_GPU
def test_without_a_gpu_it_says_so_in_one_line(monkeypatch, capsys) -> None:
    assert called(monkeypatch, "--all") == 2
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", gpu.NO_GPU + "\n")


@NO_GPU  # kernels are not interpreted there
def test_on_a_cpu_every_check_holds_and_times_stand_beside_their_floors(monkeypatch, capsys) -> None:
    monkeypatch.setattr(gpu_times, "interleaved", lambda *given: interleaved(*given[:3], seconds=0))
    assert called(monkeypatch, "--device", "cpu", "--all", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    names = [check["name"] for check in found["checks"]]
    assert all(check["holds"] for check in found["checks"])
    assert {name.split(",")[0] for name in names} >= {*nl.rules.REGISTRY}
    assert sum("run file" in name for name in names) == 2
    assert {row["contender"] for row in found["times"]} >= {"plain", "kernel", "torch.nn.RNN, BPTT"}
    assert sum(name.startswith("kernels") for name in names) == 14
    assert all(row["ms"] > row["floor_ms"] > 0 for row in found["times"])


def test_a_difference_is_an_exit_status_and_a_word_in_the_table(monkeypatch, capsys) -> None:
    checks = [gpu_checks.Check("a", 2e-7, 1e-7), gpu_checks.Check("b", float("nan"), 1e-7)]
    monkeypatch.setattr(gpu, "CHECKS", {"some": lambda device: iter(checks)})
    assert called(monkeypatch, "--device", "cpu") == 1
    assert capsys.readouterr().out.count("DIFFERS") == 2


def test_other_noise_is_a_deviation(monkeypatch) -> None:
    rule, cpu = nl.rules.ANP(baseline="noisy"), torch.device("cpu")
    expected = gpu_checks.estimate(rule, gpu_checks.PCM, cpu)
    monkeypatch.setattr(gpu_checks, "CounterDraws", lambda seed, *rest: CounterDraws(seed + 1, *rest))
    assert gpu_checks.deviation(gpu_checks.estimate(rule, gpu_checks.PCM, cpu), expected) > gpu_checks.ROUNDING_64


def test_without_time_it_stops_and_says_what_it_left_out(monkeypatch, capsys) -> None:
    assert called(monkeypatch, "--device", "cpu", "--all", "--minutes", "0", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["checks"]) == 1
    assert not found["times"]
    assert "no time left" in " ".join(found["left_out"])


def test_rounding_of_the_inputs_moves_no_estimate_by_more_than_the_bound(monkeypatch) -> None:
    """What another order of summation does, on a device that is not at hand: the last bit of every input."""
    rules = [rule for kind in nl.rules.REGISTRY.values() for rule in gpu_checks.on_each_profile(kind).items()]
    expected = [gpu_checks.estimate(rule, profile, gpu_checks.CPU) for profile, rule in rules]
    exact = gpu_checks._data
    monkeypatch.setattr(gpu_checks, "_data", lambda *given: exact(*given) * (1 + torch.finfo(torch.float64).eps))
    found = [gpu_checks.estimate(rule, profile, gpu_checks.CPU) for profile, rule in rules]
    worst = max(map(gpu_checks.deviation, found, expected))
    assert 0 < worst < gpu_checks.ROUNDING_64
