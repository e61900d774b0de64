"""Where a saved state of a chip comes from and what it is made of, so that no other chip takes it for its own.

Numbers in a state may be changed by hand; its parts, their shapes and types may not.

The seed is not part of it: a chip takes over that of the state, which its random streams hold.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from noisylearn.ground.errors import UserError
from noisylearn.networks.layers import WeightLayer
from noisylearn.profiles import HardwareProfile

FORMAT_VERSION = 2  # 1, of noisylearn 0.1.0, did not say where it came from
ORIGIN = "origin"  # group of a state that holds all this
FORMAT, PROFILE, BITS, PARTS, SHAPE = (
    "format",
    "profile",
    "bits",
    "parts",
    "shape|",
)  # its keys; the last one with the name of a layer

Origin = dict[str, Tensor]
Groups = Mapping[str, Mapping[str, Tensor]]


def origin_of(profile: HardwareProfile, layers: Mapping[str, WeightLayer]) -> Origin:
    """Format, content of the profile, precision and shapes of the layers.

    Args:
        profile: of the chip.
        layers: name -> layer.
    """
    return {
        FORMAT: torch.tensor(FORMAT_VERSION),
        PROFILE: _bytes(bytes.fromhex(profile.content_hash)),
        BITS: torch.tensor(torch.finfo(next(iter(layers.values())).weight.dtype).bits),
        **{f"{SHAPE}{name}": torch.tensor(layer.weight.shape) for name, layer in layers.items()},
    }


def signed(groups: dict[str, dict[str, Tensor]], origin: Origin) -> dict[str, dict[str, Tensor]]:
    """A state that says where it comes from.

    Args:
        groups: of what the chip holds, by name.
        origin: of the chip.
    """
    return {ORIGIN: origin | {PARTS: _parts(groups)}} | groups


def check_origin(state: Any, own: Origin, profile: str) -> None:
    """Refuse a state of another format, profile, precision or network.

    Args:
        state: given as a state.
        own: of the chip.
        profile: name of its profile, for the message.

    Raises:
        UserError: the state is none, not of such a chip, or not whole.
    """
    if not _is_state(state) or not _same(state.get(ORIGIN, {}).get(FORMAT), own[FORMAT]):
        raise UserError(
            "chip.load_state: no state of a chip, or one in the format of another version; give what chip.state() "
            "returned, continue with the version that wrote it, or start anew"
        )
    given = {key: value for key, value in state[ORIGIN].items() if key != PARTS}
    if not _same(given.get(PROFILE), own[PROFILE]):
        raise UserError(
            f"chip.load_state: the state is of another profile than {profile} as it is now; load it on a chip of the "
            "profile that it was saved from"
        )
    if not _same(given.get(BITS), own[BITS]):
        raise UserError(
            "chip.load_state: the state is of a model in another precision than this one's "
            f"{int(own[BITS])} bits; convert the model before it is placed"
        )
    for key in sorted(own.keys() | given.keys()):
        if not _same(given.get(key), own.get(key)):
            name = key.removeprefix(SHAPE)
            found, expected = ([*one.tolist()] if one is not None else "none" for one in (given.get(key), own.get(key)))
            raise UserError(
                f"chip.load_state: the state is of another network: its layer '{name}' has weights of shape {found}, "
                f"that of this chip {expected}"
            )
    if not _same(state[ORIGIN].get(PARTS), _parts({name: held for name, held in state.items() if name != ORIGIN})):
        raise UserError(
            "chip.load_state: the state is damaged: it lacks a part, or has one more or in another shape; give what "
            "chip.state() returned, or start anew"
        )


def _is_state(state: Any) -> bool:
    """Whether this is groups of tensors by name."""
    return isinstance(state, Mapping) and all(
        isinstance(group, Mapping) and all(isinstance(value, Tensor) for value in group.values())
        for group in state.values()
    )


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.dtype == other.dtype and torch.equal(one.cpu(), other)


def _parts(groups: Groups) -> Tensor:
    """A hash of the names, shapes and types of everything."""
    parts = sorted(f"{name}|{key} {[*v.shape]} {v.dtype}" for name, held in groups.items() for key, v in held.items())
    return _bytes(hashlib.blake2b("\n".join(parts).encode(), digest_size=16).digest())


def _bytes(given: bytes) -> Tensor:
    return torch.tensor(list(given), dtype=torch.uint8)
