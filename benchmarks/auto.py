"""``python -m benchmarks.auto``: what "auto" chooses, and how right the segmentation is with it.

Synthetic scenes whose truth is known, beside pystem with its defaults on the same images, and real images
with the number of patterns that is right for each.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gpuseg
from gpuseg import arrays, synthetic

from . import truth
from .__main__ import folder, reference
from .accuracy import REAL_IMAGES, _pystem_labels
from .pystem_client import DEFAULT_FOLDER, Pystem

AUTOMATIC: dict[str, Any] = {"descriptor": gpuseg.LocalCorrelationMap("auto", "auto"), "stride": "auto"}


@dataclass(frozen=True)
class Scene:
    """A kind of synthetic image and the adjusted Rand index that is wanted with automatic sizes."""

    name: str
    make: Callable[..., synthetic.SyntheticImage]
    n_patterns: int
    wanted: float


SCENES = (
    Scene("twin bands of 90 px", synthetic.twin_bands, 2, 0.80),
    Scene("two lattices and an amorphous disc", synthetic.amorphous_inclusion, 3, 0.96),
    Scene(
        "four hexagonal grains 15 degrees apart",
        lambda **options: synthetic.polycrystal(n_grains=4, **options),
        4,
        0.975,
    ),
)

N_PATTERNS = (
    ("STO_16_STOimage_1.ser", 1, 1),
    ("ncem_Acquisition_18.emd", 1, 1),
    *((real.file, real.bin, real.n_patterns) for real in REAL_IMAGES if real.wanted is not None),
)
"""File, binning, number of patterns."""


def boundary_distance(found: np.ndarray, true: np.ndarray) -> float:
    """Mean distance in pixels of the pixels on a found boundary from the nearest true one."""
    from scipy import ndimage

    away = ndimage.distance_transform_edt(~_boundary(true))
    on = _boundary(found)
    return float(away[on].mean()) if on.any() else float("nan")


def _boundary(labels: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour has another label."""
    on = np.zeros(labels.shape, bool)
    on[:-1] |= labels[:-1] != labels[1:]
    on[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return on


def synthetic_rows(
    pystem: Pystem | None, device: str, periods: list[float], doses: list[float], seeds: int
) -> Iterator[str]:
    """One line of a Markdown table for each kind of image, period and dose: the worst of the seeds."""
    yield "| scene | period | counts | auto: ARI (wanted) | boundary, px | defaults | pystem | n found |"
    yield "|---|---|---|---|---|---|---|---|"
    for scene in SCENES:
        for period in periods:
            for counts in doses:
                yield _synthetic_row(scene, period, counts, seeds, pystem, device)


def _synthetic_row(
    scene: Scene, period: float, counts: float, seeds: int, pystem: Pystem | None, device: str
) -> str:
    automatic, fixed, theirs, away, numbers = [], [], [], [], []
    for seed in range(seeds):
        made = scene.make(period=period, counts=counts, random_state=seed)
        here = {"random_state": 0, "device": device}
        found = arrays.to_numpy(gpuseg.segment(made.image, scene.n_patterns, **AUTOMATIC, **here).labels)
        automatic.append(truth.adjusted_rand(made.truth, found))
        away.append(boundary_distance(found, made.truth))
        numbers.append(gpuseg.segment(made.image, "auto", **AUTOMATIC, **here).n_patterns)
        plain = gpuseg.segment(made.image, scene.n_patterns, **here).labels
        fixed.append(truth.adjusted_rand(made.truth, arrays.to_numpy(plain)))
        if pystem is not None:
            theirs.append(
                truth.adjusted_rand(made.truth, _pystem_labels(pystem, made.image, scene.n_patterns))
            )
    other = f"{min(theirs):.3f}" if theirs else "-"
    met = "met" if min(automatic) >= scene.wanted else "missed"
    return (
        f"| {scene.name} | {period:g} | {counts:g} | {min(automatic):.3f} ({scene.wanted:g}: {met}) | "
        f"{max(away):.1f} | {min(fixed):.3f} | {other} | {', '.join(map(str, numbers))} |"
    )


def real_rows(data: Path, device: str) -> Iterator[str]:
    """One line for each real image that is there: sizes, number of patterns, fraction right."""
    from gpuseg.io import read_image

    right = {real.file: real for real in REAL_IMAGES}
    yield "| image | n wanted | n, default sizes | n, auto sizes | period | sizes | right: default | auto |"
    yield "|---|---|---|---|---|---|---|---|"
    for file, bin_factor, wanted in N_PATTERNS:
        if not (data / "images" / file).is_file():
            continue
        image = read_image(data / "images" / file).binned(bin_factor).data
        here = {"random_state": 0, "device": device}
        plain = gpuseg.segment(image, "auto", **here)
        auto = gpuseg.segment(image, "auto", **AUTOMATIC, **here)
        used, period = auto.model.descriptor, auto.parameters["lattice_period"]
        shares = ["-", "-"]
        if file in right:
            name, centre = right[file].name, bin_factor // 2
            mask = read_image(data / "masks" / f"{name}.png").data[centre::bin_factor, centre::bin_factor]
            mask = mask[: image.shape[0], : image.shape[1]]
            for k, sizes in enumerate(({}, AUTOMATIC)):
                labels = arrays.to_numpy(gpuseg.segment(image, wanted, **sizes, **here).labels)
                shares[k] = f"{truth.fraction_right(mask, labels):.4f}"
        yield (
            f"| {file} | {wanted} | {plain.n_patterns} | {auto.n_patterns} | "
            f"{'none' if period is None else format(period, '.1f')} | "
            f"{used.patch_radius}, {used.window_radius}, {auto.model.stride} | {shares[0]} | {shares[1]} |"
        )


def main() -> int:
    """Print both tables."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.auto", description=__doc__)
    options.add_argument(
        "--shared", type=folder, metavar="FOLDER", help="folder with data/images, data/masks"
    )
    options.add_argument("--device", default="cpu", help="where gpuseg works (default: cpu)")
    options.add_argument("--periods", type=float, nargs="+", default=[8.0, 10.0, 14.0])
    options.add_argument("--counts", type=float, nargs="+", default=[3.0, 20.0])
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument(
        "--pystem", type=Path, metavar="FOLDER", default=Path(os.environ.get("PYSTEM_ENV", DEFAULT_FOLDER))
    )
    given = options.parse_args()
    with reference(given.pystem) as pystem:
        rows = synthetic_rows(pystem, given.device, given.periods, given.counts, given.seeds)
        for line in rows:
            print(line, flush=True)
    if given.shared is not None:
        for line in real_rows(given.shared / "data", given.device):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
