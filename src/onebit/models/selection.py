"""Which layers of somebody's network become binary ones, and why the others do not.

By default these stay real, since the papers leave them so or bits gain nothing there: the first layer, the last, depth-wise
convolutions, and 1x1 convolutions of fewer than 32 channels on either side. What has no binary form stays, too.
"""

import difflib
import fnmatch
import inspect
from collections.abc import Callable, Iterable

from torch import nn
from torch.nn.utils import parametrize

from onebit.errors import UserError
from onebit.models.dataflow import WEIGHTED, Dataflow
from onebit.nn.layers import BinaryConv2d, BinaryLinear

Choice = str | type | Callable[[str, nn.Module], bool]
NARROW = 32  # channels of a 1x1 convolution: half a word of the engine
SAME_FORWARD = {"timm.layers.linear.Linear"}  # classes whose forward pass is nn.Linear's outside TorchScript


def chosen(model: nn.Module, choices: Choice | Iterable[Choice] | None, option: str) -> dict[str, str]:
    """{name of a layer: the choice that names it}. A choice is the name of a module, which stands for all layers in it, a
    pattern of names (* ? [), a type, or a function of name and module.

    Raises UserError for a choice that names no convolution or linear layer: nothing would come of it.
    """
    single = isinstance(choices, str | type | nn.Module) or callable(choices) or not isinstance(choices, Iterable)
    given = [] if choices is None else [choices] if single else list(choices)  # type: ignore[arg-type]
    modules = dict(model.named_modules())
    layers = [name for name, module in modules.items() if isinstance(module, WEIGHTED)]
    found: dict[str, str] = {}
    for choice in given:
        if isinstance(choice, str):
            matching = [name for name in modules if fnmatch.fnmatchcase(name, choice)]
            covered = [name for name in layers if any(name == m or name.startswith(f"{m}.") for m in matching)]
            shown = repr(choice)
        elif isinstance(choice, type):
            matching = [name for name, module in modules.items() if isinstance(module, choice)]
            covered = [name for name in layers if any(name == m or name.startswith(f"{m}.") for m in matching)]
            shown = choice.__name__
        elif isinstance(choice, nn.Module):
            near = [name for name, module in modules.items() if module is choice]
            raise UserError(
                f"{option}: a {type(choice).__name__} is none of a name, a pattern, a type and a function of name and module; give "
                + (f"its name, {near[0]!r}" if near else "its name in the model")
            )
        elif callable(choice):
            try:
                inspect.signature(choice).bind("name", model)
            except TypeError as error:
                raise UserError(
                    f"{option}: a function is called with a name and a module ({error}); let it take both"
                ) from error
            except ValueError:  # of a builtin: nothing is known of what it takes
                pass
            covered, shown = [name for name in layers if choice(name, modules[name])], getattr(choice, "__name__", "")
        else:
            raise UserError(
                f"{option}: {choice!r} is none of a name, a pattern, a type and a function of name and module; give one"
            )
        if not covered and isinstance(choice, str | type):
            near = difflib.get_close_matches(choice, modules, 1) if isinstance(choice, str) else []
            raise UserError(
                f"{option} = {shown} names no convolution or linear layer of {type(model).__name__}"
                + (f"; did you mean {near[0]!r}?" if near else f"; its layers are {', '.join(layers[:8])}, ...")
            )
        found |= {name: f"{option}: {shown}" for name in covered if name not in found}
    return found


def impossible(name: str, layer: nn.Module, facts: Dataflow | None, owners: dict[int, str]) -> str:
    """Why a layer cannot become a binary one, "" if it can. owners: the first layer that has a weight, by the weight's id."""
    if isinstance(layer, BinaryConv2d | BinaryLinear):
        return "binary already"
    if not isinstance(layer, nn.Conv2d | nn.Linear) or isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return f"{type(layer).__name__} has no binary form, only Conv2d and Linear"
    if parametrize.is_parametrized(layer):
        return "its weight is parametrized (remove_parametrizations makes it a plain one)"
    if layer._parameters.get("weight") is None:
        return "its weight is made by a hook (remove_weight_norm or the like makes it a plain one)"
    if not layer.weight.is_floating_point():
        return f"its weight is {layer.weight.dtype}"
    if own := own_forward(layer):
        return own
    if isinstance(layer, nn.Conv2d):
        if layer.padding_mode != "zeros":
            return f"padding mode {layer.padding_mode}"
        if layer.padding == "same" and any(d * (k - 1) % 2 for d, k in zip(layer.dilation, layer.kernel_size)):
            return "'same' padding of an even kernel"
    first = owners.setdefault(id(layer.weight), name)
    if first != name:
        return f"shares its weight with {first}"
    if facts is not None and name in facts.read:
        return "the network reads its weight itself"
    if facts is not None and name not in facts.called:
        return "the network does not call it"
    return ""


def own_forward(layer: nn.Module) -> str:
    """What replaces the forward pass of nn.Conv2d or nn.Linear in this layer, "" where nothing does."""
    kind = type(layer)
    if f"{kind.__module__}.{kind.__qualname__}" in SAME_FORWARD and "forward" not in vars(layer):
        return ""
    base = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
    for method in ("forward", "_conv_forward", "__call__"):
        if method in vars(layer) or getattr(kind, method, None) is not getattr(base, method, None):
            return f"{kind.__name__} has a forward pass of its own"
    return ""


def by_default(name: str, layer: nn.Module, first: set[str], last: set[str]) -> str:
    """Why a layer stays real unless it is asked for, "" if it does not."""
    if name in first:
        return "first layer"
    if name in last:
        return "last layer"
    if isinstance(layer, nn.Conv2d):
        if layer.groups > 1 and layer.groups == layer.in_channels:
            return "depth-wise"
        if layer.kernel_size == (1, 1) and (channels := min(layer.in_channels, layer.out_channels)) < NARROW:
            return f"1x1 of {channels} channels"
    return ""


def ends(model: nn.Module, facts: Dataflow | None) -> tuple[set[str], set[str]]:
    """The first layers and the last ones; of a network without facts by the order in which it names them."""
    if facts is not None and facts.called != {""}:
        return facts.first, facts.last
    names = [(name, module) for name, module in model.named_modules() if name and isinstance(module, WEIGHTED)]
    if not names:
        return set(), set()
    convolutions = [name for name, module in names if isinstance(module, nn.Conv2d)]
    linear = [name for name, module in names if isinstance(module, nn.Linear)]
    return {(convolutions or [names[0][0]])[0]}, {(linear or [names[-1][0]])[-1]}


def read_elsewhere(model: nn.Module) -> dict[str, str]:
    """Layers whose weight a module of PyTorch reads, instead of calling them: {name: why}."""
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            found[f"{name}.out_proj".lstrip(".")] = "MultiheadAttention reads its weight itself"
    return found
