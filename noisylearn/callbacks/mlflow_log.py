"""A log for MLflow, through its own client."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from noisylearn.callbacks.base import Callback, End, Run, check_installed, measured
from noisylearn.ground.errors import UserError, shortened

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ID = "noisylearn.id"
STATUS = {"finished": "FINISHED", "stopped": "FAILED", "interrupted": "KILLED", "failed": "FAILED"}
LONGEST = 500  # characters of a value that any server takes


class MlflowLog(Callback):
    """Sends the settings and the measurements of every epoch to a tracking server of MLflow.

    A resumed run goes on in the same run of MLflow, which is found by its identity. A server that fails later on costs
    a warning and the rest of the log, not the run.

    Args:
        experiment: of MLflow.
        tracking_uri: of the server or folder; None for what the environment says (MLFLOW_TRACKING_URI).

    Raises:
        UserError: MLflow is not installed.
    """

    def __init__(self, experiment: str = "noisylearn", tracking_uri: str | None = None) -> None:
        check_installed("mlflow", "log mlflow", "mlflow")
        self.experiment, self.tracking_uri = experiment, tracking_uri
        self.client: MlflowClient | None = None
        self.run_id = ""

    def start(self, run: Run) -> None:
        """Find the run of MLflow that this one goes on in, or begin one, and send what is not there.

        Raises:
            UserError: the server does not answer as it should.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        try:
            self.client = MlflowClient(self.tracking_uri)
            self.run_id = self._found(self.client, run) or self._begun(self.client, run)
            self.client.set_tag(self.run_id, "noisylearn.file", str(run.file))
            sent = {metric.step for metric in self.client.get_metric_history(self.run_id, run.metric)}
        except (MlflowException, OSError) as error:
            raise UserError(f"log mlflow: {_said(error)}; check MLFLOW_TRACKING_URI") from None
        for epoch in range(run.epoch):
            if (epoch + 1) * run.steps_per_epoch not in sent:
                self._send(run, epoch)

    def epoch(self, run: Run) -> None:
        """Send all measurements of the epoch."""
        self._send(run, run.epoch - 1)

    def end(self, run: Run, how: End) -> None:
        """Tell the server how the run ended."""
        with self._answered() as client:
            if client is not None:
                client.set_terminated(self.run_id, STATUS[how])
        self.client = None

    @contextmanager
    def _answered(self) -> "Iterator[MlflowClient | None]":
        """The client, if it still answers; where it fails, it is given up with a warning."""
        from mlflow.exceptions import MlflowException

        try:
            yield self.client
        except (MlflowException, OSError) as error:
            self.client = None
            warnings.warn(f"log mlflow: {_said(error)}; the run goes on without it", stacklevel=4)

    def _found(self, client: "MlflowClient", run: Run) -> str | None:
        """The run of MLflow with this identity."""
        known = client.get_experiment_by_name(self.experiment)
        if known is None:
            return None
        runs = client.search_runs([known.experiment_id], f"tags.`{ID}` = '{run.id}'", max_results=1)
        if not runs:
            return None
        client.update_run(runs[0].info.run_id, status="RUNNING")
        return str(runs[0].info.run_id)

    def _begun(self, client: "MlflowClient", run: Run) -> str:
        """A new run of MLflow, with the settings."""
        known = client.get_experiment_by_name(self.experiment)
        experiment = known.experiment_id if known else client.create_experiment(self.experiment)
        begun = client.create_run(experiment, run_name=run.name, tags={ID: run.id}).info.run_id
        for key, value in run.settings.items():
            client.log_param(begun, key, str(value)[:LONGEST])
        return str(begun)

    def _send(self, run: Run, epoch: int) -> None:
        """Send the measurements of an epoch in one request."""
        from mlflow.entities import Metric

        step, now = (epoch + 1) * run.steps_per_epoch, int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in measured(run, epoch).items()]
        with self._answered() as client:
            if client is not None:
                client.log_batch(self.run_id, metrics=metrics)


def _said(error: Exception) -> str:
    return shortened(str(error), 300)
