"""Saved states: what chip takes them, and that no other does."""

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support.checks import tanh_net
from torch import Tensor

from noisylearn import Chip
from noisylearn.chips.simulated import UncalibratedWarning
from noisylearn.ground.errors import UserError
from noisylearn.networks import RNN
from noisylearn.profiles import load_profile, profile_files

State = dict[str, dict[str, Tensor]]
X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
CALIBRATES = "isaac-2016"


def chip_of(profile: str, *sizes: int, seed: int = 0) -> Chip:
    """A chip that has read and aged."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chip = Chip(tanh_net(*(sizes or (3, 4, 2))).float(), profile, seed=seed)
        chip(X[:, : (sizes or (3,))[0]])
    chip.advance(100.0)
    return chip


def copied(state: State) -> State:
    return {group: {key: value.clone() for key, value in held.items()} for group, held in state.items()}


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(
        one[group].keys() == other[group].keys()
        and all(torch.equal(one[group][k], other[group][k]) for k in one[group])
        for group in one
    )


def refused(chip: Chip, state: object, reason: str) -> None:
    """Loading it says so in one line, and changes nothing."""
    before = copied(chip.state())
    with pytest.raises(UserError, match=reason) as caught:
        chip.load_state(state)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500
    assert same(chip.state(), before)


def test_no_profile_takes_the_state_of_another() -> None:
    """All ordered pairs of packaged profiles."""
    chips = {name: chip_of(name) for name in profile_files()}
    states = {name: chip.state() for name, chip in chips.items()}
    for name, chip in chips.items():
        for other, state in states.items():
            if other != name:
                refused(chip, state, f"another profile than {name}")
        chip.load_state(states[name])


def test_a_profile_is_known_by_its_content() -> None:
    name = "gaussian-node"
    profile = load_profile(name)
    louder = profile.calibration.effects[0].model_copy(update={"sigma": 2e-3})
    calibration = profile.calibration.model_copy(update={"effects": (louder,)})
    refused(chip_of(name), chip_of(profile.model_copy(update={"calibration": calibration})).state(), "another profile")  # type: ignore[arg-type]


@pytest.mark.parametrize("profile", ["ideal", "pcm-nandakumar-2019", "capacitor-li-2018", CALIBRATES])
def test_no_network_takes_the_state_of_another(profile: str) -> None:
    chip = chip_of(profile)
    refused(chip, chip_of(profile, 3, 5, 2).state(), "another network: its layer '0' has weights of shape .5, 3.")
    refused(chip, chip_of(profile, 3, 4, 2, 2).state(), "layer '4' has weights of shape .2, 2., that of this chip none")
    refused(chip_of(profile, 3, 4, 2, 2), chip.state(), "layer '4' has weights of shape none")
    refused(chip, Chip(RNN(3, 4, 2), profile).state(), "another network")
    refused(chip, Chip(tanh_net(3, 4, 2).double(), profile).state(), "another precision than this one's 32 bits")


@pytest.mark.parametrize("state", [None, {}, [], "state", {"draws": {}}, {"origin": 1}, {"origin": {"format": 1}}])
def test_what_is_no_state(state: object) -> None:
    refused(chip_of("ideal"), state, "no state of a chip")


def test_states_of_earlier_versions_are_refused() -> None:
    chip = chip_of("capacitor-li-2018")
    state = copied(chip.state())
    del state["origin"]
    refused(chip, state, "format of another version; give what")
    state = copied(chip.state())
    del state["layer/0"]["write-core.sent"]
    refused(chip, state, "the state is damaged: it lacks a part")


def damaged(state: State) -> Iterator[tuple[str, State]]:
    """States that lack one part, or have it in another shape."""
    for group, held in state.items():
        without = copied(state)
        del without[group]
        yield f"no {group}", without
        for key, value in held.items():
            for what, other in (("no", None), ("twice", value.flatten().repeat(2)), ("empty", value.new_zeros(0))):
                changed = copied(state)
                changed[group] = {k: v for k, v in changed[group].items() if k != key}
                changed[group] |= {} if other is None else {key: other}
                yield f"{what} {group} {key}", changed


@pytest.mark.parametrize("profile", ["pcm-hermes-1-device", "capacitor-li-2018", "smtj-koenders-2024", CALIBRATES])
def test_a_damaged_state_is_refused(profile: str) -> None:
    chip = chip_of(profile)
    whole = copied(chip.state())
    for what, state in damaged(whole):
        with pytest.raises(UserError) as caught:
            chip.load_state(state)
        assert len(str(caught.value).splitlines()) == 1, what
        assert same(chip.state(), whole), what
    more = copied(whole)
    more["layer/0"]["more"] = torch.zeros(1)
    refused(chip, more, "damaged")


def test_numbers_of_a_state_may_be_changed_by_hand() -> None:
    chip = chip_of("pcm-hermes-1-device")
    state = copied(chip.state())
    state["layer/0"]["written"][0].zero_()
    chip.load_state(state)
    assert (chip.weights()["0"] <= 0).all()


def test_a_state_does_not_silence_the_warning_of_a_chip_that_it_does_not_calibrate() -> None:
    plain, calibrated = chip_of(CALIBRATES), chip_of(CALIBRATES)
    calibrated.calibrate(X)
    fresh = Chip(tanh_net(3, 4, 2).float(), CALIBRATES)
    fresh.load_state(copied(plain.state()))
    with pytest.warns(UncalibratedWarning):
        fresh(X)
    quiet = Chip(tanh_net(3, 4, 2).float(), CALIBRATES)
    quiet.load_state(copied(calibrated.state()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet(X)
        fresh(X)  # once is enough
    again = Chip(tanh_net(3, 4, 2).float(), CALIBRATES)
    with pytest.raises(UserError):
        again.load_state(chip_of("ideal").state())
    with pytest.warns(UncalibratedWarning):
        again(X)


@pytest.mark.parametrize("profile", ["pcm-hermes-1-device", "reram-hfo2-gong-2022", "smtj-koenders-2024"])
def test_a_chip_of_another_seed_continues_with_the_streams_of_the_state(profile: str) -> None:
    """Those not used before it was saved included: the state is of a chip that never read, aged or was rewritten."""
    torch.manual_seed(1)
    first = Chip(tanh_net(3, 4, 2).float(), profile, seed=5)
    second = Chip(tanh_net(3, 4, 2).float(), profile, seed=6)
    second.model.load_state_dict(first.model.state_dict())
    second(X)
    second.load_state(copied(first.state()))
    for chip in (first, second):
        chip.advance(10.0)
        with torch.no_grad():
            for parameter in chip.model.parameters():
                parameter.add_(0.1)
        chip.program()
        chip.advance(1e4)
    assert torch.equal(first(X), second(X))
    assert same(first.state(), second.state())


@pytest.mark.parametrize(
    "seconds",
    [
        "3",
        b"3",
        None,
        [],
        torch.ones(2),
        np.ones(3),
        float("nan"),
        float("inf"),
        -1,
        -1e-9,
        1e13,
        10**400,
        1j,
        "x" * 10_000,
    ],
)
def test_what_is_no_time(seconds: object) -> None:
    chip = chip_of("pcm-nandakumar-2019")
    before = copied(chip.state())
    with pytest.raises(UserError, match=r"a number of seconds from 0 to 1e\+12") as caught:
        chip.advance(seconds)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300
    assert same(chip.state(), before)


@pytest.mark.parametrize("seconds", [3, np.float32(3), np.int64(3), torch.tensor(3.0), True + 2, np.array(3)])
def test_what_is_a_time(seconds: float) -> None:
    chip, other = (chip_of("pcm-nandakumar-2019") for _ in range(2))
    chip.advance(3.0)
    other.advance(seconds)
    assert same(chip.state(), other.state())
