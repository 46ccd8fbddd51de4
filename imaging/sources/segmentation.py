"""Sources in a frame as connected pixels above a threshold, and the splitting of blends.

The pixels above the threshold are kept as runs of rows and joined by union-find, so no label image is needed
and the cost is that of reading the frame once.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from imaging.sources.background import mesh_row


@njit(cache=True, nogil=True)
def subtract_mesh(plane, mesh, cell):  # type: ignore[no-untyped-def]
    """Subtract the bilinear ``mesh`` from ``plane`` (float32 (ny, nx)) in place."""
    ny, nx = plane.shape
    line = np.empty(nx, np.float32)
    for y in range(ny):
        mesh_row(mesh, cell, y, line)
        row = plane[y]
        for x in range(nx):
            row[x] -= line[x]


@njit(cache=True, nogil=True)
def smooth_plane(plane, taps, out):  # type: ignore[no-untyped-def]
    """Convolve with a symmetric separable filter of five taps (``taps``: centre, 1 px and 2 px away).

    The frame is assumed to be zero outside.
    """
    ny, nx = plane.shape
    t0, t1, t2 = taps[0], taps[1], taps[2]
    padded = np.zeros(nx + 4, np.float32)
    # Row y, smoothed along the row, is stored in slot y modulo 5; rows above and below the frame are zero.
    lines = np.zeros((5, nx), np.float32)
    for ahead in range(ny + 2):
        line = lines[ahead % 5]
        if ahead < ny:
            padded[2 : nx + 2] = plane[ahead]
            # Views with one common index: the compiler can then use vector instructions.
            p0, p1, p2, p3, p4 = padded[0:nx], padded[1:], padded[2:], padded[3:], padded[4:]
            for x in range(nx):
                line[x] = t0 * p2[x] + t1 * (p1[x] + p3[x]) + t2 * (p0[x] + p4[x])
        else:
            line[:] = 0.0
        y = ahead - 2
        if y < 0:
            continue
        a, b, c = lines[(y + 3) % 5], lines[(y + 4) % 5], lines[y % 5]
        d, e = lines[(y + 1) % 5], line
        target = out[y]
        for x in range(nx):
            target[x] = t0 * c[x] + t1 * (b[x] + d[x]) + t2 * (a[x] + e[x])


@njit(cache=True, nogil=True)
def _root(parents, i):  # type: ignore[no-untyped-def]
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@njit(cache=True, nogil=True)
def _mark(row, limit, threshold, lit):  # type: ignore[no-untyped-def]
    """Set ``lit`` to 1 where a row is above ``threshold`` times ``limit``: alone, the compiler vectorises it."""
    for x in range(len(row)):
        lit[x] = row[x] > threshold * limit[x]


@njit(cache=True, nogil=True)
def _next_lit(lit, words, x, nx):  # type: ignore[no-untyped-def]
    """Return the first lit pixel from x on; ``nx`` or more if none is lit. Eight dark ones are skipped at a time."""
    while x < nx and lit[x] == 0:
        x = x + 1 if x & 7 or words[x >> 3] else x + 8
    return x


@njit(cache=True, nogil=True)
def find_runs(smooth, rms_mesh, cell, threshold):  # type: ignore[no-untyped-def]
    """Find runs of pixels above ``threshold`` times the local noise, and the component of each.

    Returns
    -------
    runs : int32 (n, 3)
        Row, first column and the column after the last, in the order of the frame.
    component : int32 (n,)
        The run that represents the run's component (8-connected).
    """
    ny, nx = smooth.shape
    runs = np.empty((4096, 3), np.int32)
    parents = np.empty(4096, np.int32)
    limit = np.empty(nx, np.float32)
    # Padded with zeros to a multiple of eight pixels plus eight more, which end the last run.
    lit = np.zeros(8 * (nx // 8 + 2), np.uint8)
    words = lit.view(np.uint64)
    n, above_first, above_last = 0, 0, 0
    for y in range(ny):
        mesh_row(rms_mesh, cell, y, limit)
        _mark(smooth[y], limit, threshold, lit)
        first = n
        above = above_first
        x = _next_lit(lit, words, 0, nx)
        while x < nx:
            start = x
            while lit[x]:
                x += 1
            if n == len(runs):
                more_runs, more_parents = np.empty((2 * n, 3), np.int32), np.empty(2 * n, np.int32)
                more_runs[:n], more_parents[:n] = runs, parents
                runs, parents = more_runs, more_parents
            runs[n, 0], runs[n, 1], runs[n, 2] = y, start, x
            parents[n] = n
            while above < above_last and runs[above, 2] < start:
                above += 1
            other = above
            while other < above_last and runs[other, 1] <= x:
                a, b = _root(parents, other), _root(parents, n)
                parents[max(a, b)] = min(a, b)
                other += 1
            n += 1
            x = _next_lit(lit, words, x, nx)
        above_first, above_last = first, n
    for i in range(n):
        parents[i] = _root(parents, i)
    return runs[:n].copy(), parents[:n].copy()


@njit(cache=True, nogil=True)
def large_components(runs, component, min_area):  # type: ignore[no-untyped-def]
    """Number the components of at least ``min_area`` pixels from 0, in the order of the frame.

    Returns
    -------
    numbers : int32 (n,)
        The component's number for each run, -1 for a component that is too small.
    count : int
        Components.
    """
    n = len(runs)
    area = np.zeros(n, np.int64)
    for i in range(n):
        area[component[i]] += runs[i, 2] - runs[i, 1]
    numbers = np.full(n, -1, np.int32)
    count = 0
    for i in range(n):
        top = component[i]
        if area[top] < min_area:
            continue
        if top == i:
            numbers[i] = count
            count += 1
        else:
            numbers[i] = numbers[top]
    return numbers, count


@njit(cache=True, nogil=True)
def paint_mask(runs, numbers, reach, out):  # type: ignore[no-untyped-def]
    """Set ``out`` (uint8 (ny, nx)) to 1 within ``reach`` pixels of every run that has a number."""
    ny, nx = out.shape
    for i in range(len(runs)):
        if numbers[i] < 0:
            continue
        y, first, last = runs[i, 0], runs[i, 1], runs[i, 2]
        for j in range(-reach, reach + 1):
            if 0 <= y + j < ny:
                wide = int(np.sqrt(reach * reach - j * j))
                out[y + j, max(0, first - wide) : min(nx, last + wide)] = 1


@njit(cache=True, nogil=True)
def split_components(plane, smooth, runs, numbers, count, split, contrast, prominence, min_area):  # type: ignore[no-untyped-def]
    """Return one row per source: components, split at their saddles if ``split`` is set.

    The pixels of a component are flooded from the highest down (a watershed on ``smooth``). Where two
    basins meet, the lower one remains a separate source if its peak is ``prominence`` above the saddle,
    it has ``min_area`` pixels and its flux above the saddle is at least ``contrast`` of the component's;
    otherwise it is merged with the higher one.

    Returns
    -------
    float64 (sources, 7)
        Barycentre x, y; summed flux; area in pixels; x and y of the highest smoothed pixel; 1 where the
        source is part of a blend.
    """
    nx = plane.shape[1]
    size = np.zeros(count, np.int64)
    for i in range(len(runs)):
        if numbers[i] >= 0:
            size[numbers[i]] += runs[i, 2] - runs[i, 1]
    start = np.zeros(count + 1, np.int64)
    start[1:] = np.cumsum(size)
    where = np.empty(start[count], np.int64)
    fill = start[:count].copy()
    for i in range(len(runs)):
        k = numbers[i]
        if k >= 0:
            for x in range(runs[i, 1], runs[i, 2]):
                where[fill[k]] = runs[i, 0] * nx + x
                fill[k] += 1
    labels = np.zeros(plane.shape if split else (1, 1), np.int32)
    sources = np.zeros((max(64, 2 * count), 7), np.float64)
    n = 0
    for k in range(count):
        pixels = where[start[k] : start[k + 1]]
        if split:
            found = _flood(plane, smooth, pixels, labels, contrast, prominence, min_area)
        else:
            found = _unsplit(plane, smooth, pixels)
        while n + len(found) > len(sources):
            more = np.zeros((2 * len(sources), 7), np.float64)
            more[:n] = sources[:n]
            sources = more
        sources[n : n + len(found)] = found
        n += len(found)
    return sources[:n].copy()


@njit(cache=True, nogil=True)
def _add(source, plane, y, x):  # type: ignore[no-untyped-def]
    """Add one pixel to a source's sums; negative values do not affect the barycentre."""
    value = max(plane[y, x], np.float32(0.0))
    source[0] += value * x
    source[1] += value * y
    source[2] += value
    source[3] += 1.0


