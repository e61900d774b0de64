"""The profiles of the studies on the noise of devices, and how each is written."""

from collections.abc import Mapping

from noisylearn.profiles import HardwareProfile, load_profile

# Profiles whose noise is the devices' own; those of pulsed devices write through an accumulator.
PROFILES: Mapping[str, str | None] = {
    "pcm-nandakumar-2019": None,
    "pcm-hermes-1-device": None,
    "reram-cmo-falcone-2025": None,
    "reram-wan-2022": None,
    "sonos-agrawal-2022": None,
    "ecram-mo-kim-2019": "accumulate",
}


def on_devices(name: str) -> HardwareProfile:
    """A profile of PROFILES, written in its mode there."""
    profile = load_profile(name)
    mode = PROFILES[name]
    return profile.written_by(mode) if mode else profile
