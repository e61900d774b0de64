"""How updates reach devices: pulsed devices, arrays of them, and the modes of writing that a profile may name."""

from noisylearn.profiles.write.array import DeviceArray
from noisylearn.profiles.write.device import PulsedDevice
from noisylearn.profiles.write.modes import MODES, Accumulate, AnyWrite, Auxiliary, InPlace, Pulsed, Shadow

__all__ = ["MODES", "Accumulate", "AnyWrite", "Auxiliary", "DeviceArray", "InPlace", "Pulsed", "PulsedDevice", "Shadow"]
