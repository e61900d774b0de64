"""What importing a backend costs: the programs behind it load only when something is to run."""

import subprocess
import sys

from noisylearn.backends import lava, loihi, netlist, nir

CODE = """
import sys
import noisylearn.backends.loihi
print([name for name in sys.modules if name.startswith("noisylearn.backends.lava")])
import noisylearn.backends.lava, noisylearn.backends.netlist, noisylearn.backends.nir
print([name for name in ("lava", "nir", "snntorch") if name in sys.modules])
"""


def test_importing_backends_loads_neither_lava_nor_nir_and_the_emulator_no_processes() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_backends_offer_what_they_list() -> None:
    for package in (lava, loihi, netlist, nir):
        assert all(callable(getattr(package, name)) for name in package.__all__)
