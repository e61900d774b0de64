"""Hardware profiles: what a machine does and what can be seen of it, read from a TOML file."""

import datetime
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import (
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from noisylearn.effects import Adc, AnyEffect, Dac, Effect
from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.ground.records import CitedRecord, Record, one_line
from noisylearn.profiles.cores import Cores
from noisylearn.profiles.neuron_spread import NeuronSpread
from noisylearn.profiles.write import MODES, AnyWrite, InPlace

Observable = Literal[
    "loss", "output", "error", "input", "activity", "injected_noise", "injected_weight_noise", "clean_pass"
]
BEFORE_OUTPUT: tuple[Observable, ...] = ("output", "error")  # which version 1 could not state, and every file showed
PACKAGED = Path(__file__).parents[1] / "hardware_profiles"
CHECKOUT = Path(__file__).parents[2] / "hardware_profiles"


class Machine(Protocol):
    """What a rule asks of a machine before it starts: a hardware profile answers, or a chip of one's own."""

    @property
    def name(self) -> str: ...
    @property
    def shown(self) -> tuple[Observable, ...]: ...
    @property
    def is_noisy(self) -> bool: ...


class Source(Record):
    """A publication or data sheet."""

    citation: str
    url: str = ""


class Mapping(CitedRecord):
    """How a weight becomes conductances: G+ - G- = w (g_max - g_min) / max|w|, one of the pair at g_min.

    The maximum is taken over the weights of one column of a tile, of a whole tile, or of the layer. reads_clip: whether
    a read that noise takes below zero counts as zero; only false is simulated, since what is fresh at every read is
    lumped.
    """

    kind: Literal["differential-pair"]
    g_max_us: float = Field(gt=0)
    g_min_us: float = Field(default=0.0, ge=0)
    scale: Literal["column", "tile", "layer"]
    reads_clip: Literal[False]

    @model_validator(mode="after")
    def _spans(self) -> "Mapping":
        if self.g_min_us >= self.g_max_us:
            raise ValueError(f"g_min_us = {self.g_min_us:g} must be below g_max_us = {self.g_max_us:g}")
        return self


class Timing(CitedRecord):
    """t0_s: time after programming from which drift counts. pass_interval_us: between two passes of a sample.

    step_interval_us: between two steps of a sequence, from first pass to first pass. Where it is not stated, or shorter
    than the passes of a step take, the next step comes a pass interval after the last pass.
    """

    t0_s: float = Field(gt=0)
    pass_interval_us: float = Field(gt=0)
    step_interval_us: float | None = Field(default=None, gt=0)

    @model_serializer(mode="wrap")
    def _as_stated(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a step interval that is not stated: the text of a profile is part of the identity of results."""
        table: dict[str, Any] = serialize(self)
        if self.step_interval_us is None:
            table.pop("step_interval_us", None)
        return table


class Tile(CitedRecord):
    """Size of one array of devices; larger layers take several, whose partial sums are added digitally."""

    rows: int = Field(ge=1)
    columns: int = Field(ge=1)


class Inputs(CitedRecord):
    """How numbers become voltages: divided by the largest of each vector ("absolute-maximum"), or by a fixed range."""

    scaling: Literal["absolute-maximum", "fixed"]
    range: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _states_range(self) -> "Inputs":
        if (self.scaling == "fixed") != (self.range is not None):
            raise ValueError('scaling = "fixed" goes with a range, "absolute-maximum" without')
        return self


class Specification(Record):
    """What the machine is built to do. Without a mapping, weights are exact numbers."""

    date: datetime.date
    mapping: Mapping | None = None
    timing: Timing | None = None
    tile: Tile | None = None
    inputs: Inputs | None = None
    dac: Dac | None = None
    adc: Adc | None = None
    neurons: NeuronSpread | None = None
    cores: Cores | None = None


class Calibration(Record):
    """What was measured of the machine, in the order in which the effects act."""

    date: datetime.date
    effects: tuple[AnyEffect, ...] = ()


class HardwareProfile(Record):
    """One machine: specification, calibration and what can be observed, each number with status and source."""

    schema_version: Literal[1, 2]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    description: str
    observable: tuple[Observable, ...]
    sources: dict[str, Source]
    specification: Specification
    write: AnyWrite | None = None
    calibration: Calibration
    _text: str = PrivateAttr(default="")

    @property
    def shown(self) -> tuple[Observable, ...]:
        """What can be seen of the machine: `observable`, and what version 1 of the format took for granted."""
        return (*self.observable, *(BEFORE_OUTPUT if self.schema_version == 1 else ()))

    @model_validator(mode="after")
    def _no_contradictions(self) -> "HardwareProfile":
        _check_places(self)
        _check_observable(self)
        _check_sources(self)
        return self

    def effects(self, site: str) -> list[Effect]:
        """The effects that act at one site, in order: a DAC comes first, an ADC last."""
        return [e for e in self.all_effects() if e.site == site]

    def all_effects(self) -> list[Effect]:
        """The converters of the specification and the effects of the calibration, in the order in which they act."""
        dac, adc = self.specification.dac, self.specification.adc
        return [*([dac] if dac else []), *self.calibration.effects, *([adc] if adc else [])]

    def only(self, *kinds: str) -> "HardwareProfile":
        """This machine with all effects off except those of the named kinds ("dac" and "adc" among them).

        Raises UserError for a kind that the profile does not state, or where the rest would make no machine.
        """
        return self._keeping(self._named(kinds), f"only-{'-'.join(kinds)}" if kinds else "no-effects")

    def without(self, *kinds: str) -> "HardwareProfile":
        """This machine with the effects of the named kinds off. Raises UserError as `only` does."""
        left = {e.kind for e in self.all_effects()} - self._named(kinds)
        return self._keeping(left, f"without-{'-'.join(kinds)}" if kinds else "")

    def written_by(self, mode: str, **numbers: Any) -> "HardwareProfile":
        """This machine with another mode of writing its pulsed devices, and numbers of [write] as stated here.

        Numbers not stated stay as they are, or at the defaults of the mode (`device=` changes the device itself).
        Raises UserError for a profile without pulsed devices, an unknown mode, or numbers that the mode has not.
        """
        modes = {mode: record for mode, record in MODES.items() if issubclass(record, InPlace)}
        if self.in_place is None:
            raise UserError(f"profile {self.name} has no pulsed devices: its weights are kept digitally")
        if mode not in modes:
            raise unknown_name("write mode", mode, modes)
        shared = {key: getattr(self.in_place, key) for key in InPlace.model_fields if key not in ("mode", "exceptions")}
        parts = {key: getattr(self, key) for key in type(self).model_fields}
        wanted = [key for key, field in modes[mode].model_fields.items() if field.is_required()]
        if missing := [key for key in wanted if key not in {**shared, **numbers, "mode": mode}]:
            example = ",".join([mode, *(f"{key}=0.01" for key in missing)])
            raise UserError(
                f"write mode {mode} needs {' and '.join(missing)}: state them, for example --write {example}"
            )
        stated = "".join(f"-{key}-{value}" for key, value in numbers.items() if key != "device")
        name = re.sub(r"[^a-z0-9]+", "-", f"{self.name}-{mode}{stated}".lower())
        return _valid(parts | {"name": name, "write": {**shared, **numbers, "mode": mode}})

    def injecting(self, sigma: float) -> "HardwareProfile":
        """This machine with Gaussian noise added at every pre-activation, known to the rule, beside its own noise.

        For rules that have to know the noise (NP with a noisy baseline), on devices whose own cannot be read out.
        sigma: standard deviation, in units of the pre-activations.  Raises UserError for one that is not positive, and
        for a profile that has such noise already.
        """
        parts = {key: getattr(self, key) for key in type(self).model_fields}
        source = {"injected-noise": {"citation": "The user's choice: noise that the rule injects, and so knows"}}
        added = {"kind": "gaussian-node", "status": "assumed", "source": "injected-noise", "sigma": sigma}
        calibration = self.calibration.model_dump(mode="python")
        parts |= {
            "name": f"{self.name}-injected-{f'{sigma:g}'.replace('.', '-')}",
            "observable": list(dict.fromkeys((*self.observable, "injected_noise"))),
            "sources": {**self.sources, **source},
            "calibration": {**calibration, "effects": [*self.calibration.effects, added]},
        }
        return _valid(parts)

    def _named(self, kinds: tuple[str, ...]) -> set[str]:
        known = [effect.kind for effect in self.all_effects()]
        for kind in kinds:
            if kind not in known:
                raise unknown_name(f"effect of profile {self.name}", kind, known)
        return set(kinds)

    def _keeping(self, kinds: set[str], suffix: str) -> "HardwareProfile":
        left = [effect for effect in self.calibration.effects if effect.kind in kinds]
        off = {converter: None for converter in ("dac", "adc") if converter not in kinds}
        draft = self.model_copy(
            update={
                "name": f"{self.name}-{suffix}".rstrip("-"),
                "specification": self.specification.model_copy(update=off),
                "calibration": self.calibration.model_copy(update={"effects": tuple(left)}),
                "observable": tuple(
                    what for what in self.observable if what not in _GONE_WITHOUT or _injects(left, what)
                ),
            }
        )
        parts = {key: getattr(draft, key) for key in type(self).model_fields}
        parts["sources"] = {key: self.sources[key] for key in _cited(draft)}
        return _valid(parts)

    def cited_tables(self) -> Iterator[tuple[str, CitedRecord]]:
        """(place in the file, table) of every table that states numbers."""
        for place, table in self.specification:
            if isinstance(table, CitedRecord):
                yield f"specification.{place}", table
        if self.write is not None:
            yield "write", self.write
        if isinstance(self.write, InPlace):
            yield "write.device", self.write.device
        for i, effect in enumerate(self.calibration.effects):
            yield f"calibration.effects.{i} ({effect.kind})", effect

    @property
    def full_text(self) -> str:
        """The TOML text, or JSON of what it states for a profile that was made or changed in Python."""
        if self._text and parse_profile(self._text) == self:
            return self._text
        return self.model_dump_json()

    @property
    def in_place(self) -> InPlace | None:
        """How updates reach the devices where the network exists on them alone; None where it is kept digitally."""
        return self.write if isinstance(self.write, InPlace) else None

    @property
    def is_noisy(self) -> bool:
        """Whether two passes over this machine differ at all."""
        return any(effect.differs_between_passes for effect in self.all_effects())


def _valid(parts: dict[str, Any]) -> HardwareProfile:
    """The profile of these parts. Raises UserError where they do not fit together."""
    try:
        return HardwareProfile.model_validate(parts)
    except ValidationError as error:
        raise UserError(f"profile {parts['name']}: {one_line(error)}") from None


def _check_places(profile: HardwareProfile) -> None:
    """Every effect needs something to act on, in a setting that gives it meaning."""
    spec, effects = profile.specification, profile.all_effects()
    kinds = [effect.kind for effect in effects]
    if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
        raise ValueError(f"effect {twice[0]} is stated twice; state each kind once")
    if unknown := [e.kind for e in effects if not e.is_simulated]:
        raise ValueError(f"effect {unknown[0]} acts where or when this version's chip has nothing to act on")
    on_devices = [e.kind for e in effects if e.site == "weight" and e.lifetime != "pass"]
    if on_devices and (spec.mapping is None or spec.timing is None):
        raise ValueError(f"effect {on_devices[0]} acts on conductances: state specification.mapping and .timing")
    on_circuits = [e.kind for e in effects if e.site in ("input", "output")]
    if on_circuits and spec.inputs is None:
        raise ValueError(f"effect {on_circuits[0]} is in units of full scale: state specification.inputs")
    on_chip = spec.mapping is not None or profile.in_place is not None
    if (spec.inputs is not None or spec.tile is not None) and not on_chip:
        raise ValueError("specification.inputs and .tile need devices: state specification.mapping")
    if profile.in_place is not None and (spec.mapping is not None or on_devices):
        raise ValueError(
            f'write.mode = "{profile.in_place.mode}" states the devices itself, in units of full scale: remove '
            f"{f'effect {on_devices[0]}' if on_devices else 'specification.mapping'}"
        )
    lasting = [e.kind for e in effects if e.lifetime == "memory"]
    if lasting and spec.timing is None:
        raise ValueError(f"effect {lasting[0]} has memory: state specification.timing")
    for effect in effects:
        t_read_ns = getattr(effect, "t_read_ns", 0.0)
        if spec.timing is not None and t_read_ns > spec.timing.pass_interval_us * 1e3:
            raise ValueError(
                f"effect {effect.kind}: t_read_ns = {t_read_ns:g} is longer than the pass interval of "
                f"{spec.timing.pass_interval_us:g} us; check the units, or lengthen the interval"
            )


def _check_observable(profile: HardwareProfile) -> None:
    """What is said to be seen must exist."""
    effects = profile.all_effects()
    for what, where in _GONE_WITHOUT.items():
        if what in profile.observable and not _injects(effects, what):
            raise ValueError(f"observable '{what}', but no effect injects noise {where}")
    lasting = [e.kind for e in effects if not e.can_be_off]
    if "clean_pass" in profile.observable and lasting:
        raise ValueError(f"observable 'clean_pass', but {lasting[0]} cannot be switched off")
    own = [e.kind for e in profile.effects("node") if not e.can_be_off]
    if "injected_noise" in profile.observable and own:
        raise ValueError(f"observable 'injected_noise', but {own[0]} is the machine's own and cannot be read out")


_GONE_WITHOUT = {"injected_noise": "at the nodes", "injected_weight_noise": "into the weights"}


def _injects(effects: Sequence[Effect], what: str) -> bool:
    site = "node" if what == "injected_noise" else "weight"
    return any(effect.site == site and effect.can_be_off for effect in effects)


def _cited(profile: HardwareProfile) -> set[str]:
    """Keys of all sources that some number refers to."""
    return {key for _, table in profile.cited_tables() for key in table.sources()}


def _check_sources(profile: HardwareProfile) -> None:
    """Every number cites a listed source, and every listed source is cited."""
    for where, table in profile.cited_tables():
        for key in table.sources() - set(profile.sources):
            raise ValueError(f"{where}: source {key!r} is not listed under [sources]")
    if unused := sorted(set(profile.sources) - _cited(profile)):
        raise ValueError(f"source {unused[0]!r} is listed under [sources], but no number refers to it")


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
    profile = parse_profile(text, str(path))
    packaged = profile_files().get(profile.name)
    if packaged is not None and packaged.read_text(encoding="utf-8") != text:
        raise UserError(
            f"profile {path}: its name '{profile.name}' is that of a packaged profile; give it another name"
        )
    return profile


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


def profile_from_text(text: str, where: str = "profile") -> HardwareProfile:
    """A profile from what `full_text` gave: TOML, or the JSON of one that was changed in Python."""
    if not text.lstrip().startswith("{"):
        return parse_profile(text, where)
    try:
        return HardwareProfile.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"profile {where}: {one_line(error)}") from None
