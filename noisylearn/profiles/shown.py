"""A profile for people to read: all that it states, with status and source."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from noisylearn.effects import Curve
from noisylearn.ground.table import Table

if TYPE_CHECKING:
    from noisylearn.profiles.profile import HardwareProfile


def profile_tables(profile: "HardwareProfile") -> list[Table]:
    """What the machine is and shows, its effects, its numbers and its sources.

    Args:
        profile: the profile.
    """
    facts = [
        ["what it is", " ".join(profile.description.split())],
        ["observable", ", ".join(profile.shown)],
        ["weights", f"on the devices, written {profile.in_place.mode}" if profile.in_place else "kept digitally"],
        ["dates", f"specification {profile.specification.date}, calibration {profile.calibration.date}"],
    ]
    sources = [[key, source.citation, source.url] for key, source in profile.sources.items()]
    return [
        Table(f"{profile.name}: {profile.title}", ["", ""], facts),
        effects_table(profile),
        numbers_table(profile),
        Table("sources", ["key", "citation", "where"], sources),
    ]


def effects_table(profile: "HardwareProfile") -> Table:
    """Where and when every effect acts, and whether it is on in a clean pass.

    Args:
        profile: of the machine.
    """
    has_clean_pass = "clean_pass" in profile.observable

    def clean(can_be_off: bool) -> str:
        return "there is none" if not has_clean_pass else "off" if can_be_off else "on"

    rows = [[e.kind, e.site, e.lifetime, clean(e.can_be_off)] for e in profile.all_effects()]
    return Table("effects, in the order in which they act", ["effect", "site", "lifetime", "in a clean pass"], rows)


def numbers_table(profile: "HardwareProfile") -> Table:
    """Every number of a profile, with its status and source.

    Args:
        profile: the profile.
    """
    return Table("numbers", ["where", "key", "value", "status", "source"], list(_numbers(profile)))


def _numbers(profile: "HardwareProfile") -> Iterator[list[str]]:
    for place, table in profile.cited_tables():
        for key, value, origin in table.numbers():
            yield [place, key, _shown(value), origin.status, origin.source]


def _shown(value: Any) -> str:
    if isinstance(value, Curve):
        return ", ".join(f"{key} {list(term)}" for key, term in value.model_dump(exclude_defaults=True).items())
    return str(value)
