"""A linear student-teacher problem, for which the theory of node perturbation is known.

    x ~ N(0, I),   A_ij ~ N(0, 2 / (n_in + n_out)),   y = A x + noise * zeta,   zeta ~ N(0, I)

Source: Hiratani, Mehta, Lillicrap, Latham, "On the Stability and Scalability of Node Perturbation Learning",
NeurIPS 2022, section 4.
"""

import math
import os
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from noisylearn.ground.draws import Draws
from noisylearn.ground.errors import UserError
from noisylearn.tasks.base import Description, RegressionTask, Samples, split_parts

DESCRIPTION = Description(
    name="linear-teacher",
    title="Linear student-teacher regression, generated",
    notes=(
        "Hiratani et al., NeurIPS 2022, section 4: Gaussian inputs, a random linear teacher, loss "
        "1/2 |y - y*|^2; everything is drawn from the seed. The validation part is the last fifth of the "
        "training samples."
    ),
)


@dataclass(frozen=True, eq=False, repr=False)
class LinearTeacherTask(RegressionTask):
    """Regression on the outputs of a linear teacher.

    Args:
        teacher: the matrix A.
    """

    teacher: Float[Tensor, "n_out n_in"]

    def loss_fn(
        self, output: Float[Tensor, "batch n_outputs"], target: Float[Tensor, "batch n_outputs"]
    ) -> Float[Tensor, " batch"]:
        """Loss of the theory for each sample: 1/2 |output - target|^2, n_outputs / 2 times the metric."""
        return 0.5 * self.n_outputs * self.metric(output, target)

    def measure_baselines(self) -> dict[str, float]:
        """Those of any regression, and the noise floor: the teacher's own error on the held-out part."""
        noise_floor = self.held_out_score(self.test_inputs @ self.teacher.T)
        return super().measure_baselines() | {"noise floor": noise_floor}


def load(
    data_dir: str | os.PathLike[str] | None = None,
    held_out: str = "test",
    seed: int = 0,
    *,
    n_in: int = 100,
    n_out: int = 10,
    n_train: int = 20_000,
    n_test: int = 2_000,
    noise: float = 0.0,
) -> LinearTeacherTask:
    """Generate the task: teacher and both parts, drawn from random streams of their own.

    By default there are samples for 20,000 updates of one fresh sample each. Tasks with the same seed, n_in and n_out
    share the teacher. If they differ only in `noise`, they share the inputs too; if only in `n_train`, the test part.

    Args:
        data_dir: not used.
        held_out: "test" or "validation".
        seed: of the draws, which are independent of torch's global generator.
        n_in: inputs, Lx in the paper.
        n_out: outputs, Ly in the paper.
        n_train: training samples, at least 5 so that a fifth can be held out.
        n_test: test samples.
        noise: standard deviation of the noise on each target, sigma_t in the paper.

    Returns:
        The task.

    Raises:
        UserError: a size or the noise is out of range, or `held_out` is unknown.
    """
    _check_sizes(n_in=(n_in, 1), n_out=(n_out, 1), n_train=(n_train, 5), n_test=(n_test, 1))
    if not (noise >= 0.0 and math.isfinite(noise)):
        raise UserError(f"linear-teacher: noise is {noise}; give a finite standard deviation, 0 or more")
    draws = Draws(seed)
    teacher = draws.normal(("linear-teacher", "teacher"), (n_out, n_in)) * (2.0 / (n_in + n_out)) ** 0.5

    def draw(part: str, n: int) -> Samples:
        inputs = draws.normal(("linear-teacher", part, "inputs"), (n, n_in))
        zeta = draws.normal(("linear-teacher", part, "noise"), (n, n_out))
        return inputs, inputs @ teacher.T + noise * zeta

    train, test = split_parts(held_out, lambda: draw("train", n_train), lambda: draw("test", n_test), n_train // 5)
    return LinearTeacherTask(DESCRIPTION, held_out, *train, *test, n_outputs=n_out, teacher=teacher)


def _check_sizes(**sizes: tuple[int, int]) -> None:
    """Refuse sizes below their minimum; each argument is (size, minimum)."""
    for name, (size, minimum) in sizes.items():
        if size < minimum:
            raise UserError(f"linear-teacher: {name} is {size}; give {minimum} or more")
