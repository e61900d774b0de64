"""Measurements of devices as columns of equal length, checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from noisylearn.fitting.results import Array
from noisylearn.ground.errors import UserError, shortened, unknown_name

EXPERIMENTS = {
    "programming": ("target_us",),
    "read": ("time_s",),
    "drift": ("time_s",),
    "pulse": ("pulse",),
}
"""Experiments, and the columns that each needs beside device and conductance."""

US = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}  # microsiemens in one unit of a conductance
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
QUANTITIES = {"conductance": US, "target": US, "time": SECONDS}
SIMPLE = ("experiment", "device", "write", "pulse")
BEYOND = {"ol", "0l", "o.l", "o.l.", "0.l", "ovl", "ovld", "ovr", "ovrflw", "over", "overflow", "overload", "overrange"}
"""What instruments write, in either case and with a sign, in place of a number beyond their range."""
BEYOND_AS_NUMBER = 9.9e37  # what SCPI has them write for it; 9.91e37 for no number
SMALLEST_US, LARGEST_US = 1e-5, 1e5  # typical conductances beyond these are of another unit
MIXED = 300.0  # ratio from which conductances are not of one unit, since units differ by a thousand
MOST_NEGATIVE = 0.02  # share of reads below minus half their target, which noise about zero may give
LEFT_OUT = "leave out all lines of this device, as only devices with the same trains of pulses are compared"
UNITS_APART = (1e-9, 1e-6, 1e-3, 1e3, 1e6, 1e9)
FOLLOWS = 1.2  # reads so near, as a factor, to a target in another unit follow it; at least MIXED_READS of them ...
MIXED_READS, MIXED_SHARE, TARGETS_APART = 3, 5e-3, 1.5  # ... and this share, of targets this factor apart: not stuck


@dataclass(frozen=True)
class Measurements:
    """Columns of equal length, one entry for every read of a device.

    Args:
        experiment: "programming", "read", "drift" or "pulse".
        device: name of the device.
        write: counts the writes of a device that were read separately.
        time_s: time since the device was programmed, in seconds; nan where it was not noted.
        target_us: conductance that was to be written, in microsiemens; nan where it was not noted.
        conductance_us: conductance that was read, in microsiemens.
        pulse: signed number of pulses that were sent since the read before; nan where none are.
    """

    experiment: Array
    device: Array
    write: Array
    time_s: Array
    target_us: Array
    conductance_us: Array
    pulse: Array

    def __len__(self) -> int:
        return len(self.conductance_us)

    @property
    def experiments(self) -> list[str]:
        """Which experiments there are, in the order of `EXPERIMENTS`."""
        return [name for name in EXPERIMENTS if (self.experiment == name).any()]

    def of(self, experiment: str) -> "Measurements":
        """The reads of one experiment."""
        return self.where(self.experiment == experiment)

    def where(self, chosen: Array) -> "Measurements":
        """Some of the reads.

        Args:
            chosen: indices, or one truth value for every read.
        """
        return Measurements(*(getattr(self, column.name)[chosen] for column in fields(self)))

    def series(self) -> list["Measurements"]:
        """The reads of every write of every device, in the order in which they stand."""
        _, place = np.unique(np.stack([_codes(self.device), _codes(self.write)]), axis=1, return_inverse=True)
        order = np.argsort(place.ravel(), kind="stable")
        ends = np.flatnonzero(np.diff(place.ravel()[order])) + 1
        return [self.where(part) for part in np.split(order, ends)] if len(self) else []


def _codes(column: Array) -> Array:
    return np.unique(column, return_inverse=True)[1]


def _row(row: int) -> str:
    return f"row {row + 1}"


def measurements(
    columns: Mapping[str, Any], where: str = "measurements", at: Callable[[int], str] = _row
) -> Measurements:
    """Make measurements of columns, such as those of a data frame.

    Args:
        columns: name -> values. A quantity has its unit in the name: `conductance_us` or `conductance_s`, `_ms`, `_ns`;
            `target_...` likewise; `time_s`, `_ms`, `_us` or `_ns`. Besides: experiment, device, write, pulse.
        where: names them in messages.
        at: names a row in messages, by its index.

    Returns:
        The measurements, in microsiemens and seconds.

    Raises:
        UserError: a column is missing, unknown or stated twice, a value is none, or its unit cannot be the stated one.
    """
    names = [str(name) for name in columns]
    _check_names(names, where)
    given = {str(name): np.asarray(columns[name]) for name in columns}
    n = given["device"].size
    if odd := [name for name, values in given.items() if values.shape != (n,)]:
        raise UserError(
            f"{where}: column {odd[0]} has not one value for each of {n} devices; give columns of one length"
        )
    if not n:
        raise UserError(f"{where}: there is no row of measurements; give at least one experiment")
    found = {name: _numbers(given, name, units, n, where, at) for name, units in QUANTITIES.items()}
    experiment = np.array([str(value).strip().lower() for value in given["experiment"]])
    made = Measurements(
        experiment,
        np.array([str(value).strip() for value in given["device"]]),
        _texts(given, "write", n),
        found["time"],
        found["target"],
        found["conductance"],
        _numbers(given, "pulse", {}, n, where, at),
    )
    _check_rows(made, where, at)
    _check_units(made, where, at)
    return made


def _check_names(names: list[str], where: str) -> None:
    """Check that every column is known, stated in one unit, and that the necessary ones are there."""
    known = [*SIMPLE, *(f"{name}_{unit}" for name, units in QUANTITIES.items() for unit in units)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{where}: column '{shortened(twice[0])}' is there twice; keep one")
    for name in names:
        if name not in known:
            raise UserError(f"{where}: {unknown_name('column', name, known)}")
    for name in QUANTITIES:
        stated = [one for one in names if one.rpartition("_")[0] == name]
        if len(stated) > 1:
            raise UserError(f"{where}: {name} is stated in two units, {' and '.join(stated)}; keep one column")
    missing = [name for name in ("experiment", "device") if name not in names]
    missing += [] if any(name.startswith("conductance_") for name in names) else ["conductance_us"]
    if missing:
        what = f"; it says in every row which one: {', '.join(EXPERIMENTS)}" * (missing[0] == "experiment")
        raise UserError(f"{where}: column {', '.join(missing)} is missing; the first line must name the columns{what}")


def _numbers(
    given: Mapping[str, Array], name: str, units: Mapping[str, float], n: int, where: str, at: Callable[[int], str]
) -> Array:
    """A column of numbers in the unit of this package; nan where it is empty or not there."""
    stated = [one for one in given if one == name or (one.rpartition("_")[0] == name and units)]
    if not stated:
        return np.full(n, np.nan)
    values = np.empty(n)
    for row, value in enumerate(given[stated[0]]):
        try:
            values[row] = np.nan if str(value).strip() in ("", "None", "<NA>") else float(value)
        except (TypeError, ValueError):
            said, without = f"{stated[0]} in {at(row)} is {shortened(repr(str(value)))}", _without(given, name, row)
            if str(value).strip().lower().lstrip("+-") in BEYOND:
                raise UserError(f"{where}: {said}, beyond the range of the instrument; {without}") from None
            mend = "write a decimal point, and no mark for thousands" if "," in str(value) else "correct it"
            raise UserError(f"{where}: {said}, no number; {mend}, or {without}") from None
    beyond = np.abs(values) >= BEYOND_AS_NUMBER
    if beyond.any():
        row = int(beyond.argmax())
        said = "infinite" if np.isinf(values[row]) else f"{values[row]:g}, as instruments write beyond their range"
        raise UserError(f"{where}: {stated[0]} in {at(row)} is {said}; {_without(given, name, row)}")
    return values * units.get(stated[0].rpartition("_")[2], 1.0) if units else values


def _without(given: Mapping[str, Array], name: str, row: int) -> str:
    """How to do without a number, in words."""
    if name != "conductance":
        return "leave it empty"
    return LEFT_OUT if str(given["experiment"][row]).strip().lower() == "pulse" else "leave out the line"


def _texts(given: Mapping[str, Array], name: str, n: int) -> Array:
    return np.array([str(value).strip() for value in given[name]]) if name in given else np.full(n, "")


def _check_rows(made: Measurements, where: str, at: Callable[[int], str]) -> None:
    """Check that every row has what its experiment needs."""
    for row, name in enumerate(made.experiment):
        if name not in EXPERIMENTS:
            raise UserError(f"{where}: {at(row)}: {unknown_name('experiment', str(name), EXPERIMENTS)}")
    if (made.device == "").any():
        raise UserError(f"{where}: device is empty in {at(int((made.device == '').argmax()))}; name the device")
    for name in made.experiments:
        for column in ("conductance_us", *EXPERIMENTS[name]):
            empty = np.isnan(getattr(made, column)) & (made.experiment == name)
            if empty.any():
                mend = f": {LEFT_OUT}" if name == "pulse" and column == "conductance_us" else ""
                there = at(int(empty.argmax()))
                raise UserError(f"{where}: {column} is empty in {there}; experiment {name} needs it{mend}")
    odd = np.isfinite(made.pulse) & (made.pulse != np.round(made.pulse))
    if odd.any():
        raise UserError(f"{where}: pulse in {at(int(odd.argmax()))} is no whole number of pulses, with sign")
    before = made.time_s < 0
    if before.any():
        raise UserError(f"{where}: time_s in {at(int(before.argmax()))} is negative; it counts from programming")
    drift = (made.experiment == "drift") & ~(made.time_s > 0)
    if drift.any():
        raise UserError(f"{where}: time_s in {at(int(drift.argmax()))}: drift counts from programming, above 0")


def _check_units(made: Measurements, where: str, at: Callable[[int], str]) -> None:
    """Check that conductances can be in the unit that the column names."""
    typical = {name: np.median(np.abs(made.of(name).conductance_us)) for name in made.experiments}
    for name, value in typical.items():
        if value and not SMALLEST_US <= value <= LARGEST_US:
            raise UserError(
                f"{where}: conductances of experiment {name} are about {value:.3g} uS, beyond any device; name the "
                "column by its unit: conductance_s, _ms, _us or _ns"
            )
    names, place = np.unique(made.device, return_inverse=True)
    largest = np.zeros(len(names))
    np.maximum.at(largest, place, np.abs(made.conductance_us))
    if largest.max() > MIXED * np.median(largest) > 0:
        raise _two_units(where, f"device {names[largest.argmax()]}", largest.max(), "most devices", np.median(largest))
    noted = made.target_us > 0.1 * np.nanmax(np.append(made.target_us, 0.0))
    negative = noted & (made.conductance_us < -0.5 * np.where(noted, made.target_us, 0.0))
    if negative.sum() > MOST_NEGATIVE * noted.sum():
        raise UserError(
            f"{where}: {negative.sum()} of {noted.sum()} conductances lie below zero where their target does not, the "
            f"first in {at(int(negative.argmax()))}; turn their sign"
        )
    if noted.any():
        target, read = (float(np.median(np.abs(column[noted]))) for column in (made.target_us, made.conductance_us))
        if not 1 / MIXED < read / target < MIXED:
            raise _two_units(where, "conductance", read, "their targets", target)
    if (row := _row_of_another_unit(made, noted)) is not None:
        read, target = abs(made.conductance_us[row]), made.target_us[row]
        raise _two_units(where, f"conductance in {at(row)}", read, "its target", target)


def _row_of_another_unit(made: Measurements, noted: Array) -> int | None:
    """The first of some reads that follow their targets, but in another unit than most do; None if there are none.

    A stuck device does not follow its targets, and a read of noise about zero seldom lies just there. What drifts may
    be a thousandth of its target in the end, and is left out.
    """
    noted = noted & (made.experiment != "drift")
    if not noted.any():
        return None
    target = np.where(noted, made.target_us, 1.0)
    ratio = np.where(noted, np.abs(made.conductance_us) / target, 1.0)
    for apart in UNITS_APART:
        rows = np.flatnonzero((ratio > apart / FOLLOWS) & (ratio < apart * FOLLOWS))
        enough = len(rows) >= max(MIXED_READS, MIXED_SHARE * noted.sum())
        if enough and target[rows].max() > TARGETS_APART * target[rows].min():
            return int(rows[0])
    return None


def _two_units(where: str, one: str, value: float, other: str, other_value: float) -> UserError:
    """The error for values that are not of one unit."""
    return UserError(
        f"{where}: {one} is about {value:.3g} uS, {other} {other_value:.3g} uS: that looks like two units; give all in "
        "those that the names of the columns state"
    )
