"""Arrays have the shapes that the annotations state, in short trainings through the whole package.

NOISYLEARN_CHECK_SHAPES=1 runs any test under the same checks, in about one and a half times the time.
"""

import subprocess
import sys
from pathlib import Path

import pytest

# One for every kind of network, with decorrelation, norms and devices among them.
TRAININGS = """
from support.small_runs import FULL, GAUSSIAN, small_task, small_train, tasks

tasks.load = small_task
for i, settings in enumerate((
    FULL,
    GAUSSIAN | {"task": "linear-teacher", "rule": "bp"},
    GAUSSIAN | {"task": "mackey-glass", "seq_len": 4, "network": "rnn", "decorrelation_rate": 1e-3},
    GAUSSIAN | {"task": "latency-mnist-sample", "seq_len": 3, "rule": "np", "network": "spiking"},
)):
    small_train(f"{sys.argv[1]}/{i}", settings | {"epochs": 1})
"""
WRONG = """
import pytest
from jaxtyping import TypeCheckError

task = noisylearn.tasks.linear_teacher.load(n_train=5, n_test=5)
outputs, targets = task.test_targets + 1, task.test_targets
assert task.metric(outputs, targets).shape == targets.shape[:1]
for wrong in (outputs[:, :-1], outputs[:-1], outputs[0], outputs.long()):
    with pytest.raises(TypeCheckError):
        task.metric(wrong, targets)
"""


def under_checks(code: str, *arguments: object) -> None:
    """Run code in a process in which every call into the package is checked."""
    head = "import sys\nfrom support.shapes import check_shapes\ncheck_shapes('noisylearn')\nimport noisylearn\n"
    command = [sys.executable, "-W", "ignore", "-c", head + code, *map(str, arguments)]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_trainings_keep_the_stated_shapes(tmp_path: Path) -> None:
    under_checks(TRAININGS, tmp_path)


def test_wrong_shapes_are_refused() -> None:
    under_checks(WRONG)
