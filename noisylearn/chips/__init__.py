"""Chips: a model placed on simulated devices, or on hardware of one's own.

`simulated` is the chip of a profile, `own` the adapter for other hardware; `crossbar` and `tiles` are its devices,
`readings` what passes show, `execution` how they run.
"""
