"""The published tables and figures that the package reproduces: `noisylearn reproduce`.

A study is a record: what the paper found, what runs at every scale, how that is judged and drawn. `studies` holds them,
`harness` measures them, keeps what was found, and writes the pages of results.
"""

import copyreg
from collections.abc import Mapping

from noisylearn.ground.errors import unknown_name
from noisylearn.papers.harness.study import Paper, Scale, Study
from noisylearn.papers.studies import (
    anp_alignment,
    anp_cifar10,
    anp_sarcos,
    anp_tiny_imagenet,
    anp_two_passes,
    devices_drift,
    devices_two_passes,
    feedback_beside_backprop,
    rnn_copying,
    rnn_credit,
    rnn_decorrelation,
    rnn_forecasts,
    rnn_scaling,
    stab_dynamics,
    stab_mnist,
    stab_representation,
    stab_sarcos,
    stab_scaling,
    stab_teacher_noise,
)

__all__ = ["PAPERS", "STUDIES", "Paper", "Scale", "Study", "study"]

PAPERS: Mapping[str, Paper] = {
    "anp": Paper(
        "Dalm et al., Effective Learning with Node Perturbation in Multi-Layer Neural Networks",
        ("Adam's epsilon is 1e-7 in the paper's appendix F, torch's default 1e-8 here.",),
    ),
    "rnn": Paper(
        "Garcia Fernandez, Keemink, van Gerven, Perturbation-based Learning for Recurrent Neural Networks",
        (
            "Its Mackey-Glass input is the series 15 samples after the target: recall of the past; ours forecasts.",
            "Its copying task trains on one fixed sequence; on fresh ones recall is at chance.",
            "Its state is detached at every step, so its backprop is backprop cut after one step (tbptt1).",
            "ANP is scaled by sqrt(N) and a norm over the whole batch, noise by 1/sigma, where the paper has N, a norm "
            "per sample and 1/sigma^2; one modulator, the mean over the batch, serves all samples.",
        ),
    ),
    "stab": Paper(
        "Hiratani, Mehta, Lillicrap, Latham, On the Stability and Scalability of Node Perturbation Learning, "
        "NeurIPS 2022",
        (
            "On MNIST its loss is the squared error of the softmax, and updates are sums over the batch; on SARCOS "
            "they are means.",
            "Batches come in a fixed order, and biases start like weights.",
            "The critical rate is multiplied by 1 - 1e-4.",
        ),
    ),
    "devices": Paper("Ours: the papers' rules on the noise of devices"),
    "feedback": Paper("Ours: learned feedback beside backprop with the chip in the loop"),
}

_MODULES = (
    anp_alignment,
    anp_cifar10,
    anp_two_passes,
    anp_tiny_imagenet,
    anp_sarcos,
    rnn_forecasts,
    rnn_copying,
    rnn_credit,
    rnn_scaling,
    rnn_decorrelation,
    stab_dynamics,
    stab_scaling,
    stab_teacher_noise,
    stab_sarcos,
    stab_mnist,
    stab_representation,
    devices_two_passes,
    devices_drift,
    feedback_beside_backprop,
)
STUDIES: tuple[Study, ...] = tuple(one for module in _MODULES for one in module.STUDIES)


def study(name: str) -> Study:
    """The study of a name.

    Raises:
        UserError: where there is none.
    """
    known = {one.name: one for one in STUDIES}
    if name not in known:
        raise unknown_name("study", name, known)
    return known[name]


copyreg.pickle(Study, lambda one: (study, (one.name,)))  # its functions cannot be sent
