"""HNSW: nearest neighbours by walking down a stack of graphs, each a thinned-out copy of the one below.

The graphs above hold ever fewer points, so their links are long: the search descends through them greedily and arrives
on the lowest one already near. How much that saves over a walk on the lowest graph alone, where some links are long
too, is measured: little for some thousand points (experiment `nearest_neighbours`). faiss has the fast version
(`IndexHNSWFlat`); this one is for reading, and counts the distances that a search computes (5.5).

Source: Malkov & Yashunin 2016 (1603.09320), algorithms 1, 2, 4 and 5.
"""

import heapq
import math
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Near = tuple[float, int]  # squared distance, point


def draw_level(uniform: float, M: int) -> int:
    """The highest layer of a point, for `uniform` in (0, 1]: floor(-ln(u) / ln(M)), so that each layer has an M-th of
    the points below it, (5.2)."""
    return int(-math.log(uniform) / math.log(M))


def select_neighbours(candidates: Sequence[Near], limit: int, vectors: Vectors) -> list[Near]:
    """At most `limit` of the candidates, nearest first: one that is nearer to a chosen point than to the new one is
    left out, since the way to it leads over that point. So links point in many directions, also out of a cluster
    (algorithm 4). One that is as near to both is kept, where the paper leaves it out: a point that has a twin would
    have no link but the one to it. `vectors` (N, D) are those of all points."""
    chosen: list[Near] = []
    for distance, point in sorted(candidates):
        if len(chosen) == limit:
            break
        others = vectors[[other for _, other in chosen]]
        if not len(others) or ((others - vectors[point]) ** 2).sum(1).min() >= distance:
            chosen.append((distance, point))
    return chosen


class HNSW:
    """Points 0 … N-1 in the order in which they were inserted; squared Euclidean distances.

    `links[point][layer]` are the neighbours of a point, at most M of them and 2 M on the bottom layer.
    """

    def __init__(
        self, dimension: int, M: int = 16, ef_construction: int = 100, seed: int = 0, layered: bool = True
    ) -> None:
        """`ef_construction` is how many candidates an insertion looks at; unless `layered`, there is the bottom layer
        alone. Raises ValueError for M below 2."""
        if M < 2:
            raise ValueError(f"M = {M}: a graph whose points have a single link cannot be walked, expected 2 or more")
        self.M, self.ef_construction, self.layered = M, ef_construction, layered
        self.links: list[list[list[int]]] = []
        self.entry = -1  # a point of the top layer
        self.distances_computed = 0
        self._vectors = np.zeros((0, dimension), dtype=np.float32)
        self._random = random.Random(seed)

    def __len__(self) -> int:
        return len(self.links)

    @property
    def top_layer(self) -> int:
        """The highest layer, -1 while there is no point."""
        return len(self.links[self.entry]) - 1 if self.links else -1

    def insert(self, vectors: Vectors) -> None:
        """Add points (n, D), one after the other (algorithm 1)."""
        first = len(self)
        self._vectors = np.concatenate([self._vectors, np.asarray(vectors, dtype=np.float32)])
        for point in range(first, len(self._vectors)):
            self._insert(point)

    def search(self, query: Vectors, k: int, ef: int) -> list[Near]:
        """About the k nearest to `query` (D,) as (squared distance, point), nearest first (algorithm 5).

        `ef` points are kept in view on the bottom layer, at least k: more of them find more and cost more.
        """
        if not self.links or k < 1:
            return []
        start = self._descend(query, self.top_layer, 0)
        return sorted(self._search_layer(query, start, max(ef, k), 0))[:k]

    def _insert(self, point: int) -> None:
        vector = self._vectors[point]
        level = draw_level(1 - self._random.random(), self.M) if self.layered else 0
        self.links.append([[] for _ in range(level + 1)])
        if self.entry < 0:
            self.entry = point
            return
        near = self._descend(vector, self.top_layer, level)
        for layer in range(min(level, self.top_layer), -1, -1):
            near = self._search_layer(vector, near, self.ef_construction, layer)
            for distance, other in select_neighbours(near, self.M, self._vectors):
                self.links[point][layer].append(other)
                self._link_back(other, point, distance, layer)
        if level > self.top_layer:
            self.entry = point

    def _link_back(self, point: int, new: int, distance: float, layer: int) -> None:
        """Add a link to a point; where it has too many, the best of them are chosen anew."""
        links, limit = self.links[point][layer], self.M if layer else 2 * self.M
        if len(links) < limit:
            links.append(new)
            return
        candidates = [*zip(self._distances(self._vectors[point], links), links, strict=True), (distance, new)]
        links[:] = [other for _, other in select_neighbours(candidates, limit, self._vectors)]

    def _descend(self, query: Vectors, top: int, bottom: int) -> list[Near]:
        """Greedily from the entry through the layers above `bottom`: the nearest point of the last one."""
        near: list[Near] = [(self._distances(query, [self.entry])[0], self.entry)]
        for layer in range(top, bottom, -1):
            near = self._search_layer(query, near, 1, layer)
        return near

    def _search_layer(self, query: Vectors, start: Sequence[Near], ef: int, layer: int) -> list[Near]:
        """The `ef` nearest points that a best-first walk finds on a layer, in no order (algorithm 2).

        It always goes on from the nearest point that it has not yet gone on from, and ends where even that one is
        farther away than all that it keeps.
        """
        seen = {point for _, point in start}
        waiting = list(start)
        heapq.heapify(waiting)
        kept = [(-distance, point) for distance, point in start]  # the farthest on top
        heapq.heapify(kept)
        while waiting:
            distance, point = heapq.heappop(waiting)
            if len(kept) >= ef and distance > -kept[0][0]:
                break
            new = [other for other in self.links[point][layer] if other not in seen]
            seen.update(new)
            for near, other in zip(self._distances(query, new), new, strict=True):
                if len(kept) < ef or near < -kept[0][0]:
                    heapq.heappush(waiting, (near, other))
                    heapq.heappush(kept, (-near, other))
                    if len(kept) > ef:
                        heapq.heappop(kept)
        return [(-negative, point) for negative, point in kept]

    def _distances(self, query: Vectors, points: Sequence[int]) -> list[float]:
        self.distances_computed += len(points)
        distances: list[float] = ((self._vectors[points] - query) ** 2).sum(1).tolist() if points else []
        return distances
