"""Runs as data: records and tables of whole folders of run files, for Python and for spreadsheets.

`records` gives plain dictionaries, `load` a DataFrame of pandas, `find` one run by its file or the start of its id.

A room of its own above `experiments`: it computes nothing and writes nothing, reads what experiments have left, and
knows a library that nothing else of the package needs. `import noisylearn` loads it at first use, for it reads HDF5.
"""

from noisylearn.runs.find import find
from noisylearn.runs.frame import load
from noisylearn.runs.records import Records, records

__all__ = ["Records", "find", "load", "records"]
