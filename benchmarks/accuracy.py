"""How right gpuseg is, beside pystem: golden numbers, real images with masks, grains against dose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gpuseg
from gpuseg import arrays

from . import pystem_client, truth
from .cases import WAYS
from .images import bicrystal
from .pystem_client import Pystem

GOLDEN = Path("golden") / "pystem_0.0.26.npz"


@dataclass(frozen=True)
class RealImage:
    """A picture with a mask drawn by eye: regions 1, 2, ..., 255 = not scored."""

    name: str
    file: str
    n_patterns: int
    wanted: float | None
    bin: int = 1


REAL_IMAGES = (
    RealImage("Ni_M3B2", "Ni_M3B2_interface_HAADF91.tif", 2, 0.995),
    RealImage("CdTe_tilt", "CdTe_tilt_GB_HAADF149.dm3", 2, 0.995),
    RealImage("Au_GB", "Au_grain_boundary_512.png", 2, 0.995),
    RealImage("STO_Ge", "STO_on_Ge_HAADF.jpg", 3, 0.995, bin=3),
    RealImage("Si_tilt", "Si_tilt_GB_HAADF85.dm3", 2, 0.985),
    RealImage("HEA_partial", "HEA_laths_pystem.npy", 3, None),
)

DOSES = ((20.0, 100, 0.975), (3.0, 100, 0.975), (1.0, 100, 0.975), (0.05, 100, None), (0.05, 1681, None))
"""Counts per pixel, `max_num_points`, adjusted Rand index wanted."""
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Row:
    """One figure of both packages (None: not measured) and what is wanted of gpuseg's."""

    case: str
    measure: str
    gpuseg: float
    pystem: float | None = None
    wanted: str = ""
    met: bool | None = None


def at_least(case: str, measure: str, value: float, pystem: float | None, bound: float | None) -> Row:
    """A row whose value should not be below a bound."""
    if bound is None:
        return Row(case, measure, value, pystem)
    return Row(case, measure, value, pystem, f"at least {bound:g}", value >= bound)


def at_most(case: str, measure: str, value: float, pystem: float | None, bound: float) -> Row:
    """A row whose value should not be above a bound."""
    return Row(case, measure, value, pystem, f"at most {bound:.0e}", value <= bound)


def rows(shared: Path | None, pystem: Pystem | None, device: str) -> Iterator[Row]:
    """All figures, one by one as they are found.

    Parameters
    ----------
    shared : Path or None
        A folder with ``golden/pystem_0.0.26.npz``, ``data/images`` and ``data/masks``; without it only what
        can be generated is measured. Images that are not there are left out.
    pystem : Pystem or None
    device : str
    """
    yield from _level(pystem, device)
    yield from _doses(pystem, device)
    if shared is None:
        return
    if (shared / GOLDEN).is_file():
        yield from _golden(shared / GOLDEN, device)
    for real in REAL_IMAGES:
        if (shared / "data" / "images" / real.file).is_file():
            yield _real(shared / "data", real, pystem, device)


def _golden(path: Path, device: str) -> Iterator[Row]:
    with np.load(path) as golden:
        numbers = dict(golden)
    image, expected = numbers["image"], np.moveaxis(numbers["pearson_float64"], 2, 0)
    theirs = float(np.abs(np.moveaxis(numbers["lcm_direct"], 2, 0) - expected).max())
    inside = np.ix_(*(np.arange(p[0], p[-1] + 1) for p in (numbers["rows"], numbers["cols"])))
    for method in WAYS:
        descriptor = gpuseg.LocalCorrelationMap(
            patch_radius=(8, 6), window_radius=(9, 7), max_num_points=60, method=method, border="valid"
        )
        scores = descriptor.transform(image, stride=4, device=device)
        error = float(np.abs(arrays.to_numpy(scores.values) - expected).max())
        yield at_most(f"golden, {method}", "largest error of a score", error, theirs, 2e-6)
        result = gpuseg.segment(
            image, 2, descriptor=descriptor, stride=4, n_components=4, random_state=0, device=device
        )
        equal = (arrays.to_numpy(result.labels) == numbers["lcm_direct_labels"])[inside].mean()
        yield at_least(f"golden, {method}", "labels equal inside the margins", float(equal), None, 0.98)


