"""Series of reads of devices, those at the same times together."""

from typing import NamedTuple

import numpy as np

from noisylearn.fitting.measurements import Measurements
from noisylearn.fitting.results import Array

LEAST_READS, MOST_READS = 8, 400  # of a device: below, it tells nothing; more are not needed


class Group(NamedTuple):
    """Devices that were read at the same times after a read of their own.

    Args:
        times_s: of the reads, from the first on, in seconds.
        age_s: time since programming at the first read, in seconds.
        reads_us: (devices, reads), in microsiemens.
        device: names.
        target_us: written conductance, where it was noted.
    """

    times_s: Array
    age_s: float
    reads_us: Array
    device: Array
    target_us: Array


def groups(made: Measurements, noiseless_us: float) -> tuple[list[Group], int, int]:
    """Series of reads, those at equal times together.

    Args:
        made: reads of the experiment "read".
        noiseless_us: standard deviation below which a device has no noise to speak of, in microsiemens.

    Returns:
        The groups, and how many series were left out for having too few reads, and no noise.
    """
    found: dict[tuple[bytes, float], list[Measurements]] = {}
    too_few = silent = 0
    for series in made.series():
        series = series.where(np.argsort(series.time_s, kind="stable"))
        later = np.flatnonzero(np.append(True, np.diff(series.time_s) > 0))
        series = series.where(later[:MOST_READS])
        if len(series) < LEAST_READS:
            too_few += 1
            continue
        if series.conductance_us.std() < noiseless_us:
            silent += 1
            continue
        times = np.round(series.time_s - series.time_s[0], 12)
        age = float(series.time_s[0])
        found.setdefault((times.tobytes(), round(age, 6)), []).append(series)
    made_groups = [
        Group(
            several[0].time_s - several[0].time_s[0],
            float(several[0].time_s[0]),
            np.stack([one.conductance_us for one in several]),
            np.array([one.device[0] for one in several]),
            np.array([one.target_us[0] for one in several]),
        )
        for several in found.values()
    ]
    return made_groups, too_few, silent
