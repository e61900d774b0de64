"""Weather: a forecast of the air temperature some hours ahead, from hourly readings of one station.

Source: local climatological data of NOAA, 2010 to 2013, as prepared by Zhou et al., AAAI 2021; [RNN] 3.3.
"""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from noisylearn.tasks.base import Description, Samples, split_parts
from noisylearn.tasks.files import DataFile, data_folder, find
from noisylearn.tasks.sequences import Forecast, checked_length

FEATURES = (
    "DryBulbFarenheit",  # spelt as in the file
    "Visibility",
    "WetBulbFarenheit",
    "DewPointFarenheit",
    "RelativeHumidity",
    "WindSpeed",
    "WindDirection",
    "StationPressure",
    "Altimeter",
)
N_TRAIN_ROWS = 33_600
N_VALIDATION_ROWS = 1_464  # as many as there are for the test
N_STREAMS = 50
_FILE = DataFile(
    "weather/WTH.csv",
    2109091,
    "153fead3ea2a83dc5c4127d3994af6b167322f6f5e292c99491f43a2caf14cd4",
    "https://github.com/zhouhaoyi/Informer2020 (WTH.csv)",
)


@dataclass(frozen=True)
class Weather:
    """Definition of the task.

    Args:
        DESCRIPTION: name, title, notes and file.
        hours: how far ahead the temperature is forecast.
    """

    DESCRIPTION: Description
    hours: int

    def load(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        held_out: str = "test",
        seed: int = 0,
        seq_len: int | None = None,
    ) -> Forecast:
        """Read the readings: inputs (n, seq_len, 9) and targets (n, seq_len, 1); the held-out part is one sequence.

        Args:
            data_dir: folder that holds `weather/`.
            held_out: "test" or "validation".
            seed: not used: the data is fixed.
            seq_len: hours of a training sequence; None for 50 training sequences, of 671 or 672 hours.

        Returns:
            The task.

        Raises:
            UserError: the file is missing or damaged, sequences have fewer than 2 hours, or `held_out` is unknown.
        """
        rows = read_rows(data_folder(data_dir))
        train, test = split_parts(
            held_out, lambda: (rows[:N_TRAIN_ROWS],) * 2, lambda: (rows[N_TRAIN_ROWS:],) * 2, N_VALIDATION_ROWS
        )
        least, most = train[0].amin(0), train[0].amax(0)
        past, later = ((part[0] - least) / (most - least) for part in (train, test))
        length = (len(past) - self.hours) // N_STREAMS if seq_len is None else seq_len
        checked_length(self.DESCRIPTION.name, length)
        return Forecast(
            self.DESCRIPTION,
            held_out,
            *_streams(past, self.hours, min(length, len(past) - self.hours)),
            *_streams(later, self.hours, len(later) - self.hours),
            n_outputs=1,
        )


def _weather(name: str, hours: int) -> Weather:
    """A task with its description."""
    title = f"air temperature {hours} hour{'s' if hours > 1 else ''} ahead, from hourly weather"
    notes = (
        "NOAA local climatological data 2010 to 2013, one station, as prepared by Zhou et al. 2021; public domain. 9 "
        "features (without the Celsius duplicates) scaled to 0..1 by the range of the training part, so that errors "
        "are in units of its squared temperature range. Training: the first 33,600 hours, divided into 50 sequences "
        "(or into sequences of --seq-len hours). Test: the other 1,464 hours, as one sequence. The validation part is "
        "the last 1,464 hours of the training part."
    )
    return Weather(Description(name, title, notes, (_FILE,), in_time=True), hours)


TASKS = (_weather("weather", 24), _weather("weather-1h", 1), _weather("weather-48h", 48))


def read_rows(folder: Path) -> Float[Tensor, "n_hours n_features"]:
    """Read all hours in order.

    Args:
        folder: data folder that holds `weather/`.

    Returns:
        Readings (35064, 9), in the order of FEATURES.

    Raises:
        UserError: the file is missing or damaged.
    """
    with find(folder, _FILE).open(newline="", encoding="utf-8") as lines:
        return torch.tensor([[float(row[name]) for name in FEATURES] for row in csv.DictReader(lines)])


def _streams(rows: Float[Tensor, "n_hours n_features"], ahead: int, length: int) -> Samples:
    """Consecutive sequences (n, length, 9), and the first feature `ahead` rows later (n, length, 1)."""
    n = (len(rows) - ahead) // length
    inputs, targets = rows[: n * length], rows[ahead : ahead + n * length, :1]
    return inputs.reshape(n, length, -1), targets.reshape(n, length, 1)
