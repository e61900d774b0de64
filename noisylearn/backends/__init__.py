"""Backends other than torch: netlists, NIR files, the integer emulator of Loihi, Lava; and their conformance tests.

netlist: networks as records of arrays, and counts of the operations that they take.
nir: networks written to and read from NIR files.
loihi: an emulator of networks and learning rules in the integers of Loihi's cores, in numpy.
lava: the same rules and networks as Lava processes, in float64 and in Lava's fixed-point learning engine.
conformance: which rule runs on which backend, and how exactly.

Importing any of them imports neither Lava nor nir: these load when something is to run.
"""
