"""Emulation, in integers, of what a network and its learning rule become under the constraints of Loihi's cores."""
