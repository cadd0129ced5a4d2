"""Two rewrites of a captured graph: the same value computed once, and a batch norm folded into the layer before it.

Capture (`torch.fx`) gives a program as a list of nodes, each an operation with earlier nodes as arguments. A rewrite is
right when it leaves every output as it was; what makes that hard is all that a node does besides returning a value.
`remove_common_subexpressions` reads the operators' own declarations: a schema says what is changed in place, a tag what
is drawn at random. `fold_batch_norm` reads the graph: who else uses the layer, or its output.
"""

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

Key = tuple[Any, ...]


def remove_common_subexpressions(graph_module: fx.GraphModule) -> fx.GraphModule:
    """A copy of the aten graph in which operations that must give the same value are done once.

    Two nodes are the same if operator, arguments and keyword arguments are, numbers with their type. Never merged are
    operators that draw random numbers (tag nondeterministic_seeded) and those that change an argument in place (by
    their schema), nor anything before the last of these: which of two equal values it will change cannot be told from
    the graph. Outputs are bit-equal to those of the graph as it was, which is left alone; two that were merged are one
    tensor.
    """
    changed = copy.deepcopy(graph_module)
    nodes = list(changed.graph.nodes)
    last_write = max((place for place, node in enumerate(nodes) if _writes(node)), default=-1)
    known: dict[Key, fx.Node] = {}
    for node in nodes[last_write + 1 :]:
        key = _key(node)
        if key is None:
            continue
        if key in known:
            node.replace_all_uses_with(known[key])
            changed.graph.erase_node(node)
        else:
            known[key] = node
    changed.graph.lint()
    changed.recompile()
    return changed


def fold_batch_norm(module: nn.Module) -> fx.GraphModule:
    """A traced copy of `module` without those batch norms that follow a Linear or Conv2d and can be part of it.

    In evaluation a batch norm is an affine map of each channel, and so is the layer: equations (15) and (16). Folded
    are BatchNorm1d and BatchNorm2d in evaluation mode with running statistics, with or without affine parameters,
    whose input is the output of a Linear or Conv2d (with or without bias) that nothing else uses and that is called
    once; the batch norm must be called once as well. All others stay. Outputs agree to rounding; `module` is left
    alone.
    """
    changed = fx.symbolic_trace(copy.deepcopy(module))
    calls = [node.target for node in changed.graph.nodes if node.op == "call_module"]
    for node in list(changed.graph.nodes):
        norm = _called(changed, node)
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or norm.training or norm.running_mean is None:
            continue
        before = node.args[0]
        layer = _called(changed, before)
        alone = layer and len(before.users) == 1 and calls.count(before.target) == calls.count(node.target) == 1
        if alone and isinstance(layer, nn.Linear | nn.Conv2d) and _fits(layer, norm):
            changed.set_submodule(before.target, _folded(layer, norm))
            node.replace_all_uses_with(before)
            changed.graph.erase_node(node)
    changed.delete_all_unused_submodules()
    changed.graph.lint()
    changed.recompile()
    return changed


def _called(graph_module: fx.GraphModule, node: Any) -> nn.Module | None:
    """The module that the node calls, as it is now; None for any other node or value."""
    is_call = isinstance(node, fx.Node) and node.op == "call_module"
    return graph_module.get_submodule(node.target) if is_call else None


def _key(node: fx.Node) -> Key | None:
    """What decides the node's value; None where two runs of it may differ or its arguments cannot be compared."""
    if node.op not in ("call_function", "get_attr") or _is_random(node):
        return None
    key = (node.op, node.target, _frozen(node.args), _frozen(node.kwargs))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _frozen(value: Any) -> Any:
    """Lists and dicts as tuples; numbers with their type: 1 == 1.0 == True, but sums with them differ in dtype."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, _frozen(item)) for key, item in sorted(value.items()))
    return (type(value), repr(value)) if isinstance(value, bool | int | float) else value


def _writes(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _is_random(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def _fits(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether the norm's channels are the layer's outputs: a BatchNorm1d after a Linear may also see (N, C, L)."""
    width = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return norm.num_features == width and isinstance(norm, nn.BatchNorm1d) == isinstance(layer, nn.Linear)


def _folded(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """The layer with W' = s W and b' = s (b - mean) + beta by output channel, where s = gamma / sqrt(var + eps)."""
    folded = copy.deepcopy(layer)
    with torch.no_grad():
        scale = (norm.running_var + norm.eps).rsqrt() * _or(norm.weight, 1.0)
        bias = scale * (_or(layer.bias, 0.0) - norm.running_mean) + _or(norm.bias, 0.0)
        folded.weight = nn.Parameter(layer.weight * scale.view(-1, *[1] * (layer.weight.ndim - 1)))
        folded.bias = nn.Parameter(bias)
    return folded


def _or(value: Tensor | None, default: float) -> Tensor | float:
    return default if value is None else value
