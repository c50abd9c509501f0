"""What a model's code calls while it runs on real tensors, as a graph.

A TorchFunctionMode sees every function and method of tensors; layers that the packing tables know are one call each; what depends
on no input is a constant with a value. So sizes are numbers, `isinstance` and `if` of sizes work, hooks are calls like others, and
what changes a tensor in place gives it a new value from then on. Refused is what a file cannot hold: code that asks for the
numbers in a tensor that depends on an input, and values written into others.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from onebit.errors import UserError

LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
NUMBERS = {  # what asks for the numbers in a tensor
    *("__bool__", "__int__", "__float__", "__complex__", "__index__", "__array__", "__contains__"),
    *("item", "tolist", "numpy", "is_nonzero", "equal", "allclose"),
}
SIZES = {  # what takes no more than the size and type of a tensor: a constant
    *("zeros_like", "ones_like", "full_like", "empty_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
}
RENAMED = {
    **{name: "add" for name in ("radd", "iadd")},
    **{name: "mul" for name in ("rmul", "imul", "multiply")},
    **{name: "sub" for name in ("isub", "subtract")},
    **{name: "div" for name in ("truediv", "itruediv", "true_divide", "divide")},
    "rtruediv": "rdiv",
}


class Recorder(TorchFunctionMode):
    """Makes `graph` of what runs inside it. A node's meta has "shape" and "line" as `Lowering` reads them, "layer", the path of
    the layer of torch.nn that calls it or "", "inside", that of the module whose code does, and for constants "constant".

    known   whether a layer, of a path, is one call
    """

    def __init__(self, model: nn.Module, known: Callable[[nn.Module, str], bool]):
        super().__init__()
        self.graph = fx.Graph()
        self.known = known
        self.paths = {id(module): path for path, module in model.named_modules()}
        self.nodes: dict[int, fx.Node] = {}  # of tensors that depend on an input, by id
        self.constants: dict[tuple[int, int], fx.Node] = {}  # by id and version: one that is changed later is another
        self.tensors: dict[int, Tensor] = {}  # kept, so that ids stay theirs
        # of constants (..., T, C), by id and version, the table (P, C) whose first rows they are
        self.tables: dict[tuple[int, int], Tensor] = {}
        self.changed: dict[int, str] = {}  # tensors whose memory was changed under another name, and by what
        self.inside: list[nn.Module] = []
        self.paused = 0

    def input(self, name: str, value: Tensor) -> None:
        self._is(value, self.graph.placeholder(name))

    def _is(self, value: Tensor, node: fx.Node) -> None:
        node.meta["shape"] = tuple(value.shape)
        self.nodes[id(value)], self.tensors[id(value)] = node, value
        self.changed.pop(id(value), None)

    def depends(self, given: Any) -> bool:
        return any(id(tensor) in self.nodes for tensor in tensors_in(given))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        if not self.depends((args, kwargs)) or called(func) in SIZES:
            result = func(*args, **kwargs)
            self.rows(called(func), args, kwargs, result)
            return result
        if getattr(func, "__name__", "") in NUMBERS:
            raise TypeError(f"{called(func)}() of a tensor asks for numbers in it, which differ from image to image")
        return self.record("call_function", func, called(func), lambda: func(*args, **kwargs), args, kwargs)

    def rows(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        """Keeps the table of a constant that is its first rows: of an embedding of 0, 1, 2, ..., of a part [:, :T], or of such a
        constant seen in another way."""
        given = list(tensors_in((args, kwargs)))
        if not isinstance(result, Tensor) or result.dim() < 2 or not given:
            return
        table = self.tables.get((id(given[0]), version(given[0])))
        if name == "embedding":
            table = args[1] if len(args) > 1 else kwargs["weight"]
        elif (
            table is None
            and name == "getitem"
            and any(isinstance(i, slice) and i.stop is not None for i in indices(args[1]))
        ):
            table = args[0].squeeze(0) if args[0].dim() == 3 else args[0]
        if table is None or table.dim() != 2 or table.shape[1] != result.shape[-1] or len(table) < result.shape[-2]:
            return
        if bool((result == table[: result.shape[-2]]).all()):
            self.tables[id(result), version(result)], self.tensors[id(result)] = table, result

    def layer(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The forward of a layer that is one call."""
        if self.paused or not self.depends((args, kwargs)):
            return forward(*args, **kwargs)
        self.paused += 1
        try:
            path = self.paths[id(module)]
            return self.record("call_module", path, path, lambda: forward(*args, **kwargs), args, kwargs)
        finally:
            self.paused -= 1

    def record(self, op: str, target: Any, name: str, call: Callable[[], Any], args: Any, kwargs: Any) -> Any:
        given = list(tensors_in((args, kwargs)))
        versions = [version(tensor) for tensor in given]
        result = call()
        written = [tensor for tensor, before in zip(given, versions) if version(tensor) != before]
        if not written and not any(True for _ in tensors_in(result)):
            return result  # a size, a type, a device
        line = line_of(sys._getframe(1))
        where = name + (f" ({line})" if line else "")
        for tensor in given:
            if id(tensor) in self.changed:
                raise UserError(
                    f"{self.changed[id(tensor)]} changes its input in place, which {where} reads afterwards; set inplace=False"
                )
        ordered, named = fx.node.map_aggregate((args, kwargs), self.node)
        node = self.graph.create_node(op, target, ordered, named, name=name)
        node.meta |= {
            "line": line,
            "layer": self.place(),
            "inside": self.paths.get(id(self.inside[-1]), ""),
            "shape": None,
        }
        for tensor in written:
            if tensor is not result:
                raise UserError(
                    f"{where} writes into a tensor, and values of a file never change; make a new one instead, as torch.cat does"
                )
            memory = tensor.untyped_storage().data_ptr()
            for other in self.tensors.values():
                if other is not tensor and other.untyped_storage().data_ptr() == memory:
                    self.changed[id(other)] = where
        self.result(result, node)
        return result

    def result(self, value: Any, node: fx.Node) -> None:
        """What a call returned: a tensor, or several."""
        if isinstance(value, Tensor):
            self._is(value, node)
        elif isinstance(value, tuple | list):
            for index, tensor in enumerate(value):
                if isinstance(tensor, Tensor):
                    item = self.graph.call_function(part, (node, index))
                    item.meta |= node.meta
                    self._is(tensor, item)

    def node(self, value: Any) -> Any:
        """What stands for a tensor among a call's arguments."""
        if not isinstance(value, Tensor):
            return value
        if id(value) in self.nodes:
            return self.nodes[id(value)]
        key = (id(value), version(value))
        if key not in self.constants:
            node = self.graph.create_node("get_attr", f"_constant{len(self.constants)}")
            node.meta |= {"constant": value.detach().clone(), "shape": tuple(value.shape)}
            if key in self.tables:
                node.meta["table"] = self.tables[key]
            self.constants[key], self.tensors[id(value)] = node, value
        return self.constants[key]

    def place(self) -> str:
        inner = self.inside[-1] if self.inside else None
        return (
            self.paths.get(id(inner), "") if inner is not None and type(inner).__module__.startswith("torch.") else ""
        )


