"""Hardware profiles: what a machine does and what can be seen of it, read from a TOML file.

`profile` is the record, `cores` and `neuron_spread` are tables of it, `write` is how updates reach the devices, `keys`
the reference of everything a profile may state.
"""

from noisylearn.profiles.profile import (
    HardwareProfile,
    Machine,
    Mapping,
    Observable,
    load_profile,
    parse_profile,
    profile_files,
    profile_from_text,
)

__all__ = [
    "HardwareProfile",
    "Machine",
    "Mapping",
    "Observable",
    "load_profile",
    "parse_profile",
    "profile_files",
    "profile_from_text",
]
