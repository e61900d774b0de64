"""Forward gradients: exact directional derivatives of the digital model, without a backward pass."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

from noisylearn.chips.interface import AnyChip, Memory
from noisylearn.chips.readings import Readings
from noisylearn.ground.errors import UserError
from noisylearn.networks.layers import WeightLayer, apply_weights, parameter_gradients
from noisylearn.rules.base import DRAWS_HELP, Rule, draws_in_words
from noisylearn.rules.checks import check_choice, check_count
from noisylearn.rules.directions import STEPS, StepDraws, start
from noisylearn.rules.estimate import Estimate
from noisylearn.rules.in_time import (
    CREDIT_HELP,
    DECAY_HELP,
    OF_LATER_LOSSES,
    OF_SEQUENCES,
    UPDATE_HELP,
    Credit,
    InTime,
    Update,
    updates_in_words,
)
from noisylearn.rules.observation import Observation

Perturb = Literal["activity", "weight"]
Tangent = Callable[[str, WeightLayer, Tensor, Tensor], Tensor]  # of (name, layer, its input, its output)


@dataclass(frozen=True, kw_only=True)
class ForwardGradient(Rule):
    """g_l = (sum_k v_k . dL/da_k) v_l with directions v ~ N(0, 1) and an exact derivative by forward-mode autograd.

    It is what node and weight perturbation become for infinitely small noise: unbiased, of their variance. Like
    backpropagation it runs off the chip: it needs the digital model, which is programmed onto the chip afterwards.

    Args:
        perturb: "activity": a direction for every pre-activation of every sample (Ren et al.); "weight": one for every
            weight and bias, shared by the batch, dW = (v . dL/dW) v (Baydin et al.).
        draws: directions per sample or batch; their estimates are averaged.
        credit: for sequences, see `noisylearn.rules.in_time.InTime`; as for `decay` and `update`.
    """

    name = "fg"
    title = "forward gradient (forward-mode autograd, off the chip)"
    equation = "g_l = (sum_k v_k . dL/da_k) v_l,  v ~ N(0, 1)"
    source = (
        "Baydin, Pearlmutter, Syme, Wood, Torr: Gradients without backpropagation, arXiv:2202.08587, 2022; "
        "Ren, Kornblith, Liao, Hinton: Scaling forward gradient with local losses, ICLR 2023"
    )
    perturbs = False
    unbiased = "deep"
    scale_free = True
    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {"draws": (3,)}

    perturb: Perturb = field(
        default="activity", metadata={"help": "What forward gradients perturb: activity, or weight."}
    )
    draws: int = field(default=1, metadata={"help": DRAWS_HELP})
    credit: Credit = field(
        default="local",
        metadata={"help": CREDIT_HELP},
    )
    decay: float = field(default=0.9, metadata={"help": DECAY_HELP})
    update: Update = field(default="sequence", metadata={"help": UPDATE_HELP})

    def __post_init__(self) -> None:
        check_choice(self.name, "perturb", self.perturb, Perturb)
        check_count(self.name, draws=self.draws)
        self.in_time()

    def init(self, chip: AnyChip) -> Memory:
        """How many estimates it made, from which its directions follow."""
        return start()

    @property
    def on_chip(self) -> bool:
        return False

    @property
    def shares_draws(self) -> bool:
        return self.perturb == "weight"

    def in_time(self) -> InTime:
        found = InTime(self.credit, self.decay, self.update, stepwise=self.perturb == "weight")
        if self.credit != "local" and (self.perturb == "weight" or self.update == "online"):
            raise UserError(
                f"rule fg: credit '{self.credit}' goes with perturb 'activity' and update 'sequence': its derivatives "
                "reach as far as one segment; use those, or credit 'local'"
            )
        return found

    def forward_passes(self, n_layers: int) -> int:
        """One of the digital model for every direction, which carries a derivative along."""
        return self.draws

    def step(self, state: Memory, seen: Observation, layers: Collection[str]) -> tuple[Estimate, Memory]:
        estimate = self._by_weights if self.perturb == "weight" else self._by_activities
        return estimate(seen, layers, StepDraws.of(self.name, state, seen)), {STEPS: state[STEPS] + 1}

    def _by_activities(self, seen: Observation, layers: Collection[str], draws: StepDraws) -> Estimate:
        drawn: dict[str, list[Tensor]] = {name: [] for name in layers}

        def tangent(name: str, layer: WeightLayer, entered: Tensor, left: Tensor) -> Tensor:
            if not seen.segment.in_time:
                drawn[name].clear()  # the executor may have probed the model before
            call, blocks = len(drawn[name]), enumerate(self._by_draw(seen, left))
            v = self._by_rows([draws.normal(f"draw {k}, {name}, {call}", b) for k, b in blocks], seen.segment.batch)
            drawn[name].append(v)
            return v

        readings, losses, slopes = self._pushed(seen, layers, tangent)
        inputs = self._inputs(seen, readings)
        gradients = {}
        for name in layers:
            blocks = torch.stack(self._by_draw(seen, torch.cat(drawn[name])))
            signal = torch.einsum("kr,krn->rn", slopes, blocks.flatten(2)).reshape(blocks.shape[1:]) / self.draws
            gradients[name] = parameter_gradients(readings.layers[name].layer, inputs[name], signal)
        return Estimate(losses[0].mean(), gradients, inputs)

    def _by_weights(self, seen: Observation, layers: Collection[str], draws: StepDraws) -> Estimate:
        def direction(name: str, k: int) -> dict[str, Tensor]:
            own = seen.chip.layers[name].named_parameters()
            return {key: draws.normal(f"draw {k}, {name}, {key}", p.detach()) for key, p in own if p.requires_grad}

        def tangent(name: str, layer: WeightLayer, entered: Tensor, left: Tensor) -> Tensor:
            still, moved = torch.zeros_like(layer.weight), []
            for k, block in enumerate(self._by_draw(seen, entered)):
                v = direction(name, k)
                moved.append(apply_weights(layer, v.get("weight", still), v.get("bias"), block))
            return self._by_rows(moved, seen.segment.batch)

        readings, losses, slopes = self._pushed(seen, layers, tangent)
        gradients: dict[str, dict[str, Tensor]] = {name: {} for name in layers}
        for k, slope in enumerate(slopes.mean(1) / self.draws):
            for name, found in gradients.items():
                for key, v in direction(name, k).items():
                    found[key] = found[key] + slope * v if k else slope * v
        return Estimate(losses[0].mean(), gradients, self._inputs(seen, readings))

    def _pushed(self, seen: Observation, layers: Collection[str], tangent: Tangent) -> tuple[Readings, Tensor, Tensor]:
        """Run a digital pass over a copy of the batch for every draw, which pushes tangents forward.

        Args:
            seen: runs it.
            layers: names of those whose pre-activations get a tangent.
            tangent: gives it.

        Returns:
            Readings; losses; and of every row the derivative of the losses that are credited to it, (draws, rows).

        Raises:
            UserError: a part of the model has no forward-mode derivative.
        """
        moving, rows = {name: seen.chip.layers[name] for name in layers}, self.draws * seen.segment.batch
        try:
            with torch.no_grad(), forward_ad.dual_level(), _moved(moving, tangent, rows):
                readings, losses = seen.digital_copies(self.draws)
                primal, slopes = forward_ad.unpack_dual(losses)
        except NotImplementedError:
            raise UserError(
                "rule fg: a function of the model has no forward-mode derivative, as those of spiking neurons have "
                "none: use bp (in time bptt), or a rule that learns from noise, such as anp"
            ) from None
        slopes = torch.zeros_like(primal) if slopes is None else slopes
        if seen.weights is not None:
            slopes = seen.time.credited(slopes.unflatten(1, seen.weights.shape)).flatten(1)
        return readings, primal, slopes

    def _by_draw(self, seen: Observation, rows: Tensor) -> list[Tensor]:
        """Rows (steps x draws x batch, ...) as one (steps x batch, ...) for every draw."""
        return [rows.unflatten(0, (-1, self.draws, seen.segment.batch))[:, k].flatten(0, 1) for k in range(self.draws)]

    def _by_rows(self, blocks: list[Tensor], batch: int) -> Tensor:
        """Inverse of `_by_draw`."""
        return torch.stack([block.unflatten(0, (-1, batch)) for block in blocks], 1).flatten(0, 2)

    def _inputs(self, seen: Observation, readings: Readings) -> dict[str, Tensor]:
        """Input of every layer, of the first copy of the batch."""
        return {name: self._by_draw(seen, reading.input[0])[0] for name, reading in readings.layers.items()}

    @classmethod
    def idle(cls, options: Mapping[str, Any], in_time: bool) -> dict[str, str]:
        if not in_time:
            return dict.fromkeys(("credit", "decay", "update"), OF_SEQUENCES)
        return {} if options.get("credit") == "trace" else {"decay": "goes with --credit trace"}

    @classmethod
    def settled(cls, recipe: Mapping[str, Any], stated: Mapping[str, Any], profile: Any) -> dict[str, Any]:
        """The options given; updates by sequence where the stated credit needs them, unless stated otherwise."""
        options = {**recipe, **stated}
        if options.get("credit") in (*OF_LATER_LOSSES, "trace") and "update" not in stated:
            options["update"] = "sequence"
        return options

    @property
    def distinction(self) -> str:
        return f"{draws_in_words(self.draws)}, then programmed"

    def terms(self, in_time: bool) -> list[str]:
        of_time = [f"credit {self.credit}", updates_in_words(self.update)] if in_time else []
        return [f"perturbs {self.perturb}", *of_time]


@contextmanager
def _moved(layers: Mapping[str, WeightLayer], tangent: Tangent, rows: int) -> Iterator[None]:
    """Add tangents to the pre-activations of layers for as long as a pass runs.

    Args:
        layers: name -> layer.
        tangent: gives them.
        rows: of one step; calls with others are probes of the executor, which need none.
    """

    def hook_of(name: str) -> Callable[[Any, tuple[Tensor, ...], Tensor], Tensor]:
        def hook(layer: Any, entered: tuple[Tensor, ...], left: Tensor) -> Tensor:
            if len(left) % rows:
                return left
            added = tangent(name, layer, forward_ad.unpack_dual(entered[0]).primal, left)
            return left + forward_ad.make_dual(torch.zeros_like(added), added)

        return hook

    hooks = [layer.register_forward_hook(hook_of(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
