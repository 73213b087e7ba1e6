"""Clusters of points in a picture: groups the strongest pixels that lie near each other."""

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError, look_up

# Points are sorted into square cells of side distance / 1.5. All points of a cell are near each other, as its diagonal
# is .94 of the distance. A point's neighbours lie in its cell or in the 24 around it; by symmetry 12 are searched.
_CELLS = 1.5
_DIRECTIONS = np.array([(0, 1), (0, 2), *((x, y) for x in (1, 2) for y in range(-2, 3))])
_PAIRS = 1_000_000  # pairs of points that are measured at once


def cluster_points(
    points: ArrayLike, distance: float, *, method: str = "single-linkage", min_points: int = 1
) -> np.ndarray:
    """Groups points that lie near each other.

    Args:
        points: float or int array `(n, 2)`, finite.
        distance: float > 0, in the unit of the points. Single linkage: points at most this far apart belong to one
            cluster. DBSCAN: its `eps`. HDBSCAN: clusters closer than this are not split further.
        method: name in `CLUSTERINGS`.
        min_points: int >= 1. Smaller clusters are dropped. DBSCAN: its `min_samples`, which counts the point itself.

    Returns:
        int array `(n,)`: the number of each point's cluster, from 0 in the order of their first points; -1 for points
        outside every cluster. Empty if there are no points.

    Raises:
        InputError: if `points` is not `(n, 2)` or not finite, or another value is out of range.

    Example:
        >>> cluster_points([[0, 0], [9, 9], [0, 2], [0, 4]], 2, min_points=2)
        array([ 0, -1,  0,  0])
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise InputError(f"`points` must be finite and (n, 2). Received: shape {points.shape}.")
    cluster = look_up(CLUSTERINGS, method, "clustering")
    if not (np.isfinite(distance) and distance > 0):
        raise InputError(f"`distance` must be a finite number above 0. Received: {distance}.")
    if min_points < 1:
        raise InputError(f"`min_points` must be at least 1. Received: {min_points}.")
    if len(points) < min_points:
        return np.full(len(points), -1)
    return _number(cluster(points, float(distance), min_points), min_points)


def _number(labels, min_points):
    """Drops small clusters and numbers the others in the order of their first points."""
    _, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    keep = (counts >= min_points) & (labels[first] >= 0)
    numbers = np.full(len(first), -1)
    numbers[np.flatnonzero(keep)[np.argsort(first[keep])]] = np.arange(keep.sum())
    return numbers[inverse]


def _link_single(points, distance, min_points):
    """Labels the connected components of the graph "at most `distance` apart": single linkage, cut at `distance`.

    Cells are joined instead of points: first by their outermost points, which is nearly always enough; then, where
    near cells are still in different components, by every pair of points that may be close enough. Memory is linear in
    the number of points.

    Source: https://doi.org/10.1093/comjnl/16.1.30
    """
    across, down = _place(points[:, 0], distance), _place(points[:, 1], distance)
    stride = down.max() + 3  # no neighbour of a cell falls into another column
    keys = across * stride + down
    order = np.argsort(keys)
    points = points[order]
    cells, starts, sizes = np.unique(keys[order], return_index=True, return_counts=True)
    boxes = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
    pairs, touching = [], []
    for direction in _DIRECTIONS:
        near = _find_near(cells, direction @ (stride, 1), boxes, distance)
        pairs.append(near)
        touching.append(_touch(points, starts, sizes, near, direction) <= distance)
    pairs, touching = np.concatenate(pairs), np.concatenate(touching)
    links = pairs[touching]
    groups = _connect(links, len(cells))
    apart = pairs[groups[pairs[:, 0]] != groups[pairs[:, 1]]]
    if len(apart):
        links = np.concatenate([links, _reach(points, starts, sizes, boxes, apart, distance)])
        groups = _connect(links, len(cells))
    labels = np.empty(len(points), np.int64)
    labels[order] = np.repeat(groups, sizes)
    return labels


def _place(values, distance):
    """Numbers the cells along one axis from 0. Gaps above twice the distance are shortened, as no link crosses them."""
    order = np.argsort(values)
    gaps = np.minimum(np.diff(values[order], prepend=values[order[0]]), 2 * distance) / distance
    cells = np.empty(len(values), np.int64)
    cells[order] = np.cumsum(gaps) * _CELLS
    return cells


def _find_near(cells, step, boxes, distance):
    """Returns pairs of cells `step` keys apart whose boxes are at most `distance` apart: int array `(m, 2)`."""
    second = np.searchsorted(cells, cells + step).clip(max=len(cells) - 1)
    first = np.flatnonzero(cells[second] == cells + step)
    second = second[first]
    low, high = boxes
    gaps = np.maximum(low[second] - high[first], low[first] - high[second]).clip(min=0)
    return np.stack([first, second], 1)[_measure(gaps) <= distance]


def _touch(points, starts, sizes, pairs, direction):
    """Measures from each first cell's last point in the direction to the second cell's first point: float `(m,)`."""
    along = points @ direction
    cell = np.repeat(np.arange(len(starts)), sizes)

    def find(extremes):
        found = np.empty(len(starts), np.int64)
        at = np.flatnonzero(along == extremes[cell])
        found[cell[at]] = at
        return points[found]

    last, first = find(np.maximum.reduceat(along, starts)), find(np.minimum.reduceat(along, starts))
    return _measure(last[pairs[:, 0]] - first[pairs[:, 1]])


def _reach(points, starts, sizes, boxes, pairs, distance):
    """Returns the pairs of cells with two points, one in each, at most `distance` apart: int array `(k, 2)`."""
    pair, point = _expand(starts[pairs[:, 0]], sizes[pairs[:, 0]])
    low, high = (box[pairs[pair, 1]] for box in boxes)
    gaps = np.maximum(low - points[point], points[point] - high).clip(min=0)
    able = _measure(gaps) <= distance
    pair, point = pair[able], point[able]
    counts = sizes[pairs[pair, 1]]
    batches = np.flatnonzero(np.diff(np.cumsum(counts) // _PAIRS)) + 1
    reached = np.zeros(len(pairs), bool)
    for rows in np.split(np.arange(len(pair)), batches):
        row, other = _expand(starts[pairs[pair[rows], 1]], counts[rows])
        close = _measure(points[point[rows][row]] - points[other]) <= distance
        reached[pair[rows][row[close]]] = True
    return pairs[reached]


def _expand(starts, sizes):
    """Concatenates ranges: returns the number of each entry's range and the entry's value, two int arrays."""
    owners = np.repeat(np.arange(len(starts)), sizes)
    return owners, np.arange(len(owners)) + (starts - np.cumsum(sizes) + sizes)[owners]


def _connect(links, count):
    """Labels the connected components of `count` cells under links `(m, 2)`: int array `(count,)`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(links), np.int8), (links[:, 0], links[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _measure(vectors):
    """Returns lengths of vectors `(n, 2)`, rounded as SciPy does, so that ties at the distance are decided alike."""
    return np.sqrt(vectors[:, 0] * vectors[:, 0] + vectors[:, 1] * vectors[:, 1])


def _scan_density(points, distance, min_points):
    """Clusters by DBSCAN. Memory grows with the number of points within the distance of each point.

    Source: https://cdn.aaai.org/KDD/1996/KDD96-037.pdf
    """
    from sklearn.cluster import DBSCAN

    return DBSCAN(eps=distance, min_samples=min_points).fit_predict(points)


def _scan_hierarchy(points, distance, min_points):
    """Clusters by HDBSCAN, which may return a single cluster; slow above some ten thousand points.

    Source: https://doi.org/10.1007/978-3-642-37456-2_14
    """
    from sklearn.cluster import HDBSCAN

    if len(points) < 2:
        return np.zeros(len(points), np.int64)
    search = HDBSCAN(
        min_cluster_size=max(2, min_points),
        min_samples=min(max(2, min_points), len(points)),
        cluster_selection_epsilon=distance,
        allow_single_cluster=True,
        copy=True,
    )
    return search.fit_predict(points)


# Name of a clustering to its function of points (n, 2), distance and min_points, which returns labels (n,), -1: none.
CLUSTERINGS = {
    "single-linkage": _link_single,
    "dbscan": _scan_density,
    "hdbscan": _scan_hierarchy,
}
