"""The registry of net makers and of the activations that they take."""

from __future__ import annotations

import keyword
from dataclasses import dataclass


@dataclass(frozen=True)
class Activation:
    """An element-wise function between layers; `code` is its generated call."""

    name: str
    code: str
    doc: str


@dataclass(frozen=True)
class Maker:
    """How a net is generated. One that is `deep` takes the sizes of its hidden layers and an activation."""

    name: str
    usage: str
    doc: str
    deep: bool


_ACTIVATIONS = (
    Activation("relu", "torch.relu({x})", "max(x, 0)"),
    Activation("tanh", "torch.tanh({x})", "hyperbolic tangent"),
    Activation("sigmoid", "torch.sigmoid({x})", "1 / (1 + exp(-x))"),
    Activation("softplus", "fn.softplus({x})", "log(1 + exp(x))"),
    Activation("gelu", "nn.functional.gelu({x})", "x times the standard normal distribution function"),
    Activation("silu", "nn.functional.silu({x})", "x sigmoid(x)"),
    Activation("leaky_relu", "nn.functional.leaky_relu({x})", "max(x, 0.01 x)"),
    Activation("elu", "nn.functional.elu({x})", "x above 0, exp(x) - 1 below"),
)

_MAKERS = (
    Maker(
        "mlp",
        "mlp(H1, H2, …, activation = relu)",
        "fully connected layers of these sizes, an activation behind each, then a linear head an output",
        deep=True,
    ),
    Maker("linear", "linear()", "a linear head an output, no hidden layer", deep=False),
)

ACTIVATIONS: dict[str, Activation] = {row.name: row for row in _ACTIVATIONS}
MAKERS: dict[str, Maker] = {row.name: row for row in _MAKERS}

_MODULE_ATTRIBUTES = frozenset(
    {"T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "compile"}
    | {"cpu", "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer"}
    | {"get_extra_state", "get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules"}
    | {"mtia", "named_buffers", "named_children", "named_modules", "named_parameters", "parameters"}
    | {"register_backward_hook", "register_buffer", "register_forward_hook", "register_forward_pre_hook"}
    | {"register_full_backward_hook", "register_full_backward_pre_hook", "register_load_state_dict_post_hook"}
    | {"register_load_state_dict_pre_hook", "register_module", "register_parameter"}
    | {"register_state_dict_post_hook", "register_state_dict_pre_hook", "requires_grad_", "set_extra_state"}
    | {"set_submodule", "share_memory", "state_dict", "to", "to_empty", "train", "training", "type", "xpu"}
    | {"zero_grad"}
)
"""What torch's modules call their own."""


def layer_names(hidden: int, outputs: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a net's layers: `hidden`, or `hidden1`, `hidden2`, …, then its outputs, or `out`.

    A name that torch's modules or a layer before has, or that is a Python keyword, gets a `_`.
    """
    wishes = ["hidden"] if hidden == 1 else [f"hidden{number}" for number in range(1, hidden + 1)]
    names: list[str] = []
    for wish in (*wishes, *(name or "out" for name in outputs)):
        name = wish
        while name in _MODULE_ATTRIBUTES or name in names or keyword.iskeyword(name) or name.startswith("_"):
            name = f"{name}_" if not name.startswith("_") else f"out{name}"
        names.append(name)
    return tuple(names)
