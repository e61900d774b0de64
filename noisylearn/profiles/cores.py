"""Integer arithmetic of neuromorphic cores: bits, ranges and rounding."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from noisylearn.ground.records import CitedRecord

Exponent = Annotated[int, Field(ge=-64, le=64)]  # of two
Rounding = Literal["nearest", "floor", "shared", "per-synapse"]


class Cores(CitedRecord):
    """Integer arithmetic of cores with graded spikes and a learning engine.

    Args:
        weight_bits: bits of a weight's magnitude: -2^bits..2^bits - 1.
        weight_exponent: smallest and largest power of two that multiplies the sum over a connection.
        payload_bits: bits of a graded spike, unsigned.
        trace_bits: bits of a trace, unsigned.
        accumulator_bits: bits of a neuron's pre-activation, with sign.
        learning_accumulator_bits: bits of a weight while it is updated, without sign.
        third_factor_bits: bits of the third factor's mantissa, with sign.
        third_factor_exponent_max: largest right shift of the third factor.
        mantissa_bits: bits of a learning rule's factor, with sign.
        scale_exponent: smallest and largest power of two of a learning rule's factor.
        rounding: how an updated weight is rounded: "nearest"; "floor"; "shared", stochastic with one random number for
            a whole connection; "per-synapse", stochastic with one for each weight.
        t_epoch_max: largest number of steps between two learning phases.
    """

    weight_bits: int = Field(ge=2, le=16)
    weight_exponent: tuple[Exponent, Exponent]
    payload_bits: int = Field(ge=1, le=24)
    trace_bits: int = Field(ge=1, le=15)
    accumulator_bits: int = Field(ge=8, le=48)
    learning_accumulator_bits: int = Field(ge=8, le=30)
    third_factor_bits: int = Field(ge=2, le=24)
    third_factor_exponent_max: int = Field(ge=0, le=32)
    mantissa_bits: int = Field(ge=2, le=8)
    scale_exponent: tuple[Exponent, Exponent]
    rounding: Rounding
    t_epoch_max: int = Field(ge=4, le=10**6)

    @model_validator(mode="after")
    def _fits(self) -> "Cores":
        """Check ranges and widths."""
        for key in ("weight_exponent", "scale_exponent"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key} = [{low}, {high}]: give the smallest first")
        if self.learning_accumulator_bits < self.weight_bits:
            raise ValueError("learning_accumulator_bits must be at least weight_bits")
        return self
