"""A profile on a page: what it is, its curves, every number with status and source."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from noisylearn.ground.errors import UserError
from noisylearn.profiles import HardwareProfile, profile_from_text
from noisylearn.profiles.shown import numbers_table
from noisylearn.report.curves import device_panels
from noisylearn.report.page.commands import profile_words
from noisylearn.report.page.device_chart import device_chart
from noisylearn.report.page.tables import SortTable, sortable
from noisylearn.report.page.vega import Chart


@dataclass(frozen=True)
class Citation:
    """A source.

    Args:
        key: by which numbers name it.
        text: authors, title, year.
        url: where it is found; nothing but an address of the web.
    """

    key: str
    text: str
    url: str


@dataclass(frozen=True)
class ProfilePart:
    """A profile, as a page shows it.

    Args:
        name: of the profile.
        title: the machine in a few words.
        description: the machine in a few sentences.
        facts: what it is, by name.
        charts: of its devices.
        numbers: every number with status and source.
        citations: of the sources.
        text: in full, where the package does not have it.
        unread: why this version cannot read it; nothing else is there then.
    """

    name: str
    title: str = ""
    description: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    charts: tuple[Chart, ...] = ()
    numbers: SortTable | None = None
    citations: tuple[Citation, ...] = ()
    text: str = ""
    unread: str = ""


def profile_part(name: str, text: str) -> ProfilePart:
    """A profile from its text in a run file.

    Args:
        name: of the profile.
        text: TOML or JSON, of anyone.
    """
    try:
        profile = profile_from_text(text, name)
    except UserError as error:
        return ProfilePart(name, unread=str(error), text=text)
    return ProfilePart(
        name=profile.name,
        title=profile.title,
        description=profile.description.strip(),
        facts=_facts(profile),
        charts=tuple(device_chart(panel) for panel in device_panels(profile)),
        numbers=sortable(numbers_table(profile)),
        citations=tuple(Citation(key, one.citation, _address(one.url)) for key, one in profile.sources.items()),
        text="" if profile_words(profile) else text,
    )


def _facts(profile: HardwareProfile) -> dict[str, str]:
    return {
        "observable": ", ".join(profile.shown).replace("_", " "),
        "specified": f"{profile.specification.date}",
        "calibrated": f"{profile.calibration.date}",
    }


def _address(url: str) -> str:
    return url if url.startswith(("https://", "http://")) else ""
