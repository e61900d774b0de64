"""Measurements of devices become a hardware profile: fits of the effects that the package simulates.

`fit_profile` does it; `measurements` and `files` hold what was measured, `simulate` measures the devices of a profile,
`text` writes the profile and `picture` draws the fits. Each other module fits one effect, by the equations at its top.
"""

from noisylearn.fitting.fit import FittedProfile, fit_profile
from noisylearn.fitting.measurements import Measurements, measurements
from noisylearn.fitting.results import Check, EffectFit, Panel, Parameter
from noisylearn.fitting.simulate import Plan, measure

__all__ = [
    "Check",
    "EffectFit",
    "FittedProfile",
    "Measurements",
    "Panel",
    "Parameter",
    "Plan",
    "fit_profile",
    "measure",
    "measurements",
]
