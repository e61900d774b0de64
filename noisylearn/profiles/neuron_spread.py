"""Mismatch of spiking neurons, as a profile states it."""

from pydantic import Field

from noisylearn.ground.records import CitedRecord


class NeuronSpread(CitedRecord):
    """Mismatch of spiking neurons, drawn once for every neuron.

        x -> x max(1 + spread z, 0),   z ~ N(0, 1)

    Args:
        decay_spread: relative, of the decays per step of membrane potential (beta) and synaptic current (alpha), which
            stay within 0 and 1.
        threshold_spread: relative, of the firing threshold.
    """

    decay_spread: float = Field(default=0.0, ge=0, lt=1)
    threshold_spread: float = Field(default=0.0, ge=0, lt=1)
