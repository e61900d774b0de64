"""The layers of a model that own weights, and the local product of input and error that makes their update."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight
from torch.nn.utils.parametrize import is_parametrized

from noisylearn.ground.errors import UserError

# Linear in their weights and in their input, with the batch in front.
WeightLayer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
PLACEABLE: tuple[type[WeightLayer], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
FUSED = (
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
    nn.Transformer,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
MIXES_SAMPLES = (nn.modules.batchnorm._BatchNorm,)
OWN_RANDOMNESS = (nn.modules.dropout._DropoutNd, nn.RReLU)
PRECISIONS = (torch.float32, torch.float64)


def weight_layers(model: nn.Module) -> dict[str, WeightLayer]:
    """Every layer that owns weights, by name, in order of definition.

    Other modules run digitally. Those that own parameters have to be frozen, since no update can be formed for them;
    those that mix samples or draw numbers in training have to be in evaluation mode, as of a pretrained network.

    A subclass of a Linear or Conv layer is one where it computes as its base does.

    Args:
        model: the network.

    Returns:
        Name -> Linear or Conv layer.

    Raises:
        UserError: an update cannot be formed from a layer's input and pre-activation: fused recurrent or attention
            modules, normalisation over the batch or dropout in training mode, parameters outside Linear and Conv layers
            that are not frozen, weights shared between layers. Or the model is compiled or wrapped, or weights are in
            half precision, or have no values yet. The message names the layer.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"a chip takes a model, a torch.nn.Module, not {type(model).__name__}")
    layers: dict[str, WeightLayer] = {}
    owner: dict[Tensor, str] = {}
    for name, module in model.named_modules():
        _check_seen(_label(name, module), module)
    check_still(model)
    for name, module in model.named_modules():
        label = _label(name, module)
        own = dict(module.named_parameters(recurse=False))
        _check_values(label, own)
        if not isinstance(module, PLACEABLE) or not _computes_as_its_base(module):
            _check_frozen(label, module, own)
            continue
        for parameter in own.values():
            if parameter in owner:
                raise UserError(f"{label} shares a parameter with layer '{owner[parameter]}'; give each its own")
            owner[parameter] = name
        layers[name] = module
    if not layers:
        raise UserError(
            "the model has no Linear or Conv layer: there are no weights to place on a chip; one that is quantised has "
            "none either, place it as it was before"
        )
    return layers


