"""Drawing a computation graph as the engine holds it: a box for each tensor, an arrow for each use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from llmm.foundations.neural_network.graph import edges, topological_order
from llmm.foundations.neural_network.tensor import Tensor, no_grad

STEP = 1.25  # from column to column, where rows are 1 apart


def slopes(y: Tensor) -> list[tuple[Tensor, float]]:
    """The inputs of a tensor of size 1 with the local derivative ∂y/∂x of each use."""
    with no_grad():
        one = Tensor(np.ones_like(y.data))
        found = []
        for i, x in edges(y):
            primitive, inputs, options = y.origin  # type: ignore[misc]
            found.append((x, primitive.vjp(i, one, y, *inputs, **options).item()))
        return found


def depths(root: Tensor) -> dict[int, int]:
    """Column of each tensor below `root`, by its id: one right of the rightmost tensor that it was made from."""
    column: dict[int, int] = {}
    for y in topological_order(root):
        column[id(y)] = 1 + max((column[id(x)] for _, x in edges(y)), default=-1)
    return column


def draw_graph(axes: Any, root: Tensor, gradients: Mapping[int, float], names: Mapping[int, str]) -> None:
    """Draw the graph below `root`, inputs on the left: value and gradient in each box, local derivative at each arrow.

    `gradients` and `names` are keyed by the id of the tensor; a tensor without a name shows its operation.
    """
    order, column = topological_order(root), depths(root)
    columns = defaultdict(list)
    for tensor in order:
        columns[column[id(tensor)]].append(tensor)
    place = {
        id(tensor): (STEP * i, (len(members) - 1) / 2 - j)
        for i, members in columns.items()
        for j, tensor in enumerate(members)
    }
    for y in order:
        drawn: set[int] = set()
        for x, slope in slopes(y):
            (x0, y0), (x1, y1) = place[id(x)], place[id(y)]
            # straight to a neighbour, around the boxes in between, and apart where a tensor is used twice
            bend = -0.34 if x1 - x0 > STEP else 0.0
            if sum(other is x for other, _ in slopes(y)) > 1:
                bend = 0.5 if id(x) in drawn else -0.5
            drawn.add(id(x))
            arrow = {"arrowstyle": "->", "color": "0.55", "connectionstyle": f"arc3,rad={bend}"}
            axes.annotate("", (x1, y1), (x0, y0), arrowprops=arrow | {"shrinkA": 22, "shrinkB": 22})
            # the middle of the arc, which bends towards a point `rad` of its length to the side; level arrows: above
            level = 0.1 if y0 == y1 and not bend else 0.0
            middle = (x0 + x1 + bend * (y1 - y0)) / 2, (y0 + y1 - bend * (x1 - x0)) / 2 + level
            axes.text(*middle, f"×{slope:.2f}", ha="center", va="center", fontsize=7.5, color="#2b6cb0",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})  # fmt: skip
    for tensor in order:
        name = names.get(id(tensor)) or (tensor.origin.primitive.name if tensor.origin else "")
        text = f"$\\bf{{{name}}}$\n{tensor.item():.3f}\ngrad {gradients[id(tensor)]:.3f}"
        fill = "#ebf4ff" if tensor.origin is None else "white"
        axes.text(*place[id(tensor)], text, ha="center", va="center", fontsize=7.5,
                  bbox={"boxstyle": "round,pad=0.3", "facecolor": fill, "edgecolor": "0.4"})  # fmt: skip
    highest = max(y for _, y in place.values())
    axes.set_xlim(-0.5, STEP * max(column.values()) + 0.5)
    axes.set_ylim(-highest - 0.6, highest + 0.6)
    axes.set_aspect("equal")
    axes.axis("off")
