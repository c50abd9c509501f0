"""Weights to start from: of a checkpoint of the same network, such as the first of two training steps, or a file of weights of a
timm or torchvision network as those libraries, or another training, saved them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from onebit.checkpoints import checkpoint, weights
from onebit.models import MODELS
from onebit.models.dataflow import dataflow
from onebit.models.libraries import is_library
from onebit.models.selection import ends
from onebit.nn.layers import binary_layers
from onebit.runtime.recognition import recognized

# torchvision's file of its DenseNets calls norm.1 what the network calls norm1.
DENSE = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$")
AUXILIARY = re.compile(r"aux\d\.|AuxLogits\.")  # classifiers beside the last one, which networks here do not have


@dataclass(frozen=True)
class Start:
    """What a network got of a file: `fresh`, the tensors that it lacks and that start anew, of binarizers; `head`, those of the
    last layer where the file has none, or one for another number of classes, `classes`; `body`, how many tensors a network of
    another task got of a classifier, where it did."""

    fresh: list[str]
    head: list[str]
    classes: int = 0
    body: int = 0

    def lines(self, path: str | Path, ours: int) -> list[str]:
        """What to say of it. ours: classes of the network."""
        found = []
        if self.body:
            found.append(f"{path} is of a classifier: {self.body} tensors of its body are taken, all others start anew")
        if self.head:
            name = self.head[0].rpartition(".")[0]
            has = f"{self.classes} classes, the data set {ours}" if self.classes else "no last layer"
            found.append(f"{path} has {has}: the layer {name} starts anew")
        if self.fresh:
            found.append(
                f"{path} lacks {len(self.fresh)} tensors of the method's own, which start anew: {self.fresh[0]}, ..."
            )
        return found


def initialize_from(model: nn.Module, path: str | Path) -> Start:
    """Load the weights of a file (averaged ones, where there are some) into `model`, whose `config` says what it is.

    Every tensor of the file must be used and every one of the network found, but for what belongs to binarizers: the first
    step's network has none for its weights, and a float network none at all. Weight binarizers that found nothing start anew
    from the loaded weights, as ReBNN's scales do. Networks of timm and torchvision, and those that know the names of others'
    files (`adopted`), also start from a file with another number of classes, or without a last layer, and detectors from a
    classifier with the same body. Raises UserError for weights of another network.
    """
    config: Any = model.config
    adopted: Any = getattr(model, "adopted", None)
    library = is_library(config["name"]) or adopted is not None
    state, theirs = read(path, library)
    if theirs is None and adopted is not None:
        state = adopted(state)
    expected = model.state_dict()
    if theirs is not None and (parts := of_body(config, theirs, state, expected)) is not None:
        return body_from(model, {name: state[name] for name in parts}, path)
    owners = {"classifier"} if adopted is not None else last_layers(model) if library else set()
    last = [name for name in expected if name.rpartition(".")[0] in owners]
    head = [name for name in last if name not in state or state[name].shape != expected[name].shape]
    found = [state[name] for name in head if name in state]
    if any(len(expected[name]) != config["classes"] for name in head) or any(value.dim() == 0 for value in found):
        head, found = [], []  # of another network: the error names the tensor
    classes = len(found[0]) if found else 0
    kept = {name: value for name, value in state.items() if name not in head}
    missing = weights.load(
        model,
        kept,
        f"initial = {path}",
        "this network",
        _networks(theirs, model, is_library(config["name"])),
        lambda name: name in head or _of_binarizer(name) or (library and name.endswith("num_batches_tracked")),
    )
    start_binarizers(model, state)
    return Start([name for name in missing if _of_binarizer(name)], head, classes)


def of_body(
    config: Mapping[str, Any], theirs: Mapping[str, Any], state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> list[str] | None:
    """The names that a network shares with a classifier of another task than its own: those of the classifier's body. None
    where both are for one task, or share no convolution."""
    tasks = [MODELS[entry["name"]].task for entry in (config, theirs) if not is_library(entry["name"])]
    if len(set(tasks)) < 2:
        return None
    shared = [name for name, value in state.items() if name in expected and value.shape == expected[name].shape]
    return shared if any(expected[name].dim() == 4 for name in shared) else None


def body_from(model: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> Start:
    """Load the body of a classifier; what else the network has starts anew."""
    model.load_state_dict(state, strict=False)
    start_binarizers(model, state)
    return Start([], [], body=len(state))


def start_binarizers(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Weight binarizers start from the weights that were loaded, where the state has nothing of theirs."""
    for name, layer in binary_layers(model):
        has = any(key.startswith(f"{name}.weight_binarizer.") for key in state)
        if layer.weight_binarizer is not None and f"{name}.weight" in state and not has:
            layer.weight_binarizer.initialize(layer.weight.detach())


def _of_binarizer(name: str) -> bool:
    return "_binarizer." in name


def read(path: str | Path, library: bool) -> tuple[dict[str, Tensor], Mapping[str, Any] | None]:
    """(state dict, config of its network) of a checkpoint of onebit; of a library's network also of a file of weights, whose
    config nobody knows."""
    if library:
        remedy = "name a checkpoint, or a file of the network's weights (.pth, .safetensors)"
        content = weights.read_torch(path, remedy) if recognized(path).name == "torch" else {}
        if not (isinstance(content, dict) and isinstance(content.get("config"), dict) and "version" in content):
            return plain(weights.read(path, remedy)), None
    saved = checkpoint.load(path)
    return saved.ema or saved.model, saved.config


def plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without what wrappers put before names, in the names of today's networks."""
    found = {}
    for name, value in state.items():
        name = DENSE.sub(r"\1\2", name.removeprefix("module.").removeprefix("_orig_mod."))
        if not AUXILIARY.match(name):
            found[name] = value
    return found


def last_layers(model: nn.Module) -> set[str]:
    """Names of the layers that give the network's outputs."""
    return ends(model, dataflow(model))[1]


def _networks(theirs: Mapping[str, Any] | None, model: nn.Module, library: bool) -> str:
    """Which two networks these are, for an error."""
    ours: Any = model.config
    if theirs is None and not library:
        return f"it holds weights of another network than {ours['name']}"
    if theirs is None:
        return f"it holds weights of another network than {ours['name']} of image_size {ours['image_size']}"
    if different := [key for key in ours if theirs.get(key) != ours[key]]:
        return "it was trained with " + ", ".join(f"{k} = {theirs.get(k)!r} (here {ours[k]!r})" for k in different)
    return "it was written by another version"
