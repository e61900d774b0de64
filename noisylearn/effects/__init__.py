"""Non-idealities of devices and their circuits, one file each. The registry below is what a profile may name.

`register` adds an effect of your own to it; so does a package that names one under the entry points
"noisylearn.effects".
"""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import Field, SerializeAsAny, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

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
from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.ground.records import one_line
from noisylearn.ground.registry import Registry, checked_name

_Packaged = Annotated[
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
_OWN: dict[str, type[Effect]] = {kind.model_fields["kind"].default: kind for kind in get_args(get_args(_Packaged)[0])}


def _name_of(effect: Any, others: Mapping[str, type[Effect]]) -> str:
    """The kind of an effect that can be registered. Raises UserError for what is none."""
    if not isinstance(effect, type) or not issubclass(effect, Effect) or inspect.isabstract(effect):
        raise UserError(f"effect {effect!r}: give a class derived from noisylearn.effects.Effect")
    if missing := [what for what in ("site", "lifetime") if not hasattr(effect, what)]:
        raise UserError(f"effect {effect.__name__}: it does not state {' and '.join(missing)}")
    kind = effect.model_fields["kind"]
    if get_args(kind.annotation) != (kind.default,):
        raise UserError(f'effect {effect.__name__}: it does not state its kind; write kind: Literal["mine"] = "mine"')
    return checked_name(f"effect {effect.__name__}", kind.default)


REGISTRY: Registry[type[Effect]] = Registry("effect", "noisylearn.effects", _OWN, _name_of)


def register(effect: type[Effect]) -> type[Effect]:
    """Add an effect of your own: profiles may state it by its kind, with its numbers.

    Args:
        effect: its class, derived from `Effect`, with its mean and variance in `moments`.

    Returns:
        The class, so that this serves as a decorator.

    Raises:
        UserError: it is no complete effect, or another one is of this kind.
    """
    return REGISTRY.register(effect)


def _registered(table: Any, packaged: ValidatorFunctionWrapHandler) -> Effect:
    """The effect of a table of a profile, or of an effect that was made already."""
    kind = table.get("kind") if isinstance(table, dict) else getattr(table, "kind", None)
    if not isinstance(kind, str) or kind in _OWN:
        return packaged(table)
    if kind not in REGISTRY:
        raise ValueError(str(unknown_name("kind", kind, REGISTRY)))
    try:
        return REGISTRY[kind].model_validate(table)
    except ValidationError as error:
        raise ValueError(f"{kind}: {one_line(error)}") from None


AnyEffect = Annotated[SerializeAsAny[_Packaged], WrapValidator(_registered)]

__all__ = [
    "REGISTRY",
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
    "register",
]
