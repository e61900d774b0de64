"""Hardware profiles: what a machine does and what can be observed of it, read from a TOML file."""

import datetime
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
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

from noisylearn.effects import Adc, AnyEffect, Dac, Effect, Setting
from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.ground.quantities import Amplitude, Conductance, Microseconds, Seconds
from noisylearn.ground.records import CitedRecord, Record, one_line
from noisylearn.ground.table import Shown, Table
from noisylearn.ground.toml import check_size, parse_toml, read_text
from noisylearn.profiles.cores import Cores
from noisylearn.profiles.neuron_spread import NeuronSpread
from noisylearn.profiles.shown import profile_tables
from noisylearn.profiles.write import MODES, AnyWrite, InPlace

Observable = Literal[
    "loss", "output", "error", "input", "activity", "injected_noise", "injected_weight_noise", "clean_pass"
]
BEFORE_OUTPUT: tuple[Observable, ...] = ("output", "error")  # implied by version 1 of the format
PACKAGED = Path(__file__).parents[1] / "hardware_profiles"
CHECKOUT = Path(__file__).parents[2] / "hardware_profiles"
WIDEST_OFF = 0.999  # largest g_min, in units of g_max


class Machine(Protocol):
    """What a rule has to know of a machine before it starts; a hardware profile says it, or a chip of your own."""

    @property
    def name(self) -> str:
        """Short name, for messages."""
        ...

    @property
    def shown(self) -> tuple[Observable, ...]:
        """What can be observed of a pass."""
        ...

    @property
    def is_noisy(self) -> bool:
        """Whether two passes of the same sample differ."""
        ...


class Source(Record):
    """A publication or data sheet.

    Args:
        citation: authors, title, year.
        url: where it is found.
    """

    citation: str
    url: str = ""


class Mapping(CitedRecord):
    """How a weight becomes the conductances of a pair of devices, one of which is at g_min.

        G+ - G- = w (g_max - g_min) / max|w|

    Args:
        kind: "differential-pair".
        g_max_us: largest conductance, in microsiemens.
        g_min_us: smallest conductance, in microsiemens.
        scale: over which weights the maximum is taken: those of one "column" of a tile, of a whole "tile", or of the
            "layer".
        reads_clip: whether a read counts as zero when noise makes it negative. Only false is simulated, because noise
            that is fresh at every read is lumped at the output.
    """

    kind: Literal["differential-pair"]
    g_max_us: Conductance
    g_min_us: float = Field(default=0.0, ge=0, le=1e5)
    scale: Literal["column", "tile", "layer"]
    reads_clip: Literal[False]

    @model_validator(mode="after")
    def _spans(self) -> "Mapping":
        """Check that conductances have a range."""
        if self.g_min_us >= WIDEST_OFF * self.g_max_us:
            raise ValueError(
                f"g_min_us = {self.g_min_us:g} must be below g_max_us = {self.g_max_us:g}, by a thousandth at least"
            )
        return self


