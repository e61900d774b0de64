"""The base of the package's process models: each notes which step it is in, and what failed in it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from noisylearn.backends.lava.monitoring import Monitor

Model = TypeVar("Model", bound=type)


def models(process: type[AbstractProcess], *tags: str) -> Callable[[Model], Model]:
    """Class decorator: the class is the model of a process on the CPU.

    Args:
        process: the process.
        tags: by which a run configuration of Lava chooses the model.
    """

    def decorate(model: Model) -> Model:
        decorated: Model = implements(proc=process, protocol=LoihiProtocol)(requires(CPU)(tag(*tags)(model)))
        return decorated

    return decorate


class Monitored(PyLoihiProcessModel, ABC):
    """A process model that notes its step and its failure in its monitor; `step` does the work.

    Args:
        proc_params: of the process, with its "monitor".
    """

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.monitor: Monitor = proc_params["monitor"]

    def run_spk(self) -> None:
        """One step of Lava, which counts from 1."""
        with self.monitor.step(self.time_step):
            self.step(self.time_step - 1)

    @abstractmethod
    def step(self, step: int) -> None:
        """Receive, compute and send.

        Args:
            step: counted from 0.
        """
