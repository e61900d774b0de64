"""Learning rules, one file each. Commands and generic tests take their list of rules from the registry below."""

from noisylearn.ground.errors import unknown_name
from noisylearn.rules.anp import ANP
from noisylearn.rules.backprop import BP, BPTT
from noisylearn.rules.base import NodePerturbation, NoisyPasses, Perturbation, Rule, fitted, rules_for
from noisylearn.rules.delta import Delta
from noisylearn.rules.forward_gradient import ForwardGradient
from noisylearn.rules.inp import INP
from noisylearn.rules.learned_feedback import LearnedFeedback
from noisylearn.rules.learner import Learner
from noisylearn.rules.np import NP
from noisylearn.rules.nrl import NRL
from noisylearn.rules.oua import OUA
from noisylearn.rules.per_layer import PerLayer
from noisylearn.rules.reinforce import REINFORCE
from noisylearn.rules.spsa import SPSA
from noisylearn.rules.wp import WP

REGISTRY: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (NP, INP, ANP, NRL, WP, OUA, SPSA, REINFORCE, LearnedFeedback, ForwardGradient, BP, BPTT)
}


def rule_class(name: str) -> type[Rule]:
    """Look up the class of a rule.

    Args:
        name: a key of the registry, such as "anp".

    Returns:
        The class.

    Raises:
        UserError: there is no such rule.
    """
    if name not in REGISTRY:
        raise unknown_name("rule", name, REGISTRY)
    return REGISTRY[name]


__all__ = [
    "ANP",
    "BP",
    "BPTT",
    "INP",
    "NP",
    "NRL",
    "OUA",
    "REGISTRY",
    "REINFORCE",
    "SPSA",
    "WP",
    "Delta",
    "ForwardGradient",
    "LearnedFeedback",
    "Learner",
    "NodePerturbation",
    "NoisyPasses",
    "PerLayer",
    "Perturbation",
    "Rule",
    "fitted",
    "rule_class",
    "rules_for",
]
