"""Progress of long work on standard error: bars in terminals and notebooks, elsewhere a line now and then.

`shown` gives a `ProgressLine`, whose callbacks are told how far the work is, by label, steps done, steps in all and a
note. Nothing of it is on standard output. NOISYLEARN_PROGRESS=off, lines or bar decides in place of what is there.

Notebooks get a table that is replaced as a whole, by IPython's own display: the bars of rich and of tqdm need
ipywidgets there, show nothing without, and are lost when a notebook is saved and opened again.
"""

from noisylearn.progress.choice import Mode, chosen_mode, shown
from noisylearn.progress.item import Display, Item, note_of
from noisylearn.progress.line import ProgressLine

__all__ = ["Display", "Item", "Mode", "ProgressLine", "chosen_mode", "note_of", "shown"]
