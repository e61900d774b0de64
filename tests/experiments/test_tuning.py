"""Trials of settings: what is proposed, the same for every rule and any number of workers, and the file of a sweep."""

import math
import re
from collections import Counter

import pytest

from noisylearn.engines import Here, Processes
from noisylearn.experiments.compare import compare
from noisylearn.experiments.run_file import OF_THE_OCCASION
from noisylearn.experiments.sweep import read_sweep
from noisylearn.experiments.tuning import Range, Tuning, best_of
from noisylearn.ground.errors import UserError
from noisylearn.ground.tree_file import differences
from noisylearn.profiles import load_profile

FILE = """
task = "digits"
rules = ["anp", "bp"]
profiles = ["gaussian-node"]
seeds = [0, 1]

[settings]
epochs = 2
batch = 50
hidden = [16]

[search]
method = "random"
trials = 2
epochs = 1

[search.over]
lr = { low = 1e-3, high = 1e-2, log = true }
draws = [1, 2]
"""


def proposed(tuning, score=lambda settings: 0.0):
    """All that is proposed, with the scores of a function."""
    proposals, found = tuning.proposals(), []
    batch = next(proposals)
    while True:
        found.append(batch)
        try:
            batch = proposals.send([score(one) for one in batch])
        except StopIteration:
            return found


def test_a_grid_is_every_combination_once():
    tuning = Tuning({"lr": (1e-3, 1e-2), "hidden": ((8,), (16,), (8, 8))})
    (batch,) = proposed(tuning)
    assert tuning.number == len(batch) == 6
    assert {(one["lr"], one["hidden"]) for one in batch} == {
        (lr, hidden) for lr in (1e-3, 1e-2) for hidden in ((8,), (16,), (8, 8))
    }


def test_random_values_fill_their_range():
    """Log-uniform: as many in every decade; whole numbers with both bounds: all alike. 5 sd of a binomial of 3,000."""
    over = {
        "lr": Range(low=1e-4, high=1e-1, log=True),
        "draws": Range(low=1, high=4),
        "schedule": ("constant", "cosine"),
    }
    (batch,) = proposed(Tuning(over, method="random", trials=3000, seed=5))
    decades = Counter(math.floor(math.log10(one["lr"])) for one in batch)
    draws, schedules = Counter(one["draws"] for one in batch), Counter(one["schedule"] for one in batch)
    for counts, classes in ((decades, {-4, -3, -2}), (draws, {1, 2, 3, 4}), (schedules, {"constant", "cosine"})):
        share = 1 / len(classes)
        assert set(counts) == classes
        for count in counts.values():
            assert abs(count - 3000 * share) < 5 * math.sqrt(3000 * share * (1 - share))
    assert all(isinstance(one["draws"], int) for one in batch)
    assert proposed(Tuning(over, method="random", trials=3000, seed=5)) == [batch]
    assert proposed(Tuning(over, method="random", trials=3000, seed=6)) != [batch]


@pytest.mark.parametrize(("low", "high"), [(1, 4), (1.0, 4.0)])
@pytest.mark.parametrize("log", [False, True])
def test_bounds_of_a_range(low, high, log):
    of = Range(low=low, high=high, log=log)
    assert of.at(0.0) == pytest.approx(1)
    assert of.at(1 - 1e-12) == pytest.approx(4)
    assert of.at(0.5) == ({True: 2, False: 3}[log] if isinstance(low, int) else pytest.approx(2.0 if log else 2.5))


def test_optuna_proposes_from_the_scores_so_far():
    """Around the optimum of a bowl, more closely than values drawn independently; trials that ran away are no end."""
    over = {"lr": Range(low=1e-5, high=1.0, log=True), "hidden": ((8,), (16,))}

    def bowl(settings):
        if settings["lr"] > 0.5:
            return math.nan
        return (math.log10(settings["lr"]) + 2) ** 2 + (settings["hidden"] == (8,))

    batches = proposed(Tuning(over, method="optuna", trials=40, seed=1), bowl)
    assert [len(batch) for batch in batches] == [4] * 10
    late = [one for batch in batches[6:] for one in batch]
    (drawn,) = proposed(Tuning(over, method="random", trials=40, seed=1), bowl)
    mean = {
        name: sum(filter(math.isfinite, map(bowl, of))) / len(of) for name, of in (("late", late), ("drawn", drawn))
    }
    assert mean["late"] < 0.5 * mean["drawn"]
    assert proposed(Tuning(over, method="optuna", trials=40, seed=1), bowl) == batches