@contextmanager
def watched(recorder: Recorder) -> Iterator[None]:
    """Everything inside is recorded: functions by the mode, layers by their __call__, of which their hooks are a part."""
    plain = nn.Module.__call__

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(
                f"layer {recorder.paths.get(id(module), type(module).__name__)} is TorchScript, which cannot be traced; use the "
                "nn.Module it was made from"
            )
        recorder.inside.append(module)
        try:
            path = recorder.paths.get(id(module))
            if path is None or not recorder.known(module, path):
                return plain(module, *args, **kwargs)
            forward = module.forward
            vars(module)["forward"] = lambda *given, **named: recorder.layer(module, forward, given, named)
            try:
                return plain(module, *args, **kwargs)
            finally:
                del vars(module)["forward"]
        finally:
            recorder.inside.pop()

    fast = torch.backends.mha.get_fastpath_enabled()  # one call of all of a transformer's layer
    nn.Module.__call__ = call  # type: ignore[method-assign]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with recorder:
            yield
    finally:
        nn.Module.__call__ = plain  # type: ignore[method-assign]
        torch.backends.mha.set_fastpath_enabled(fast)


def version(tensor: Tensor) -> int:
    """How often a tensor's memory was changed in place, as far as PyTorch counts it."""
    return 0 if tensor.is_inference() else tensor._version


def tensors_in(given: Any) -> Iterator[Tensor]:
    """The tensors in arguments or results: in tuples, lists, dicts and slices."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, tuple | list):
        for part in given:
            yield from tensors_in(part)
    elif isinstance(given, dict):
        yield from tensors_in(list(given.values()))
    elif isinstance(given, slice):
        yield from tensors_in((given.start, given.stop, given.step))


def indices(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def part(values: Any, index: int) -> Any:
    """One of the values that a call returned."""
    return values[index]


def called(function: Any) -> str:
    """The plain name of a function or method of tensors: "add" of torch.add, Tensor.add_, and Tensor.__radd__; of a property
    its own."""
    name = str(getattr(function, "__name__", function))
    if name in ("__get__", "__set__"):
        name = str(getattr(getattr(function, "__self__", None), "__name__", name))
    name = name.removeprefix("__").removesuffix("__") if name.startswith("__") else name.rstrip("_")
    return RENAMED.get(name, name)


def frames(traceback: TracebackType | None) -> list[tuple[FrameType, int]]:
    found = []
    while traceback is not None:
        found.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


def line_of(where: FrameType | TracebackType | None) -> str:
    """The innermost line of the model's own code, "net.py line 12: x = x.mean(1)": of a stack, or of an error."""
    if isinstance(where, FrameType):
        stack = []
        frame: FrameType | None = where
        while frame is not None:
            stack.append((frame, frame.f_lineno))
            frame = frame.f_back
    else:
        stack = frames(where)[::-1]
    for frame, number in stack:
        file = frame.f_code.co_filename
        if not file.startswith((*LIBRARIES, "<frozen")):
            code = linecache.getline(file, number).strip()[:100]
            return f"{Path(file).name} line {number}" + (f": {code}" if code else "")
    return ""
