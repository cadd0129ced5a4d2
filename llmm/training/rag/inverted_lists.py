"""IVF: the space is cut into cells, and a query looks into the few whose centroids are nearest.

The cells are those of k-means (Lloyd 1982). A point just across a border is missed, unless more cells are opened:
`probes` trades time for recall, and with all of them the search is exact.

Source: Sivic & Zisserman 2003; Jégou, Douze & Schmid 2011, section IV.
"""

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


def k_means(vectors: Vectors, cells: int, rounds: int, seed: int) -> Vectors:
    """Centroids (cells, D) of the vectors (N, D) after some rounds of assigning and averaging.

    Begins with vectors of different positions, drawn with `seed`; a cell that has lost all its vectors stays in place.
    Raises ValueError where there are fewer vectors than cells.
    """
    if not 1 <= cells <= len(vectors):
        raise ValueError(f"{cells} cells of {len(vectors)} vectors: expected at least one cell and a vector for each")
    centroids = vectors[np.random.default_rng(seed).choice(len(vectors), cells, replace=False)].copy()
    for _ in range(rounds):
        nearest = squared_distances(vectors, centroids).argmin(1)
        counts = np.bincount(nearest, minlength=cells)
        sums = np.zeros((cells, vectors.shape[1]), dtype=np.float64)
        np.add.at(sums, nearest, vectors)
        filled = counts > 0
        centroids[filled] = (sums[filled] / counts[filled, None]).astype(np.float32)
    return centroids


def squared_distances(a_ND: Vectors, b_MD: Vectors) -> Vectors:
    """|a - b|² = |a|² - 2 a·b + |b|² for every pair (N, M): one matrix product."""
    return (a_ND**2).sum(1)[:, None] - 2 * a_ND @ b_MD.T + (b_MD**2).sum(1)[None]


class InvertedLists:
    """Vectors (N, D), known by their position, in lists by the centroid (cells, D) that is nearest."""

    def __init__(self, vectors: Vectors, centroids: Vectors) -> None:
        self.vectors, self.centroids = vectors, centroids
        nearest = squared_distances(vectors, centroids).argmin(1)
        self.lists: list[Numbers] = [np.flatnonzero(nearest == cell) for cell in range(len(centroids))]
        self.distances_computed = 0

    def search(self, query: Vectors, k: int, probes: int) -> list[tuple[float, int]]:
        """About the k nearest to `query` (D,) as (squared distance, position), nearest first, from `probes` cells."""
        if k < 1 or probes < 1:
            return []
        to_centroids = ((self.centroids - query) ** 2).sum(1)
        opened = np.argsort(to_centroids, kind="stable")[:probes]
        members = np.concatenate([self.lists[cell] for cell in opened])
        distances = ((self.vectors[members] - query) ** 2).sum(1)
        self.distances_computed += len(to_centroids) + len(members)
        order = np.lexsort((members, distances))[:k]
        return [(float(distances[i]), int(members[i])) for i in order]


def expected_distances(vectors: int, cells: int, probes: int) -> float:
    """Distances of a search where cells are equally full, (5.6); fewest at √(probes · vectors) cells, (5.7)."""
    return cells + probes * vectors / cells