class Timing(CitedRecord):
    """Times of programming and reading.

    Args:
        t0_s: time after programming from which drift counts, in seconds.
        pass_interval_us: time between two passes of a sample, in microseconds.
        step_interval_us: time between two steps of a sequence, from first pass to first pass, in microseconds. Where it
            is not stated, or shorter than the passes of a step take, the next step comes a pass interval after the last
            pass.
    """

    t0_s: Seconds
    pass_interval_us: Microseconds
    step_interval_us: Microseconds | None = None

    @model_serializer(mode="wrap")
    def _as_stated(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a step interval that is not stated: the text of a profile is part of the identity of results."""
        table: dict[str, Any] = serialize(self)
        if self.step_interval_us is None:
            table.pop("step_interval_us", None)
        return table


class Tile(CitedRecord):
    """Size of one array of devices; larger layers take several, whose partial sums are added digitally.

    Args:
        rows: inputs of a tile.
        columns: outputs of a tile.
    """

    rows: int = Field(ge=1, le=10**6)
    columns: int = Field(ge=1, le=10**6)


class Inputs(CitedRecord):
    """How numbers become voltages.

    Args:
        scaling: "absolute-maximum" divides every input vector by its largest magnitude, "fixed" by `range`.
        range: full scale of "fixed", in units of the inputs.
    """

    scaling: Literal["absolute-maximum", "fixed"]
    range: Amplitude | None = None

    @model_validator(mode="after")
    def _states_range(self) -> "Inputs":
        """Check that a range is stated where it is used."""
        if (self.scaling == "fixed") != (self.range is not None):
            raise ValueError('scaling = "fixed" goes with a range, "absolute-maximum" without')
        return self


class Specification(Record):
    """What the machine is built to do.

    Args:
        date: of this specification.
        mapping: from weights to conductances; without one, weights are exact numbers.
        timing: of programming and reading.
        tile: size of an array of devices; without one, a layer is one array.
        inputs: from numbers to voltages.
        dac: converters at the inputs.
        adc: converters at the outputs.
        neurons: mismatch of spiking neurons.
        cores: integer arithmetic of neuromorphic cores.
    """

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
    """What was measured of the machine.

    Args:
        date: of this calibration.
        effects: non-idealities, in the order in which they act.
    """

    date: datetime.date
    effects: tuple[AnyEffect, ...] = ()


class HardwareProfile(Shown, Record):
    """One machine: specification, calibration and what can be observed, each number with status and source.

    Args:
        schema_version: version of the format; 2 can state "output" and "error" as observable, 1 implies both.
        name: short name, as used on the command line.
        title: the machine in a few words.
        description: the machine in a few sentences.
        observable: what can be observed of a pass.
        sources: key -> publication or data sheet; numbers refer to the keys.
        specification: what the machine is built to do.
        write: how updates reach the devices; None where weights are kept digitally and all devices rewritten.
        calibration: what was measured of it.
    """

    schema_version: Literal[1, 2]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=200)
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
        """What can be observed of a pass: `observable`, and what version 1 of the format implies."""
        return (*self.observable, *(BEFORE_OUTPUT if self.schema_version == 1 else ()))

    @model_validator(mode="after")
    def _no_contradictions(self) -> "HardwareProfile":
        """Check the tables against one another."""
        _check_places(self)
        _check_observable(self)
        _check_sources(self)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """As its text, so that another process reads it with the effects that are registered there."""
        return profile_from_text, (self.full_text,)

    def tables(self) -> list[Table]:
        """What the machine is, does and shows, every number with its status and source."""
        return profile_tables(self)

    def __repr__(self) -> str:
        return f"<HardwareProfile {self.name}: {self.title}>"

    def __str__(self) -> str:
        return repr(self)

    def effects(self, site: str) -> list[Effect]:
        """Effects that act at one site, in order; a DAC comes first, an ADC last.

        Args:
            site: "input", "weight", "output" or "node".
        """
        return [e for e in self.all_effects() if e.site == site]

    def all_effects(self) -> list[Effect]:
        """Converters of the specification and effects of the calibration, in the order in which they act."""
        dac, adc = self.specification.dac, self.specification.adc
        return [*([dac] if dac else []), *self.calibration.effects, *([adc] if adc else [])]

    def only(self, *kinds: str) -> "HardwareProfile":
        """This machine with all effects off except those of the named kinds.

        Args:
            *kinds: effects that stay, "dac" and "adc" among the names.

        Returns:
            A changed copy.

        Raises:
            UserError: the profile does not state an effect, or what is left contradicts itself.
        """
        return self._keeping(self._named(kinds), f"only-{'-'.join(kinds)}" if kinds else "no-effects")

    def without(self, *kinds: str) -> "HardwareProfile":
        """This machine with the effects of the named kinds off.

        Args:
            *kinds: effects to switch off, "dac" and "adc" among the names.

        Returns:
            A changed copy.

        Raises:
            UserError: as for `only`.
        """
        left = {e.kind for e in self.all_effects()} - self._named(kinds)
        return self._keeping(left, f"without-{'-'.join(kinds)}" if kinds else "")

    def written_by(self, mode: str, **numbers: Any) -> "HardwareProfile":
        """This machine with its pulsed devices written in another mode.

        Args:
            mode: "pulsed", "accumulate" or "auxiliary".
            **numbers: keys of the mode, and `device` for the device itself; others stay as they are, or at the
                defaults of the mode.

        Returns:
            A changed copy.

        Raises:
            UserError: the profile has no pulsed devices, the mode is unknown, it needs more numbers, or it does not
                have one of them.
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
        """This machine with Gaussian noise, known to the rule, added to its own noise at every pre-activation.

        For rules that have to know the noise (NP with a noisy baseline), on devices whose own noise cannot be read out.

        Args:
            sigma: standard deviation, in units of the pre-activations.

        Returns:
            A changed copy.

        Raises:
            UserError: `sigma` is not positive, or the profile has such noise already.
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
        """Kinds of effects that the profile must state."""
        known = [effect.kind for effect in self.all_effects()]
        for kind in kinds:
            if kind not in known:
                raise unknown_name(f"effect of profile {self.name}", kind, known)
        return set(kinds)

    def _keeping(self, kinds: set[str], suffix: str) -> "HardwareProfile":
        """This machine with the effects of these kinds alone."""
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
        """Place in the file and record of every table that states numbers."""
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
        """The profile's TOML text; for a profile that was made or changed in Python, its content as JSON."""
        if self._text and parse_profile(self._text) == self:
            return self._text
        return self.model_dump_json()

    @property
    def in_place(self) -> InPlace | None:
        """How updates reach the devices, if the weights exist on them alone; None if weights are kept digitally."""
        return self.write if isinstance(self.write, InPlace) else None

    @property
    def setting(self) -> Setting:
        """What effects may know of the machine, right after its devices were programmed."""
        timing, mapping = self.specification.timing, self.specification.mapping
        setting = Setting()
        if timing is not None:
            step_interval_s = None if timing.step_interval_us is None else timing.step_interval_us * 1e-6
            setting = replace(
                setting,
                t0_s=timing.t0_s,
                pass_interval_s=timing.pass_interval_us * 1e-6,
                step_interval_s=step_interval_s,
            )
        if mapping is not None:
            setting = replace(setting, g_max_us=mapping.g_max_us, g_min_us=mapping.g_min_us)
        return setting

    @property
    def content_hash(self) -> str:
        """32 hexadecimal digits for all that the profile states; comments in its file do not count."""
        text = self.model_dump_json(serialize_as_any=True)  # effects of one's own with all their numbers
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def is_noisy(self) -> bool:
        """Whether two passes of the same sample differ."""
        return any(effect.differs_between_passes for effect in self.all_effects())

    @property
    def has_own_noise(self) -> bool:
        """Whether two passes differ by noise that is the machine's own: nobody injects it or can switch it off."""
        return any(effect.differs_between_passes and not effect.can_be_off for effect in self.all_effects())


def _valid(parts: dict[str, Any]) -> HardwareProfile:
    """The profile of these parts, checked."""
    try:
        return HardwareProfile.model_validate(parts)
    except ValidationError as error:
        raise UserError(f"profile {parts['name']}: {one_line(error)}") from None


def _check_places(profile: HardwareProfile) -> None:
    """Check that every effect has something to act on, and a setting that gives its numbers a meaning."""
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
        try:
            effect.check(profile.setting)
        except ValueError as error:
            raise ValueError(f"effect {effect.kind}: {error}") from None


def _check_observable(profile: HardwareProfile) -> None:
    """Check that what is called observable exists."""
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
    """Whether some effect is injected noise of this kind."""
    site = "node" if what == "injected_noise" else "weight"
    return any(effect.site == site and effect.can_be_off for effect in effects)


def _cited(profile: HardwareProfile) -> set[str]:
    """Keys of all sources that some number refers to."""
    return {key for _, table in profile.cited_tables() for key in table.sources()}


def _check_sources(profile: HardwareProfile) -> None:
    """Check that every number cites a listed source, and that every listed source is cited."""
    for where, table in profile.cited_tables():
        for key in table.sources() - set(profile.sources):
            raise ValueError(f"{where}: source {key!r} is not listed under [sources]")
    if unused := sorted(set(profile.sources) - _cited(profile)):
        raise ValueError(f"source {unused[0]!r} is listed under [sources], but no number refers to it")


def profile_files() -> dict[str, Path]:
    """Files of all packaged profiles, by name."""
    folder = PACKAGED if PACKAGED.is_dir() else CHECKOUT
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load_profile(name_or_path: str | Path | HardwareProfile) -> HardwareProfile:
    """Read a profile.

    Args:
        name_or_path: name of a packaged profile, path of a TOML file of your own, or a profile, which is returned.

    Returns:
        The profile.

    Raises:
        UserError: the name is unknown, the file cannot be read or is not TOML, a key or value is wrong, values
            contradict one another, or a file of your own takes the name of a packaged profile.
    """
    if isinstance(name_or_path, HardwareProfile):
        return name_or_path
    path = Path(name_or_path)
    if path.suffix != ".toml":
        known = profile_files()
        if str(name_or_path) not in known:
            file = Path(f"{name_or_path}.toml")
            if name_or_path and file.is_file():
                raise UserError(f"unknown profile '{name_or_path}'; a file of yours ends in .toml: {file} is here")
            raise unknown_name("profile", str(name_or_path), known)
        path = known[str(name_or_path)]
    text = read_text(path, f"profile {path}")
    profile = parse_profile(text, str(path))
    packaged = profile_files().get(profile.name)
    if packaged is not None and packaged.read_text(encoding="utf-8") != text:
        raise UserError(
            f"profile {path}: its name '{profile.name}' is that of a packaged profile; give it another name"
        )
    return profile


def parse_profile(text: str, where: str = "profile") -> HardwareProfile:
    """Make a profile from TOML text.

    Args:
        text: content of a profile's file.
        where: name of the text in error messages.

    Returns:
        The profile.

    Raises:
        UserError: the text is not TOML, a key or value is wrong, or values contradict one another.
    """
    try:
        profile = HardwareProfile.model_validate(parse_toml(text, f"profile {where}"))
    except ValidationError as error:
        raise UserError(f"profile {where}: {one_line(error)}") from None
    profile._text = text
    return profile


def profile_from_text(text: str, where: str = "profile") -> HardwareProfile:
    """Make a profile from its `full_text`.

    Args:
        text: TOML, or JSON of a profile that was made or changed in Python.
        where: name of the text in error messages.

    Returns:
        The profile.

    Raises:
        UserError: as for `parse_profile`.
    """
    if not text.lstrip().startswith("{"):
        return parse_profile(text, where)
    check_size(len(text), f"profile {where}")
    try:
        return HardwareProfile.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"profile {where}: {one_line(error)}") from None
