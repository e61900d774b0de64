"""Programming (write) noise of a device: its conductance differs from the target."""

from typing import ClassVar, Literal

from pydantic import model_validator
from torch import Tensor

from noisylearn.effects.base import Effect, Lifetime, Moments, Setting, Site, State
from noisylearn.effects.curves import Curve
from noisylearn.effects.rectified import rectified_normal
from noisylearn.ground.draws import StreamOf
from noisylearn.ground.quantities import Conductance

WRITE = "write"  # stream of its draws


class ProgrammingNoise(Effect):
    """Gaussian error of the written conductance.

        G = max(G_target + (g_max / reference_g_max_us) sigma(r) z, 0),   z ~ N(0, 1),   r = G_target / g_max

    A conductance cannot be negative: near zero the floor makes a bias, not only noise; the moments are those of the
    rectified normal.

    Args:
        reference_g_max_us: g_max of the fit, in microsiemens.
        sigma_us: standard deviation as a curve of r, in microsiemens at the g_max of the fit.
    """

    site: ClassVar[Site] = "weight"
    lifetime: ClassVar[Lifetime] = "write"

    kind: Literal["programming-noise"] = "programming-noise"
    reference_g_max_us: Conductance
    sigma_us: Curve

    @model_validator(mode="after")
    def _not_negative(self) -> "ProgrammingNoise":
        """Check that the standard deviation is not negative."""
        self.sigma_us.check("sigma_us", 0, 10 * self.reference_g_max_us, self.reference_g_max_us)
        return self

    def check(self, setting: Setting) -> None:
        """Check the g_max of the fit."""
        setting.check_reference(self.reference_g_max_us)

    def deviation_us(self, target: Tensor, g_max_us: float) -> Tensor:
        """Standard deviation before the floor.

        Args:
            target: conductance to be written, in microsiemens.
            g_max_us: largest conductance of this machine, in microsiemens.

        Returns:
            Standard deviation in microsiemens, of the shape of `target`.
        """
        deviation = self.sigma_us.at(target / g_max_us, self.reference_g_max_us)
        return deviation if g_max_us == self.reference_g_max_us else deviation.mul_(g_max_us / self.reference_g_max_us)

    def apply(self, value: Tensor, setting: Setting, draw: StreamOf, state: State) -> Tensor:
        """Conductances as they were written."""
        z = draw.normal(WRITE, tuple(value.shape)).to(value.dtype)
        return self.deviation_us(value, setting.g_max_us).mul_(z).add_(value).clamp_(min=0)

    def moments(self, value: Tensor, setting: Setting) -> Moments:
        """Moments of the rectified normal."""
        return rectified_normal(value, self.deviation_us(value, setting.g_max_us))
