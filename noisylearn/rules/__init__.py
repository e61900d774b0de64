"""Learning rules, one file each. Commands and generic tests take their list of rules from the registry below.

`register` adds a rule of your own to it; so does a package that names one under the entry points "noisylearn.rules".
"""

from collections.abc import Iterable

from noisylearn.ground.errors import UserError, unknown_name
from noisylearn.ground.registry import Registry
from noisylearn.rules.anp import ANP
from noisylearn.rules.backprop import BP, BPTT
from noisylearn.rules.base import Rule, rules_for
from noisylearn.rules.delta import Delta
from noisylearn.rules.forward_gradient import ForwardGradient
from noisylearn.rules.guard import LossWatch
from noisylearn.rules.inp import INP
from noisylearn.rules.learned_feedback import LearnedFeedback
from noisylearn.rules.learner import Learner
from noisylearn.rules.np import NP
from noisylearn.rules.nrl import NRL
from noisylearn.rules.oua import OUA
from noisylearn.rules.per_layer import PerLayer
from noisylearn.rules.perturbation import NodePerturbation, NoisyPasses, Perturbation
from noisylearn.rules.registering import name_of
from noisylearn.rules.reinforce import REINFORCE
from noisylearn.rules.spsa import SPSA
from noisylearn.rules.wp import WP

_OWN = (NP, INP, ANP, NRL, WP, OUA, SPSA, REINFORCE, LearnedFeedback, ForwardGradient, BP, BPTT)
REGISTRY: Registry[type[Rule]] = Registry("rule", "noisylearn.rules", {rule.name: rule for rule in _OWN}, name_of)


def register(rule: type[Rule]) -> type[Rule]:
    """Add a rule of your own: commands, recipes and run files know it by its name, and its options.

    Args:
        rule: its class, a frozen dataclass derived from `Rule` or one of its subclasses.

    Returns:
        The class, so that this serves as a decorator.

    Raises:
        UserError: it is no complete rule, or its name or one of its options has another meaning already.
    """
    return REGISTRY.register(rule)


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
        raise unknown_rule(name, REGISTRY)
    return REGISTRY[name]


def unknown_rule(name: str, known: Iterable[str]) -> UserError:
    """Make the error for an unknown rule; that of a class suggests the name of its rule.

    Args:
        name: the unknown name.
        known: the known names.

    Returns:
        The error, to be raised.
    """
    own = [key for key, kind in REGISTRY.items() if kind.__name__.lower() == name.lower()]
    return unknown_name("rule", name, known) if not own else UserError(f"unknown rule '{name}'; did you mean {own[0]}?")


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
    "LossWatch",
    "NodePerturbation",
    "NoisyPasses",
    "PerLayer",
    "Perturbation",
    "Rule",
    "register",
    "rule_class",
    "rules_for",
]