def _check_seen(label: str, module: nn.Module) -> None:
    """Check that what happens in a module can be seen from outside, layer by layer."""
    if isinstance(module, FUSED):
        raise UserError(
            f"{label} is fused: its inner pre-activations cannot be seen; build it from single Linear layers"
        )
    if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
        raise UserError(
            f"{label} is compiled: noise cannot be added layer by layer; place the model as it was before, which is "
            "compiled._orig_mod for compiled = torch.compile(model)"
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise UserError(f"{label} is TorchScript: its layers cannot be seen; place the model that it was made from")
    if isinstance(module, WRAPPERS):
        raise UserError(
            f"{label} spreads batches itself: place what it wraps, its .module; several processes share a run by "
            "torchrun (docs/distributed.md)"
        )
    if is_parametrized(module):
        raise UserError(
            f"{label}: a parameter of it is computed from others; make it a plain one first, "
            "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
        )


def _computes_as_its_base(module: WeightLayer) -> bool:
    """Whether a layer, maybe of a subclass, has the forward pass of the Linear or Conv layer that it derives from."""
    base: Any = next(kind for kind in PLACEABLE if isinstance(module, kind))
    same = (getattr(type(module), what, None) is getattr(base, what, None) for what in ("forward", "_conv_forward"))
    given = vars(module).get("forward")  # by a user, or by a chip for as long as a pass runs, above that of a user
    own = getattr(given, "own", given)
    return all(same) and getattr(own, "__func__", own) in (None, base.forward)


def _check_frozen(label: str, module: nn.Module, own: dict[str, nn.Parameter]) -> None:
    """Check that a module that runs digitally has nothing to learn."""
    learning = [key for key, parameter in own.items() if parameter.requires_grad]
    if not learning:
        return
    use = f"use {', '.join(kind.__name__ for kind in PLACEABLE)}"
    if isinstance(module, PLACEABLE):
        use = "its forward pass is one of its own: let it call a plain Linear or Conv layer that it holds"
    raise UserError(
        f"{label} owns parameters ({', '.join(learning)}) whose update cannot be formed; {use}, or freeze them: "
        ".requires_grad_(False)"
    )


def still_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules that mix samples or draw numbers in training mode, by name.

    Args:
        model: the network.
    """
    kinds = MIXES_SAMPLES + OWN_RANDOMNESS
    return {name: m for name, m in model.named_modules() if isinstance(m, kinds) and getattr(m, "p", 1) > 0}


def check_still(model: nn.Module) -> None:
    """Check that a model's output is a function of each sample alone, as far as its modules' modes tell.

    Args:
        model: the network.

    Raises:
        UserError: a module mixes samples or draws numbers now.
    """
    for name, module in still_modules(model).items():
        if is_still(module):
            continue
        what, without = "draws noise that the rule cannot see", "set its p to 0"
        if isinstance(module, MIXES_SAMPLES):
            what, without = "mixes the samples of a batch, so one sample has no loss of its own", "remove it"
        raise UserError(f"{_label(name, module)} {what}: put it in evaluation mode, model.eval(), or {without}")


def is_still(module: nn.Module) -> bool:
    """Whether a module that mixes samples or draws numbers in training does neither now.

    Args:
        module: one of `still_modules`.
    """
    return not module.training and getattr(module, "running_mean", module) is not None


def _label(name: str, module: nn.Module) -> str:
    return f"layer '{name or 'model'}' ({type(module).__name__})"


def _check_values(label: str, parameters: dict[str, nn.Parameter]) -> None:
    """Check that parameters have values, precise enough to compare noisy passes."""
    for key, parameter in parameters.items():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise UserError(f"{label}: its {key} has no shape yet; run model(x) once with typical samples first")
        if parameter.is_meta:
            raise UserError(
                f"{label}: its {key} is on the meta device and has no values; load them first, with "
                "model.to_empty(device=...) and load_state_dict"
            )
        if parameter.dtype not in PRECISIONS:
            precision = str(parameter.dtype).removeprefix("torch.")
            raise UserError(
                f"{label}: its {key} is {precision}, whose rounding loses perturbations; use float32, model.float(), "
                "or float64"
            )


def apply_weights(
    layer: WeightLayer,
    weight: Float[Tensor, " n_out *fan_in"],
    bias: Float[Tensor, " n_out"] | None,
    inputs: Float[Tensor, "batch ..."],
) -> Float[Tensor, "batch ..."]:
    """Output of a layer with other weights than its own, without its hooks.

    Args:
        layer: gives the kind of product and its geometry.
        weight: in the shape of the layer's own.
        bias: or None for none.
        inputs: as the layer takes them.

    Returns:
        Pre-activations.
    """
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(inputs, weight, bias)
    return layer._conv_forward(inputs, weight, bias)


def columns_in_a_row(weight: Float[Tensor, " n_out *fan_in"]) -> Float[Tensor, " n_out *fan_in"]:
    """Store a weight matrix column by column, for fast products with few rows, such as a step of a sequence.

    Such a product then takes 0.6 to 0.7 of the time, because nothing is rearranged. Weights of convolutions, and
    weights that autograd differentiates, are returned as they are.

    Args:
        weight: of a layer.

    Returns:
        The same numbers.
    """
    return weight.T.contiguous().T if weight.dim() == 2 and not weight.requires_grad else weight


def exact_convolutions(x: Tensor) -> AbstractContextManager[None]:
    """Context in which CUDA convolutions are reproducible and in full float32: TF32 would round perturbations away.

    Args:
        x: any tensor on the device that computes; on a CPU nothing changes.
    """
    if not x.is_cuda:
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def parameter_gradients(
    layer: WeightLayer, inputs: Float[Tensor, "batch ..."], signal: Float[Tensor, "batch ..."]
) -> dict[str, Float[Tensor, "..."]]:
    """Batch mean of a layer's local weight update.

        dW = g x^T,   db = g

    For a convolution, dW is the vector-Jacobian product of its output with respect to its weight.

    Args:
        layer: the layer.
        inputs: x, what entered the layer.
        signal: g, the estimate of dL/da at its pre-activations, in the shape of its output.

    Returns:
        "weight" and, where the layer has one, "bias" -> gradient in the parameter's shape.
    """
    n_samples = inputs.shape[0]
    gradients: dict[str, Tensor] = {}
    if isinstance(layer, nn.Linear):
        inputs, signal = inputs.reshape(-1, inputs.shape[-1]), signal.reshape(-1, signal.shape[-1])
        sum_of = signal.new_empty(signal.shape[1], inputs.shape[1])  # given as the sum itself, so that it is not copied
        gradients["weight"] = torch.addmm(sum_of, signal.T, inputs, beta=0, alpha=1 / n_samples, out=sum_of)
        if layer.bias is not None:
            gradients["bias"] = signal.sum(0) / n_samples
    else:
        signal = signal / n_samples
        with exact_convolutions(inputs):
            gradients["weight"] = weight_vjp(layer, inputs, signal)
        if layer.bias is not None:
            gradients["bias"] = signal.sum([d for d in range(signal.dim()) if d != 1])
    return gradients


def weight_vjp(
    layer: WeightLayer, inputs: Float[Tensor, "batch ..."], signal: Float[Tensor, "batch ..."]
) -> Float[Tensor, " n_out *fan_in"]:
    """Vector-Jacobian product of a layer's output with respect to its weight, summed over the batch.

    Args:
        layer: gives the kind of product and its geometry.
        inputs: what entered the layer.
        signal: in the shape of its output.

    Returns:
        In the shape of the weight.
    """
    if isinstance(layer, nn.Linear):
        return signal.reshape(-1, signal.shape[-1]).T @ inputs.reshape(-1, inputs.shape[-1])
    if _is_plain_conv2d(layer):
        return conv2d_weight(inputs, layer.weight.shape, signal, *_geometry(layer))
    with torch.enable_grad():
        weight = layer.weight.detach().requires_grad_()
        output = apply_weights(layer, weight, None, inputs.detach())
        return torch.autograd.grad(output, weight, signal)[0]


def input_vjp(
    layer: WeightLayer,
    weight: Float[Tensor, " n_out *fan_in"],
    shape: torch.Size,
    signal: Float[Tensor, "batch ..."],
) -> Float[Tensor, "batch ..."]:
    """Vector-Jacobian product of a layer's output with respect to its input, with other weights than its own.

    Args:
        layer: gives the kind of product and its geometry.
        weight: in the shape of the layer's own.
        shape: of the input.
        signal: in the shape of the output.

    Returns:
        In the shape of the input.
    """
    if isinstance(layer, nn.Linear):
        return signal @ weight
    if _is_plain_conv2d(layer):
        return conv2d_input(shape, weight, signal, *_geometry(layer))
    with torch.enable_grad():
        inputs = signal.new_zeros(shape, requires_grad=True)
        output = apply_weights(layer, weight, None, inputs)
        return torch.autograd.grad(output, inputs, signal)[0]


def _is_plain_conv2d(layer: WeightLayer) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _geometry(layer: WeightLayer) -> tuple[Any, ...]:
    return layer.stride, layer.padding, layer.dilation, layer.groups
