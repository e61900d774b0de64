"""Files of measurements: what is read, and that every mistake is one line that says what to mend."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisylearn import UserError, fit_profile
from noisylearn.fitting import Plan, measure, measurements
from noisylearn.fitting.files import read_measurements, write_measurements
from noisylearn.profiles import load_profile

HEADER = "experiment,device,time_s,target_us,conductance_us\n"
ROW = "programming,d1,1,5.0,5.1\n"
# content of the file, what the one line must name
WRONG = {
    "empty": ("", ["empty", "name the columns"]),
    "only comments": ("# nothing\n\n", ["empty"]),
    "only a header": (HEADER, ["no row"]),
    "no such column": ("experiment,device,conductence_us\nread,a,1\n", ["'conductence_us'", "mean conductance_us"]),
    "no conductance": ("experiment,device,target_us\nprogramming,a,1\n", ["conductance_us", "missing"]),
    "no device": ("experiment,conductance_us\nread,1\n", ["device", "missing"]),
    "two units": ("experiment,device,conductance_us,conductance_s\nread,a,1,1e-6\n", ["two units", "keep one"]),
    "column twice": ("experiment,device,device,conductance_us\nread,a,a,1\n", ["'device'", "twice"]),
    "row too short": (HEADER + "programming,d1,1,5.0\n", ["line 2", "4 values for 5 columns"]),
    "no number": (HEADER + "programming,d1,1,5.0,five\n", ["conductance_us in line 2", "'five'", "no number"]),
    "a word": (HEADER + "programming,d1,1,5.0,n/a\n", ["conductance_us in line 2", "'n/a'", "or leave out the line"]),
    "a word for a time": (HEADER + "read,d1,late,5.0,5.1\n", ["time_s in line 2", "'late'", "or leave it empty"]),
    "over limit": (HEADER + ROW + "read,d1,1,5.0,OL\n", ["in line 3", "'OL'", "range", "leave out the line"]),
    "over limit, signed": (HEADER + "read,d1,1,5.0,-OVLD \n", ["line 2", "'-OVLD '", "beyond the range", "leave out"]),
    "over limit as a number": (HEADER + "read,d1,1,5.0,9.9E37\n", ["9.9e+37", "beyond their range"]),
    "over limit in a train": (
        "experiment,device,pulse,conductance_us\npulse,a,0,1\npulse,a,1,OL\n",
        ["conductance_us in line 3", "'OL'", "leave out all lines of this device"],
    ),
    "empty in a train": (
        "experiment,device,pulse,conductance_us\npulse,a,0,1\npulse,a,1,\n",
        ["conductance_us is empty in line 3", "leave out all lines of this device"],
    ),
    "no experiment": ("device,pulse,conductance_us\na,1,1\n", ["experiment is missing", "read, drift, pulse"]),
    "infinite": (HEADER + "programming,d1,1,5.0,inf\n", ["line 2", "infinite"]),
    "no target": (HEADER + "programming,d1,1,,5.1\n", ["target_us is empty in line 2", "programming"]),
    "no time": ("experiment,device,conductance_us\nread,a,1\n", ["time_s is empty", "read"]),
    "no device in a row": (HEADER + ROW + "programming,,1,5.0,5.1\n", ["device is empty in line 3"]),
    "unknown experiment": (HEADER + "programing,d1,1,5.0,5.1\n", ["line 2", "'programing'", "mean programming"]),
    "part of a pulse": ("experiment,device,pulse,conductance_us\npulse,a,0.5,1\n", ["pulse in line 2", "whole number"]),
    "drift before programming": (HEADER + "drift,d1,0,5.0,5.1\n", ["line 2", "above 0"]),
    "siemens called microsiemens": (HEADER + "programming,d1,1,5e-6,5.1e-6\n", ["beyond any device", "conductance_s"]),
    "targets in another unit": (HEADER + "programming,d1,1,5000,5.1\n", ["two units", "targets"]),
    "a device in another unit": (
        HEADER + ROW * 3 + ROW.replace("d1", "d3") + "programming,d2,1,5.0,5100\n", ["device d2", "two units"],
    ),
    "some reads in another unit": (
        HEADER + "".join(f"programming,d{i},1,{t},{t * (1 if i % 5 else 1e-6)}\n" for i in range(60) for t in (5, 12)),
        ["conductance in line 2", "its target 5 uS", "two units"],
    ),
    "a negative time": (HEADER + "read,d1,-5,5.0,5.1\n", ["time_s in line 2", "negative"]),
    "all signs turned": (HEADER + ROW.replace("5.1", "-5.1") * 9, ["9 of 9", "line 2", "turn their sign"]),
    "some signs turned": (HEADER + (ROW * 6 + ROW.replace("5.1", "-5.1")) * 9, ["9 of 63", "line 8", "sign"]),
    "after comments": (f"# one\n\n{HEADER}# two\r\n{ROW}\n" + ROW.replace("5.1", "x"), ["in line 7", "'x'"]),
    "after a name of two lines": (HEADER + ROW.replace("d1", '"d\n1"') + ROW.replace("5.1", "x"), ["in line 4", "'x'"]),
    "decimal commas between commas": (HEADER + "read,d1,1,5.0,5,1\n", ["line 2", "decimal commas need semicolons"]),
    "decimal commas and points": (
        HEADER.replace(",", ";") + "read;d1;1;5.0;5,1\n", ["in line 2", "'5,1'", "write a decimal point"],
    ),
    "commas for thousands": (
        HEADER.replace(",", ";") + "read;d1;1;5;5,100\n", ["in line 2", "'5,100'", "no mark for thousands"],
    ),
    "too few": (HEADER + ROW, ["too little", "programming-noise", "written at least 8 times"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line(case: str, tmp_path: Path) -> None:
    content, named = WRONG[case]
    file = tmp_path / "my.csv"
    file.write_text(content)
    with pytest.raises(UserError) as error:
        fit_profile(file)
    message = str(error.value)
    assert "\n" not in message
    assert "my.csv" in message
    assert "SHA-256" not in message
    for part in named:
        assert part in message


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300)
    | st.text(alphabet="readpogmindft,;\t\n\"'#0123456789.eE-+_us", max_size=300).map(str.encode)
)
def test_any_bytes_are_a_table_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("any") / "any.csv"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        fit_profile(file)
    assert "\n" not in str(error.value)


def test_devices_that_are_stuck_are_not_in_another_unit() -> None:
    """Stuck at a thousandth of the largest target, or a little above: they do not follow what is to be written."""
    target = np.tile([5.0, 12.0, 20.0], 60)
    device = np.repeat(np.arange(60), 3)
    read = np.where(device < 12, 0.02, target + np.tile([0.1, -0.1], 90))
    columns = {"experiment": ["programming"] * 180, "device": device, "target_us": target, "conductance_us": read}
    assert len(measurements(columns)) == 180


def test_devices_that_lose_a_thousandfold_are_not_in_another_unit() -> None:
    time, target = (part.ravel() for part in np.meshgrid(np.geomspace(1, 1e4, 13), np.linspace(5, 20, 40)))
    columns = {"experiment": ["drift"] * 520, "device": target, "target_us": target, "time_s": time}
    assert len(measurements(columns | {"conductance_us": target / time})) == 520


def test_no_such_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_measurements(path)


def test_units_are_those_of_the_names() -> None:
    one = {"experiment": ["drift"], "device": ["a"]}
    in_us = measurements(one | {"conductance_us": [25.0], "target_us": [24.0], "time_s": [2e-3]})
    for unit, factor in {"s": 1e-6, "ms": 1e-3, "ns": 1e3}.items():
        stated = {f"conductance_{unit}": [25.0 * factor], f"target_{unit}": [24.0 * factor], "time_ms": [2.0]}
        made = measurements(one | stated)
        for key in ("conductance_us", "target_us", "time_s"):
            assert getattr(made, key) == pytest.approx(getattr(in_us, key))


def test_a_file_that_was_written_is_read_back(tmp_path: Path) -> None:
    for name in ("pcm-nandakumar-2019", "capacitor-li-2018"):
        made = measure(load_profile(name), Plan(devices=3, levels=3, reads=9, pulse_reads=40), seed=1)
        file = tmp_path / f"{name}.csv"
        write_measurements(file, made, ["simulated"])
        again, digest = read_measurements(file)
        assert len(digest) == 64
        for key in ("experiment", "device", "write"):
            assert (getattr(again, key) == getattr(made, key)).all()
        for key in ("time_s", "target_us", "conductance_us", "pulse"):
            np.testing.assert_allclose(getattr(again, key), getattr(made, key), rtol=1e-5, atol=1e-9)


def test_semicolons_comments_and_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes("\ufeff# from the analyser\nexperiment;device;time_s;conductance_us\nread;a;1;2.5\n".encode())
    made, _ = read_measurements(file)
    assert made.conductance_us.tolist() == [2.5]


def test_decimal_commas_between_semicolons(tmp_path: Path) -> None:
    """As German Excel writes them; a name keeps its comma."""
    file = tmp_path / "a.csv"
    file.write_bytes(b"experiment;device;time_s;conductance_us\r\nread;1,5 V;1;2,125\r\nread;1,5 V;1,5e-3;2\r\n")
    made, _ = read_measurements(file)
    assert made.conductance_us.tolist() == [2.125, 2.0]
    assert made.time_s.tolist() == [1.0, 1.5e-3]
    assert made.device.tolist() == ["1,5 V", "1,5 V"]


def test_rows_of_columns_are_counted_from_one() -> None:
    with pytest.raises(UserError, match="conductance_us in row 2 is 'x'"):
        measurements({"experiment": ["read"] * 2, "device": ["a", "a"], "time_s": [1, 2], "conductance_us": [1, "x"]})


def test_measurements_are_those_of_the_seed() -> None:
    profile, plan = load_profile("pcm-nandakumar-2019"), Plan(devices=3, levels=3, reads=9)
    first, same, other = (measure(profile, plan, seed).conductance_us for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).mean() > 0.8  # floored ones are zero in both
    with pytest.raises(UserError, match="no devices whose conductance"):
        measure(load_profile("gaussian-node"))
