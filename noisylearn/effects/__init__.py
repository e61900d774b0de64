"""Non-idealities of devices and their circuits, one file each. The registry below is what a profile may name."""

from typing import Annotated

from pydantic import Field

from noisylearn.effects.base import Effect, Moments, Product, Setting, State
from noisylearn.effects.bernoulli_node import BernoulliNode
from noisylearn.effects.conductance_range import ConductanceRange
from noisylearn.effects.conductance_spread import ConductanceSpread
from noisylearn.effects.converters import Adc, Dac
from noisylearn.effects.correlated_node import CorrelatedNode
from noisylearn.effects.curves import Curve
from noisylearn.effects.gain_spread import GainSpread
from noisylearn.effects.gaussian_node import GaussianNode
from noisylearn.effects.gaussian_weight import GaussianWeight
from noisylearn.effects.input_noise import InputNoise
from noisylearn.effects.ir_drop import IrDrop
from noisylearn.effects.iv_nonlinearity import IvNonlinearity
from noisylearn.effects.levels import Levels
from noisylearn.effects.lfsr_node import LfsrNode
from noisylearn.effects.offset_spread import OffsetSpread
from noisylearn.effects.one_over_f import OneOverFReadNoise
from noisylearn.effects.ornstein_uhlenbeck_node import OrnsteinUhlenbeckNode
from noisylearn.effects.output_noise import OutputNoise
from noisylearn.effects.power_law_drift import PowerLawDrift
from noisylearn.effects.programming_noise import ProgrammingNoise
from noisylearn.effects.random_telegraph import RandomTelegraphNoise
from noisylearn.effects.read_noise import ReadNoise
from noisylearn.effects.relaxation import Relaxation
from noisylearn.effects.stuck_devices import StuckDevices
from noisylearn.effects.telegraph_node import TelegraphNode
from noisylearn.effects.thermal_shot_noise import ThermalShotNoise
from noisylearn.effects.uniform_node import UniformNode

AnyEffect = Annotated[
    BernoulliNode
    | ConductanceRange
    | ConductanceSpread
    | CorrelatedNode
    | GainSpread
    | GaussianNode
    | GaussianWeight
    | InputNoise
    | IrDrop
    | IvNonlinearity
    | Levels
    | LfsrNode
    | OffsetSpread
    | OneOverFReadNoise
    | OrnsteinUhlenbeckNode
    | OutputNoise
    | PowerLawDrift
    | ProgrammingNoise
    | RandomTelegraphNoise
    | ReadNoise
    | Relaxation
    | StuckDevices
    | TelegraphNode
    | ThermalShotNoise
    | UniformNode,
    Field(discriminator="kind"),
]

__all__ = [
    "Adc",
    "AnyEffect",
    "BernoulliNode",
    "ConductanceRange",
    "ConductanceSpread",
    "CorrelatedNode",
    "Curve",
    "Dac",
    "Effect",
    "GainSpread",
    "GaussianNode",
    "GaussianWeight",
    "InputNoise",
    "IrDrop",
    "IvNonlinearity",
    "Levels",
    "LfsrNode",
    "Moments",
    "OffsetSpread",
    "OneOverFReadNoise",
    "OrnsteinUhlenbeckNode",
    "OutputNoise",
    "PowerLawDrift",
    "Product",
    "ProgrammingNoise",
    "RandomTelegraphNoise",
    "ReadNoise",
    "Relaxation",
    "Setting",
    "State",
    "StuckDevices",
    "TelegraphNode",
    "ThermalShotNoise",
    "UniformNode",
]
