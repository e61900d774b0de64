"""Resolution of a run's configuration, and its identity."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from support.small_runs import PCM, profile_text

from noisylearn.experiments import config as config_module
from noisylearn.experiments.build import optimizer_class
from noisylearn.experiments.config import (
    PLACE,
    TrainConfig,
    all_settings,
    idle_options,
    resolve,
    rule_options,
    split_label,
)
from noisylearn.ground.errors import UserError
from noisylearn.profiles import load_profile, parse_profile, profile_files
from noisylearn.rules import REGISTRY, PerLayer
from noisylearn.rules.in_time import InTime
from noisylearn.tasks import describe, names

PACKAGED = config_module.recipes()
GAUSSIAN = load_profile("gaussian-node")
ON_PCM = load_profile(PCM)
RECIPES = {
    "*": {"lr": 1.0, "epochs": 5, "batch": 10, "draws": 3},
    "*/d*": {"decorrelation_rate": 0.5, "lr": 2.0},
    "mnist/*/own-noise": {"lr": 3.0},
    "mnist/danp/own-noise": {"lr": 4.0, "baseline": "noisy"},
    "sarcos": {"hidden": [7]},
    "mackey-glass": {"update": "online"},
}

# a value other than the default for every field
OTHER = {
    "task": "mnist", "rule": "wp", "profile": "b", "baseline": "noisy", "draws": 2, "scale": "layer",
    "forward": "chip", "readout": "delta", "hidden_noise": True,
    "network": "convnet", "credit": "trace", "decay": 0.5, "update": "online",
    "truncate": 3, "seq_len": 7, "neuron": "synaptic", "threshold": 0.5, "reset": "zero", "hidden": (3,),
    "activation": "tanh", "initialisation": "glorot", "optimizer": "sgd", "lr": 2e-3,
    "schedule": "constant", "epochs": 11, "patience": 2, "batch": 7, "batch_parts": 2, "decorrelation_rate": 0.1,
    "weight_normalisation": True,
    "held_out": "validation", "seed": 1, "device": "cuda", "exploration": 0.5, "reward_rate": 0.2,
    "fluctuation": 2e-2, "reversion": 0.3, "directions": "gaussian", "epsilon": 1e-4, "perturb": "weight",
    "control_variate": "error", "route": "direct", "regression": "lms", "forgetting": 0.9, "ridge": 0.2,
    "horizon": 3, "excitation": "noise", "follow_updates": False, "warm_up": 5, "flips": True,
    "kernels": True,
}  # fmt: skip
OF_RULES = {  # options of one rule or two
    "exploration": "nrl", "reward_rate": "nrl", "fluctuation": "oua", "reversion": "oua", "directions": "spsa",
    "epsilon": "spsa", "perturb": "fg", "route": "lf", "regression": "lf", "forgetting": "lf", "ridge": "lf",
    "horizon": "lf", "excitation": "lf", "follow_updates": "lf", "warm_up": "lf",
}  # fmt: skip
BASE = TrainConfig(task="sarcos", rule="anp", profile="a")
DEFAULTS = {
    "baseline": "clean", "draws": 1, "scale": "network", "hidden_noise": False, "credit": "local", "decay": 0.9,
    "update": "sequence", "truncate": None, "forward": "digital", "exploration": 1.0, "reward_rate": 0.1,
    "fluctuation": 0.1, "reversion": 1.0, "directions": "rademacher", "epsilon": 1e-3, "perturb": "activity",
    "control_variate": "none", "route": "layerwise", "regression": "auto", "forgetting": 0.98, "ridge": 1.0,
    "horizon": 1, "excitation": "activity", "follow_updates": True, "warm_up": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _recipes(monkeypatch):
    monkeypatch.setattr(config_module, "recipes", lambda: RECIPES)


def lr(*arguments, **options):
    return resolve(*arguments, options)[0].lr


def renamed(profile, name):
    return parse_profile(profile.full_text.replace(f'name = "{profile.name}"', f'name = "{name}"', 1))


def test_later_recipes_override_and_the_output_says_which():
    config, used = resolve("mnist", "danp", ON_PCM, {})
    assert used == ["*", "*/d*", "mnist/*/own-noise", "mnist/danp/own-noise"]
    assert (config.lr, config.epochs, config.options["baseline"], config.decorrelation_rate) == (4.0, 5, "noisy", 0.5)
    assert (config.rule, config.label, config.profile) == ("anp", "danp", PCM)
    assert resolve("mnist", "anp", GAUSSIAN, {})[1] == ["*"]


def test_what_is_stated_overrides_recipes():
    assert lr("mnist", "danp", ON_PCM, lr=9.0) == 9.0
    assert lr("mnist", "danp", ON_PCM, lr=None) == 4.0


def test_a_pattern_matches_part_by_part():
    profile = renamed(GAUSSIAN, "dark-chip")
    config, used = resolve("mnist", "anp", profile, {})
    assert used == ["*"]
    assert config.decorrelation_rate == 0
    assert resolve("sarcos", "np", profile, {})[0].hidden == (7,)


@pytest.mark.parametrize("name", profile_files())
def test_a_renamed_profile_gets_the_same_settings(name, monkeypatch):
    """Of every rule on every task: what a profile states decides, not what it or its file is called."""
    monkeypatch.setattr(config_module, "recipes", lambda: PACKAGED)
    profile = load_profile(name)
    copy = renamed(profile, "pcm-lab" if not name.startswith("pcm-") else "lab")
    for task in names():
        for label in ("danp", "anp", "np", "lf", "spsa", "bptt" if describe(task).in_time else "bp"):
            (one, used), (other, used_too) = (resolve(task, label, p, {}) for p in (profile, copy))
            assert one == other.model_copy(update={"profile": name})
            assert used == used_too


def test_several_draws_where_the_noise_is_the_devices_own(monkeypatch):
    """On the packaged profiles of devices; with injected noise, or none, a step takes one."""
    monkeypatch.setattr(config_module, "recipes", lambda: PACKAGED)
    draws = {name: resolve("digits", "danp", load_profile(name), {})[0].options["draws"] for name in profile_files()}
    assert {name for name, n in draws.items() if n == 1} == {
        "gaussian-node", "gaussian-weight", "ideal", "loihi2-lava-0.10",
    }  # fmt: skip
    assert set(draws.values()) == {1, 8}


def test_a_changed_device_gets_what_its_content_says():
    assert resolve("mnist", "anp", ON_PCM.only("programming-noise"), {})[1] == ["*"]
    assert resolve("mnist", "anp", ON_PCM.injecting(1e-3), {})[1] == ["*", "mnist/*/own-noise"]


def test_a_condition_that_there_is_not(monkeypatch):
    monkeypatch.setattr(config_module, "recipes", lambda: {"digits/np/pcm-*": {"draws": 2}})
    with pytest.raises(UserError, match=re.escape("recipe 'digits/np/pcm-*': unknown condition 'pcm-*'")):
        resolve("mnist", "anp", GAUSSIAN, {})


def test_baseline_by_profile():
    assert resolve("mnist", "anp", GAUSSIAN, {})[0].options["baseline"] == "clean"
    assert resolve("mnist", "anp", ON_PCM, {})[0].options["baseline"] == "mean"
    assert resolve("mnist", "anp", ON_PCM, {"draws": 1})[0].options["baseline"] == "noisy"
    assert resolve("mnist", "anp", GAUSSIAN, {"baseline": "noisy"})[0].options["baseline"] == "noisy"


def test_labels():
    assert split_label("danp") == ("anp", True)
    assert split_label("anp") == ("anp", False)
    assert split_label("dbp") == ("bp", True)
    with pytest.raises(UserError, match=r"unknown rule 'anq'; did you mean anp"):
        split_label("anq")
    assert resolve("mnist", "dbp", ON_PCM, {})[0].label == "dbp"


def test_names_are_known_in_either_case_and_by_their_class():
    named = resolve("mnist", "DANP", ON_PCM, {"optimizer": "AdamW"})
    assert named == resolve("mnist", "danp", ON_PCM, {"optimizer": "adamw"})
    assert optimizer_class("Adam") is torch.optim.Adam
    for name, rule in (("LearnedFeedback", "lf"), ("forwardgradient", "fg"), ("ANPP", "anp")):
        with pytest.raises(UserError, match=rf"unknown rule '{name}'; did you mean {rule}\b"):
            split_label(name)


def test_every_option_of_a_rule_is_a_setting():
    """Names, types and defaults, against the fields of the records themselves."""
    settings = all_settings()
    for kind in REGISTRY.values():
        for field in dataclasses.fields(kind):
            assert settings[field.name].default == field.default
            assert settings[field.name].help.endswith(".")
    assert {name: settings[name].default for name in rule_options()} == DEFAULTS


def test_packaged_recipes_state_what_there_is():
    """Every key is a setting, and every value is taken by some rule and network."""
    for pattern, recipe in PACKAGED.items():
        for key, value in recipe.items():
            rule = "bptt" if "bptt" in pattern else "bp" if "bp" in pattern else "anp"
            config = TrainConfig(task="mnist", rule=rule, profile="a", **{key: value})
            assert config.model_dump(mode="json")[key] == value, pattern


def test_a_recipe_that_states_what_there_is_not(monkeypatch):
    monkeypatch.setattr(config_module, "recipes", lambda: {"digits/np": {"drawz": 2}})
    with pytest.raises(UserError, match=re.escape("recipe 'digits/np': unknown key 'drawz'; did you mean draws")):
        resolve("mnist", "anp", GAUSSIAN, {})


def test_the_name_of_a_rule_states_the_option_alone():
    with pytest.raises(UserError, match="truncate is stated by the rule's name, such as tbptt<k>; leave it out"):
        resolve("mackey-glass", "tbptt3", GAUSSIAN, {"truncate": 5})


def test_delta_at_the_readout():
    rule = resolve("mnist", "anp", GAUSSIAN, {"readout": "delta"})[0].build_rule()
    assert isinstance(rule, PerLayer)


@pytest.mark.parametrize(
    ("label", "options", "named"),
    [
        ("bp", {"draws": 2}, "--draws has no effect on rule bp"),
        ("bp", {"baseline": "noisy"}, "--baseline has no effect"),
        ("bp", {"baseline": "clean"}, "--baseline has no effect"),
        ("bp", {"readout": "delta"}, "--readout has no effect"),
        ("np", {"scale": "layer"}, "--scale has no effect"),
        ("anp", {"forward": "chip"}, "--forward has no effect"),
        ("anp", {"decorrelation_rate": 0.1}, "say --rule danp"),
        ("anp", {"network": "convnet", "hidden": (3,)}, "--hidden goes with --network mlp"),
        ("danp", {"decorrelation_rate": 0.0}, "positive"),
    ],
)
def test_option_without_effect(label, options, named):
    with pytest.raises(UserError, match=named):
        resolve("mnist", label, GAUSSIAN, options)


def test_shared_options_keep_their_default_where_they_have_no_effect():
    stated = {"draws": 8, "baseline": "noisy", "decorrelation_rate": 0.1}
    config = resolve("mnist", "bp", GAUSSIAN, stated, lenient=True)[0]
    assert (config.options, config.decorrelation_rate) == ({"forward": "digital"}, 0.0)
    assert config == resolve("mnist", "bp", GAUSSIAN, {})[0]


def test_idle_options():
    def idle(*choice):
        found = set(idle_options(*choice))
        assert found >= set(OF_RULES)
        return found - set(OF_RULES)

    without_time = {"credit", "decay", "update", "truncate", "seq_len", "neuron", "threshold", "reset"}
    assert idle("danp", {}) == {"forward", "hidden_noise"} | without_time
    assert idle("bp", {"network": "convnet"}) == without_time | {
        "baseline", "draws", "scale", "readout", "decorrelation_rate", "hidden", "activation", "hidden_noise",
        "control_variate",
    }  # fmt: skip
    of_others_in_time = {"hidden_noise", "truncate", "neuron", "threshold", "reset", "initialisation"}
    assert idle("danp", {"network": "rnn"}) == {"forward", "decay", *of_others_in_time}
    assert idle("danp", {"network": "rnn", "credit": "trace"}) == {"forward", *of_others_in_time}
    of_anp, of_others = (
        {"scale"},
        {"forward", "decay", "decorrelation_rate", "activation", "initialisation", "hidden_noise", "truncate"},
    )
    assert idle("np", {"network": "spiking"}) == of_anp | of_others
    of_perturbation = {
        "baseline",
        "draws",
        "scale",
        "credit",
        "decay",
        "readout",
        "decorrelation_rate",
        "neuron",
        "threshold",
        "reset",
        "initialisation",
        "hidden_noise",
        "control_variate",
    }
    assert idle("bptt", {"network": "rnn"}) == of_perturbation | {"update"}
    assert idle("tbptt3", {"network": "rnn"}) == of_perturbation


def test_idle_options_of_rules_with_draws_of_their_own():
    assert idle_options("spsa", {"credit": "trace"}).keys() & {"draws", "directions", "credit", "readout"} == {
        "credit", "readout",
    }  # fmt: skip
    assert idle_options("fg", {}).keys() >= {"credit", "decay", "update", "epsilon"}
    assert "reward_rate" not in idle_options("oua", {})


@pytest.mark.parametrize(
    ("task", "rule", "options", "message"),
    [
        ("mackey-glass", "bp", {}, "say bptt, or tbptt<k>"),
        ("mackey-glass", "dbp", {}, "say bptt, or tbptt<k>"),
        ("digits", "bptt", {}, "say bp$"),
        ("digits", "dtbptt3", {}, "say bp$"),
        ("mackey-glass", "anp", {"network": "mlp"}, "choose rnn or spiking"),
        ("digits", "anp", {"network": "rnn"}, "choose mlp or convnet or convnet-64"),
        ("digits", "anp", {"credit": "trace"}, "--credit goes with tasks that have sequences"),
        ("digits", "anp", {"seq_len": 3}, "--seq-len goes with tasks that have sequences"),
        ("mackey-glass", "bptt", {"update": "online"}, "--update has no effect on rule bptt"),
        ("mackey-glass", "anp", {"decay": 0.5}, "--decay goes with --credit trace"),
        ("mackey-glass", "anp", {"neuron": "synaptic"}, "--neuron goes with --network spiking"),
        ("latency-mnist-sample", "anp", {"network": "spiking", "activation": "tanh"}, "--network mlp or rnn"),
        ("mackey-glass", "tbptt0", {}, "truncate 0: give a whole number of steps, at least 1"),
        ("mackey-glass", "anp", {"credit": "future"}, "credit: "),
        ("mackey-glass", "anp", {"credit": "trace", "decay": 1.0}, "decay 1.0: give a share between 0 and 1"),
        ("mackey-glass", "anp", {"seq_len": 0}, "seq_len: "),
    ],
)
def test_what_does_not_go_with_time(task, rule, options, message):
    with pytest.raises(UserError, match=message) as caught:
        resolve(task, rule, GAUSSIAN, options)
    assert "\n" not in str(caught.value)


def test_settings_in_time():
    config, _ = resolve("mackey-glass", "dtbptt7", GAUSSIAN, {"update": "online", "hidden": (5,)})
    assert (config.rule, config.label) == ("bptt", "dtbptt7")
    assert (config.options["truncate"], config.options["update"]) == (7, "online")
    assert (config.network, config.activation) == ("rnn", "tanh")
    assert config.build_rule().in_time().truncate == 7
    assert resolve("mackey-glass", "np", GAUSSIAN, {"credit": "sequence"})[0].options["update"] == "sequence"
    config, _ = resolve("copying", "anp", GAUSSIAN, {"credit": "trace", "decay": 0.5, "readout": "delta"})
    assert config.build_rule().in_time() == InTime("trace", 0.5, "sequence")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lr": -1.0}, "lr: "),
        ({"lr": 0.0}, "lr: "),
        ({"lr": float("nan")}, "lr: "),
        ({"lr": float("inf")}, "lr: "),
        ({"epochs": 0}, "epochs: "),
        ({"batch": 0}, "batch: "),
        ({"draws": 0}, "draws = 0; give a whole number, at least 1"),
        ({"draws": 1.5}, "draws: "),
        ({"draws": True}, "draws: true and false are no value"),
        ({"seed": -1}, "seed: "),
        ({"seed": 2**64}, "seed: "),
        ({"decorrelation_rate": float("inf")}, "decorrelation_rate: "),
        ({"baseline": "quiet"}, "'clean', 'noisy' or 'mean' (found 'quiet')"),
        ({"schedule": "linear"}, "unknown schedule 'linear'; did you mean LinearLR"),
        ({"held_out": "train"}, "held_out: "),
        ({"lrr": 1.0}, "unknown key 'lrr'; did you mean lr"),
    ],
    ids=str,
)
def test_value_that_is_not_allowed(options, named):
    with pytest.raises(UserError) as caught:
        resolve("mnist", "danp", GAUSSIAN, options)
    assert str(caught.value).startswith("configuration: ")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_round_trip():
    config = TrainConfig(**OTHER)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    assert TrainConfig(**config.model_dump()) == config


def test_parts_of_a_batch_go_with_rules_that_divide():
    assert resolve("mnist", "anp", GAUSSIAN, {"batch_parts": 2})[0].batch_parts == 2
    with pytest.raises(UserError, match="rule nrl learns from a whole batch in one place"):
        resolve("mnist", "nrl", GAUSSIAN, {"batch_parts": 2})
    assert resolve("mnist", "nrl", GAUSSIAN, {"batch_parts": 2}, lenient=True)[0].batch_parts == 1
    with pytest.raises(UserError, match="--batch-parts 200: a batch has 100 samples"):
        resolve("mnist", "anp", GAUSSIAN, {"batch_parts": 200, "batch": 100})


def test_frozen():
    with pytest.raises(ValidationError):
        BASE.lr = 1.0


@pytest.mark.parametrize("name", [*PLACE, *all_settings()])
def test_identity_changes_with_every_setting(name):
    own = {"forward": "bp", "hidden_noise": "reinforce", "truncate": "bptt", **OF_RULES}
    base = BASE.model_dump() | {"rule": own.get(name, "anp")}
    config, changed = TrainConfig(**base), TrainConfig(**{**base, name: OTHER[name]})
    assert changed.model_dump()[name] == OTHER[name] != config.model_dump()[name]
    assert changed.identity(GAUSSIAN, "1") != config.identity(GAUSSIAN, "1")


def test_a_file_of_the_first_version_states_the_options_of_all_rules():
    """As version 0.1.0 wrote it: what the rule does not have is left out, and the rest is what it was."""
    stored = json.dumps({**OTHER, "rule": "bp", "hidden": [3], "baseline": "clean", "draws": 1, "truncate": None})
    config = TrainConfig.of_run({"config": stored}, Path("run.h5"))
    assert config.options == {"forward": "chip"}
    assert (config.hidden, config.lr, config.held_out) == ((3,), 2e-3, "validation")
    assert config.uniform() == {**OTHER, **DEFAULTS, "rule": "bp", "hidden": [3], "forward": "chip"}


@pytest.mark.parametrize("options", [{}, {"draws": 2, "decay": 0.5}])
def test_what_a_study_keeps_of_a_configuration_are_the_settings_that_are_not_default(options):
    config = TrainConfig(task="mnist", rule="anp", profile="a", lr=2.0, hidden=(5,), device="cuda", **options)
    kept = config.model_dump(mode="json", exclude={"device"}, exclude_defaults=True)
    assert kept == {"task": "mnist", "rule": "anp", "profile": "a", "lr": 2.0, "hidden": [5], **options}


def test_identity_is_of_what_affects_the_result():
    same = parse_profile(profile_text())
    commented = parse_profile("# a comment\n" + profile_text())
    louder = parse_profile(profile_text().replace("1e-3", "2e-3"))
    calibration = louder.calibration
    changed = GAUSSIAN.model_copy(update={"calibration": calibration})
    ids = [BASE.identity(profile, "1") for profile in (GAUSSIAN, same, commented, louder, changed)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
    assert BASE.identity(GAUSSIAN, "2") != ids[0]
    assert len(ids[0]) == 12
