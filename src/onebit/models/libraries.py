"""Networks of timm and torchvision by name, for any method: `timm:NAME`, `torchvision:NAME`, converted as by `onebit.binarize`.

They come without weights, which `initial` names; nothing is downloaded. In a recipe their `structure` says which layers stay
real beside those left by default, and which are converted all the same: {"skip": ["*.se.*"], "also": ["conv_stem"]}.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from onebit.errors import UserError
from onebit.methods.method import Method
from onebit.models.architecture import Architecture
from onebit.models.conversion import convert

CHOICES = ("skip", "also")


class LibraryNetwork(Architecture):
    """A row for a network that a library wires: a method replaces its layers, and its structure chooses which."""

    def wiring(self, method: Method, structure: Mapping[str, object]) -> Any:
        """{"skip": names and patterns, "also": likewise}. Raises UserError for other keys, and what are no texts."""
        for key, value in structure.items():
            texts = [value] if isinstance(value, str) else value
            if key not in CHOICES:
                raise UserError(
                    f"structure: {key!r} has no meaning for a network of a library; its keys are skip and also, names or "
                    "patterns of layers"
                )
            if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
                raise UserError(
                    f"structure: {key} = {value!r} must be the name or pattern of layers, or a list of them"
                )
        return dict(structure)

    def __call__(self, method: Method, structure: Any, **arguments: Any) -> nn.Module:
        model = self.build(method, structure, **arguments)
        if method.activation is not None:
            model.conversion = convert(model, method, **structure)  # type: ignore[assignment]
        elif structure:
            raise UserError(
                f"structure = {structure!r} has no meaning for method {method.name!r}, which converts nothing"
            )
        return model


def timm_network(name: str) -> Architecture:
    """timm:NAME. Raises UserError for an unknown name."""
    import timm

    if not timm.is_model(name):
        raise unknown("timm", name, timm.list_models(), timm.__version__)

    def build(method: Method, structure: Any, *, classes: int = 10, in_channels: int = 3, image_size: int = 224) -> Any:
        arguments: dict[str, Any] = {"num_classes": classes, "in_chans": in_channels}
        config: Any = timm.get_pretrained_cfg(name)
        if config is not None and config.fixed_input_size:
            arguments["img_size"] = image_size
        return made(f"timm:{name}", lambda: timm.create_model(name, pretrained=False, **arguments))

    return LibraryNetwork(build, "library")


# What networks with auxiliary classifiers need, so that they give one tensor, and start as the library starts them.
AUXILIARY: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def torchvision_network(name: str) -> Architecture:
    """torchvision:NAME, a classifier of torchvision.models. Raises UserError for an unknown name."""
    import torchvision

    known = torchvision.models.list_models(torchvision.models)
    if name not in known:
        raise unknown("torchvision", name, known, torchvision.__version__)
    builder = torchvision.models.get_model_builder(name)

    def build(method: Method, structure: Any, *, classes: int = 10, in_channels: int = 3, image_size: int = 224) -> Any:
        if in_channels != 3:
            raise UserError(
                f"torchvision:{name} takes images of 3 channels, these have {in_channels}; choose a network of timm, which "
                "takes any number"
            )
        arguments = {"num_classes": classes, **AUXILIARY.get(name, {})}
        if name.startswith("vit_"):
            arguments["image_size"] = image_size
        return made(f"torchvision:{name}", lambda: builder(weights=None, **arguments))

    return LibraryNetwork(build, "library")


def made(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    """The network, or the library's refusal in one line."""
    try:
        return build()
    except (RuntimeError, ValueError, TypeError, AssertionError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name} cannot be built so ({reason}); choose another image_size or model") from error


def unknown(library: str, name: str, known: list[str], version: str) -> UserError:
    """What to say of a name that the library does not have."""
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {library}:{close[0]}?" if close else f"see {library}'s list of models"
    return UserError(f"model '{library}:{name}' is not a network of {library} {version}; {hint}")


def is_library(name: object) -> bool:
    """Whether a model's name is that of a library's network."""
    return isinstance(name, str) and ":" in name
