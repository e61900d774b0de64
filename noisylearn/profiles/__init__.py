"""Hardware profiles: what a machine does and what can be observed of it, read from a TOML file.

`load_profile` reads one, `profile_files` lists those that are packaged. `profile` holds the record, `cores` and
`neuron_spread` tables of it, `write` the ways in which updates reach the devices, and `keys` the reference of
everything that a profile may state.
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