def _level(pystem: Pystem | None, device: str) -> Iterator[Row]:
    """A contrast of 20 on a level of 30000: sums that are subtracted from each other lose everything."""
    lattice, _ = bicrystal(256, dose=20.0)
    image = np.round(30000 + 20 * (lattice - lattice.mean()) / lattice.std()).astype(np.uint16)
    theirs = None
    if pystem is not None:
        parameters = pystem_client.parameters()
        pystem.seconds("descriptors", image, parameters)
        answer = pystem.arrays()
        values, grid = np.moveaxis(answer["values"], 2, 0), pystem_client.grid(image.shape, parameters)
        theirs = truth.score_error(image, values, answer["translations"], grid, (20, 20))
    for method in WAYS:
        scores = gpuseg.LocalCorrelationMap(method=method).transform(image, device=device)
        translations = np.array([(t.d_row, t.d_col) for t in scores.operations])
        grid = (np.asarray(scores.grid.rows), np.asarray(scores.grid.cols))
        error = truth.score_error(image, arrays.to_numpy(scores.values), translations, grid, (20, 20))
        name = f"contrast 20 on 30000, uint16, {method}"
        yield at_most(name, "largest error of a score", error, theirs, 1e-4)


def _doses(pystem: Pystem | None, device: str) -> Iterator[Row]:
    for dose, max_num_points, bound in DOSES:
        descriptor = gpuseg.LocalCorrelationMap(max_num_points=max_num_points)
        method = "direct" if max_num_points == 100 else "fft"
        ours, theirs = [], []
        for seed in SEEDS:
            image, grains = bicrystal(512, dose, seed)
            result = gpuseg.segment(image, 2, descriptor=descriptor, random_state=0, device=device)
            ours.append(truth.adjusted_rand(grains, arrays.to_numpy(result.labels)))
            if pystem is not None:
                labels = _pystem_labels(pystem, image, 2, max_num_points=max_num_points, method=method)
                theirs.append(truth.adjusted_rand(grains, labels))
        name = f"bicrystal 512x512, {dose:g} counts per pixel, {len(result.operations)} translations"
        measure = f"adjusted Rand index, worst of {len(SEEDS)}"
        yield at_least(name, measure, min(ours), min(theirs, default=None), bound)


def _real(data: Path, real: RealImage, pystem: Pystem | None, device: str) -> Row:
    from gpuseg.io import read_image

    image = read_image(data / "images" / real.file).binned(real.bin).data
    centre, mask = real.bin // 2, read_image(data / "masks" / f"{real.name}.png").data
    regions = mask[centre :: real.bin, centre :: real.bin][: image.shape[0], : image.shape[1]]
    result = gpuseg.segment(image, real.n_patterns, random_state=0, device=device)
    ours = truth.fraction_right(regions, arrays.to_numpy(result.labels))
    theirs = None
    if pystem is not None:
        theirs = truth.fraction_right(regions, _pystem_labels(pystem, image, real.n_patterns))
    return at_least(real.name, "fraction of scored pixels right", ours, theirs, real.wanted)


def _pystem_labels(pystem: Pystem, image: np.ndarray, n_patterns: int, **choices: Any) -> np.ndarray:
    """The labels pystem gives to all pixels, margins filled by nearest."""
    parameters = pystem_client.parameters(n_patterns, **choices)
    pystem.seconds("stages", np.ascontiguousarray(image), parameters)
    return pystem_client.fill_by_nearest(pystem.arrays()["grid_labels"], image.shape, parameters)