@njit(cache=True, nogil=True)
def _barycentre(source):  # type: ignore[no-untyped-def]
    if source[2] > 0:
        source[0] /= source[2]
        source[1] /= source[2]
    else:
        source[0], source[1] = source[4], source[5]


@njit(cache=True, nogil=True)
def _unsplit(plane, smooth, pixels):  # type: ignore[no-untyped-def]
    nx = plane.shape[1]
    out = np.zeros((1, 7), np.float64)
    best = -np.inf
    for p in pixels:
        y, x = p // nx, p % nx
        _add(out[0], plane, y, x)
        if smooth[y, x] > best:
            best = smooth[y, x]
            out[0, 4], out[0, 5] = x, y
    _barycentre(out[0])
    return out


@njit(cache=True, nogil=True)
def _flood(plane, smooth, pixels, labels, contrast, prominence, min_area):  # type: ignore[no-untyped-def]
    ny, nx = plane.shape
    values = np.empty(len(pixels), np.float32)
    total = 0.0
    for i in range(len(pixels)):
        values[i] = -smooth[pixels[i] // nx, pixels[i] % nx]
        total -= values[i]
    order = np.argsort(values, kind="mergesort")  # stable: equal values in the order of the frame
    room = len(pixels) + 1
    parents = np.zeros(room, np.int32)
    peak = np.zeros(room, np.float64)
    flux = np.zeros(room, np.float64)
    area = np.zeros(room, np.int64)
    top = np.zeros(room, np.int64)
    basins = 0
    meeting = np.empty(8, np.int32)
    for i in order:
        y, x = pixels[i] // nx, pixels[i] % nx
        value = -np.float64(values[i])
        met = 0
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if 0 <= y + dy < ny and 0 <= x + dx < nx and labels[y + dy, x + dx] > 0:
                    basin = _root(parents, labels[y + dy, x + dx])
                    known = False
                    for m in range(met):
                        known = known or meeting[m] == basin
                    if not known:
                        meeting[met] = basin
                        met += 1
        if met == 0:
            basins += 1
            mine = basins
            parents[mine], peak[mine], top[mine] = mine, value, pixels[i]
        else:
            mine = meeting[0]
            for m in range(1, met):
                if peak[meeting[m]] > peak[mine]:
                    mine = meeting[m]
            for m in range(met):
                other = meeting[m]
                if other == mine:
                    continue
                stands = (
                    peak[other] - value >= prominence
                    and area[other] >= min_area
                    and flux[other] - value * area[other] >= contrast * total
                )
                if not stands:
                    parents[other] = mine
                    flux[mine] += flux[other]
                    area[mine] += area[other]
        labels[y, x] = mine
        flux[mine] += value
        area[mine] += 1
    slot = np.full(room, -1, np.int64)
    found = 0
    for basin in range(1, basins + 1):
        if parents[basin] == basin:
            slot[basin] = found
            found += 1
    out = np.zeros((found, 7), np.float64)
    for p in pixels:
        y, x = p // nx, p % nx
        _add(out[slot[_root(parents, labels[y, x])]], plane, y, x)
    for basin in range(1, basins + 1):
        if slot[basin] >= 0:
            row = out[slot[basin]]
            row[4], row[5] = top[basin] % nx, top[basin] // nx
            row[6] = 1.0 if found > 1 else 0.0
            _barycentre(row)
    return out
