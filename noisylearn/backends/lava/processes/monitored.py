"""A process model that says which step it is in, and what went wrong in it."""

from typing import Any

from lava.magma.core.model.py.model import PyLoihiProcessModel

from noisylearn.backends.lava.monitoring import Monitor


class Monitored(PyLoihiProcessModel):
    """Base of our process models: `step` does what a step of Lava does."""

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.monitor: Monitor = proc_params["monitor"]

    def run_spk(self) -> None:
        """One step of Lava, counted from 1; `step` counts from 0."""
        with self.monitor.step(self.time_step):
            self.step(self.time_step - 1)

    def step(self, step: int) -> None:
        """What the process does in one step."""
        raise NotImplementedError
