"""The base of the package's process models: each tells which step it is in, and what failed in it."""

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
    """Class decorator: the model of a process on the CPU, under the tags by which a run configuration chooses it."""

    def decorate(model: Model) -> Model:
        decorated: Model = implements(proc=process, protocol=LoihiProtocol)(requires(CPU)(tag(*tags)(model)))
        return decorated

    return decorate


class Monitored(PyLoihiProcessModel, ABC):
    """A process model that reports to its monitor; `step` does the work of one step of Lava."""

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.monitor: Monitor = proc_params["monitor"]

    def run_spk(self) -> None:
        """One step of Lava, which counts from 1; `step` counts from 0."""
        with self.monitor.step(self.time_step):
            self.step(self.time_step - 1)

    @abstractmethod
    def step(self, step: int) -> None:
        """Receive, compute and send for one step, counted from 0."""
