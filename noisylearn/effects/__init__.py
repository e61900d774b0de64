"""Non-idealities of devices, one file each. The registry below is what a profile may name."""

from typing import Annotated

from pydantic import Field

from noisylearn.effects.base import Effect, Moments, Setting, State
from noisylearn.effects.curves import Curve
from noisylearn.effects.gaussian_node import GaussianNode
from noisylearn.effects.gaussian_weight import GaussianWeight
from noisylearn.effects.one_over_f import OneOverFReadNoise
from noisylearn.effects.power_law_drift import PowerLawDrift
from noisylearn.effects.programming_noise import ProgrammingNoise

AnyEffect = Annotated[
    GaussianNode | GaussianWeight | ProgrammingNoise | PowerLawDrift | OneOverFReadNoise,
    Field(discriminator="kind"),
]

__all__ = [
    "AnyEffect",
    "Curve",
    "Effect",
    "GaussianNode",
    "GaussianWeight",
    "Moments",
    "OneOverFReadNoise",
    "PowerLawDrift",
    "ProgrammingNoise",
    "Setting",
    "State",
]
