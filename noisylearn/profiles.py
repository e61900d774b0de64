"""Hardware profiles: what a machine does and what can be seen of it, read from a TOML file."""

import datetime
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from noisylearn.effects import AnyEffect, Effect
from noisylearn.errors import UserError, unknown_name
from noisylearn.records import CitedRecord, Record, one_line

Observable = Literal["loss", "input", "activity", "injected_noise", "injected_weight_noise", "clean_pass"]
PACKAGED = Path(__file__).parent / "hardware_profiles"
CHECKOUT = Path(__file__).parent.parent / "hardware_profiles"


class Source(Record):
    """A publication or data sheet."""

    citation: str
    url: str = ""


class Mapping(CitedRecord):
    """How a weight becomes conductances: G+ - G- = w g_max / max|w|, one of the pair at zero.

    The maximum is taken over the weights of one output column or of the whole layer. reads_clip: whether a read that
    noise takes below zero counts as zero; only false is simulated, since what is fresh at every read is lumped.
    """

    kind: Literal["differential-pair"]
    g_max_us: float = Field(gt=0)
    scale: Literal["column", "layer"]
    reads_clip: Literal[False]


class Timing(CitedRecord):
    """t0_s: time after programming from which drift counts. pass_interval_us: between two passes of a sample."""

    t0_s: float = Field(gt=0)
    pass_interval_us: float = Field(gt=0)


class Specification(Record):
    """What the machine is built to do. Without a mapping, weights are exact numbers."""

    date: datetime.date
    mapping: Mapping | None = None
    timing: Timing | None = None


class Calibration(Record):
    """What was measured of the machine, in the order in which the effects act."""

    date: datetime.date
    effects: tuple[AnyEffect, ...] = ()


class HardwareProfile(Record):
    """One machine: specification, calibration and what can be observed, each number with status and source."""

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    description: str
    observable: tuple[Observable, ...]
    sources: dict[str, Source]
    specification: Specification
    calibration: Calibration
    _text: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _no_contradictions(self) -> "HardwareProfile":
        needs_pair = [e.kind for e in self.effects("weight") if e.lifetime != "pass"]
        if needs_pair and (self.specification.mapping is None or self.specification.timing is None):
            raise ValueError(f"effect {needs_pair[0]} acts on conductances: state specification.mapping and .timing")
        if unknown := [e.kind for e in self.calibration.effects if not e.is_simulated]:
            raise ValueError(f"effect {unknown[0]} acts where or when this version's chip has nothing to act on")
        kinds = [e.kind for e in self.calibration.effects]
        if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
            raise ValueError(f"effect {twice[0]} is stated twice; state each kind once")
        if "injected_noise" in self.observable and not self.effects("node"):
            raise ValueError("observable 'injected_noise', but no effect injects noise at the nodes")
        if "injected_weight_noise" in self.observable and not any(e.lifetime == "pass" for e in self.effects("weight")):
            raise ValueError("observable 'injected_weight_noise', but no effect injects noise into the weights")
        lasting = [e.kind for e in self.calibration.effects if not e.can_be_off]
        if "clean_pass" in self.observable and lasting:
            raise ValueError(f"observable 'clean_pass', but {lasting[0]} cannot be switched off")
        for where, table in self.cited_tables():
            for key in table.sources() - set(self.sources):
                raise ValueError(f"{where}: source '{key}' is not listed under [sources]")
        cited = {key for _, table in self.cited_tables() for key in table.sources()}
        if unused := sorted(set(self.sources) - cited):
            raise ValueError(f"source '{unused[0]}' is listed under [sources], but no number refers to it")
        return self

    def effects(self, site: str) -> list[Effect]:
        """The effects that act at one site, in order."""
        return [e for e in self.calibration.effects if e.site == site]

    def cited_tables(self) -> Iterator[tuple[str, CitedRecord]]:
        """(place in the file, table) of every table that states numbers."""
        for place in ("mapping", "timing"):
            table = getattr(self.specification, place)
            if table is not None:
                yield f"specification.{place}", table
        for i, effect in enumerate(self.calibration.effects):
            yield f"calibration.effects.{i} ({effect.kind})", effect

    @property
    def full_text(self) -> str:
        """The TOML text, or JSON of what it states for a profile that was made or changed in Python."""
        if self._text and parse_profile(self._text) == self:
            return self._text
        return self.model_dump_json()

    @property
    def is_noisy(self) -> bool:
        """Whether two passes over this machine differ at all."""
        return any(effect.differs_between_passes for effect in self.calibration.effects)


def profile_files() -> dict[str, Path]:
    """Name -> file of every profile that comes with the package."""
    folder = PACKAGED if PACKAGED.is_dir() else CHECKOUT
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load_profile(name_or_path: str | Path | HardwareProfile) -> HardwareProfile:
    """A profile by its name, or from a TOML file of your own.

    Raises UserError, in one line, for an unknown name, a file that is not TOML, a wrong key or value, or a
    contradiction between them.
    """
    if isinstance(name_or_path, HardwareProfile):
        return name_or_path
    path = Path(name_or_path)
    if path.suffix != ".toml":
        known = profile_files()
        if str(name_or_path) not in known:
            raise unknown_name("profile", str(name_or_path), known)
        path = known[str(name_or_path)]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"profile {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return parse_profile(text, str(path))


def parse_profile(text: str, where: str = "profile") -> HardwareProfile:
    """A profile from its TOML text; `where` names it in errors."""
    try:
        profile = HardwareProfile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"profile {where}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise UserError(f"profile {where}: {one_line(error)}") from None
    profile._text = text
    return profile