def test_the_best_trial():
    trials = [{"lr": 0.3, "score": 2.0}, {"lr": 0.1, "score": 1.0}, {"lr": 0.01, "score": math.nan}]
    assert best_of(trials) == {"lr": 0.1}
    assert best_of([{**one, "score": math.nan} for one in trials]) == {"lr": 0.01}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"over": {}}, "a search needs settings"),
        ({"over": {"lr": ()}}, "lr: []; give values to try, each once"),
        ({"over": {"lr": (1, 1)}}, "lr: [1, 1]; give values to try, each once"),
        ({"over": {"lr": Range(low=1, high=2)}}, "lr: a grid needs a list"),
        ({"over": {"lr": (1,)}, "trials": 2}, "a grid tries every combination"),
        ({"over": {"lr": (1,)}, "method": "random"}, "random and optuna need their number"),
        ({"over": {"lr": (1,)}, "method": "randem"}, "did you mean random?"),
        ({"over": {"lr": tuple(range(101)), "draws": tuple(range(100))}}, "10100 trials for every rule"),
        ({"over": {"lr": (1,)}, "epochs": 0}, "epochs of a trial: 0"),
    ],
)
def test_searches_that_are_refused(arguments, named):
    with pytest.raises(UserError, match=re.escape(named)):
        Tuning(**arguments)


def test_optuna_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setattr("noisylearn.experiments.tuning.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install '\.\[optuna\]'"):
        Tuning({"lr": (1, 2)}, method="optuna", trials=2)


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_workers(tmp_path):
    """Every file of a comparison with trials, bit for bit; here with one thread as in the workers."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {}
    try:
        for name, engine in (("here", Here()), ("2", Processes(2)), ("3", Processes(3))):
            out = tmp_path / name
            out.mkdir()
            (tmp_path / "sweep.toml").write_text(FILE)
            asked = read_sweep(tmp_path / "sweep.toml")
            request = asked.task, asked.rules, [load_profile("gaussian-node")], asked.seeds, asked.settings
            found[name] = compare(*request, out, tuning=asked.tuning(), engine=engine)
    finally:
        torch.set_num_threads(threads)
    for name in ("2", "3"):
        for one, other in zip(found["here"], found[name], strict=True):
            assert (one.trials, one.settings, len(one.runs)) == (other.trials, other.settings, 2)
            for run, same in zip(one.runs, other.runs, strict=True):
                assert not list(differences(run, same, OF_THE_OCCASION))
        names = {path.name for path in (tmp_path / "here").glob("*.h5")}
        assert names == {path.name for path in (tmp_path / name).glob("*.h5")}
    assert len(names) == 2 * 2 + 2 * 2
    assert [sorted(row.trials[0]) for row in found["here"]] == [["draws", "lr", "score"]] * 2


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("task = 'digits'", "rules: is required"),
        (FILE.replace("rules", "ruels"), "did you mean rules"),
        (FILE.replace('"random"', '"rondom"'), "search.method"),
        (FILE.replace("log = true", "lag = true"), "unknown key 'lag'"),
        (FILE.replace("low = 1e-3", "low = 1"), "low is below high"),
        (FILE.replace("low = 1e-3", "low = nan"), "low"),
        (FILE.replace("trials = 2", "trials = 0"), "search.trials"),
        (FILE.replace("seeds = [0, 1]", "seeds = []"), "seeds"),
        (FILE.replace("[1, 2]", "[]"), "draws"),
        (FILE.replace("batch = 50", "lr = 1.0"), "settings: lr: the search decides it"),
        (FILE.replace("draws = [1, 2]", "seed = [1, 2]"), "search.over: seed: not chosen by trials"),
        (
            FILE.replace("epochs = 2", "").replace("draws = [1, 2]", "epochs = [1, 2]"),
            "search.over: epochs: not chosen by trials",
        ),
        ("[" * 100, "nested"),
    ],
)
def test_files_that_are_refused(text, named, tmp_path):
    (tmp_path / "sweep.toml").write_text(text)
    with pytest.raises(UserError, match=named) as refusal:
        read_sweep(tmp_path / "sweep.toml").tuning()
    assert "\n" not in str(refusal.value)
