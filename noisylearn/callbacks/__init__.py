"""Callbacks: what goes along with a run, such as early stopping and logs for CSV, TensorBoard and MLflow."""

from noisylearn.callbacks.base import Callback, End, Run
from noisylearn.callbacks.csv_log import CsvLog
from noisylearn.callbacks.early_stopping import EarlyStopping
from noisylearn.callbacks.mlflow_log import MlflowLog
from noisylearn.callbacks.tensorboard_log import TensorBoardLog
from noisylearn.ground.errors import unknown_name

__all__ = ["Callback", "CsvLog", "EarlyStopping", "End", "MlflowLog", "Run", "TensorBoardLog", "log_named"]

LOGS = {"csv": CsvLog, "tensorboard": TensorBoardLog, "mlflow": MlflowLog}


def log_named(name: str) -> Callback:
    """A log, with its defaults.

    Args:
        name: csv, tensorboard or mlflow.

    Raises:
        UserError: there is no such log, or a package that it needs is missing.
    """
    if name not in LOGS:
        raise unknown_name("log", name, LOGS)
    return LOGS[name]()
