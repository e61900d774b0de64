"""Conformance: what every rule does on every backend, stated as a claim that can be run, or excluded with the reason.

`cases`: every rule of the registry with its options, on every network.  `torch_check`: torch against autograd.
`integer_check`: the emulator against the rule in floats.  `backends`: a record for each backend.  `claims`: what
holds, its verification, and the page.
"""
