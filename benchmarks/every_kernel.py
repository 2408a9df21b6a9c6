"""Launch every CUDA kernel once or more through its launcher, on small images: for tools that watch kernels.

``compute-sanitizer --tool memcheck python -m benchmarks.every_kernel``, likewise racecheck and initcheck.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import gpuseg
from gpuseg import arrays, synthetic
from gpuseg.clustering import KMeans

from . import learning

SHAPE, TALL = (61, 83), (45, 140)


def pictures() -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Images with their masks: whole, with holes, and with a half so faint that its sums need care."""
    noisy = synthetic.bicrystal(SHAPE, counts=5, random_state=0).image.astype(np.float32)
    row, col = np.mgrid[: TALL[0], : TALL[1]]
    tall = synthetic.bicrystal(TALL, counts=5, random_state=1).image.astype(np.float32)
    holed = tall.copy()
    holed[11, 70] = np.nan
    faint = np.where(col < 70, tall, 1e-3 * tall)
    return {
        "whole": (noisy, None),
        "masked": (holed, (row - 22) ** 2 + (col - 50) ** 2 < 50**2),
        "faint": (faint, None),
    }


def descriptors() -> list[tuple[Any, int]]:
    """Descriptors and strides that use every kernel, and every size of tile, of what computes them."""
    ways = [(gpuseg.LocalCorrelationMap(4, 3, method=way), 3) for way in ("direct", "fft", "box")]
    polar = {"radius": 4, "pooling_radius": 3}
    return [
        *ways,
        (gpuseg.LocalCorrelationMap(4, 3, method="box"), 8),  # so far apart that a tile is one grid point
        (gpuseg.LocalCorrelationMap(3, 4, 9, border="valid"), 1),
        (gpuseg.RotationalSymmetry(**polar), 2),
        (gpuseg.ReflectionSymmetry(n_planes=5, n_max=3, **polar), 3),
        (gpuseg.GlideReflectionSymmetry(n_planes=4, glides=3.0, **polar), 5),
        (gpuseg.PowerSpectrum(window_radius=4), 5),
    ]


def describe() -> None:
    """Every descriptor of every picture."""
    for name, (image, mask) in pictures().items():
        for descriptor, stride in descriptors():
            described = descriptor.transform(image, stride=stride, mask=mask, device="cuda")
            _check(f"{descriptor} of {name}", arrays.to_numpy(described.values))


def predict() -> None:
    """Labels by models that were fitted on the CPU, so that no other library's kernels are in the way."""
    for name, (image, mask) in pictures().items():
        descriptor = gpuseg.LocalCorrelationMap(4, 3)
        fitted = gpuseg.segment(
            image, 2, descriptor=descriptor, stride=3, mask=mask, random_state=0, device="cpu"
        )
        for model in (fitted.model, fitted.select(5)):
            labels = arrays.to_numpy(model.predict(image, mask, device="cuda").labels)
            for planned in (mask, None):
                quick = arrays.to_numpy(model.labeller(image.shape, planned, "cuda")(image))
            # how alike they are is for the tests; a kernel that did nothing would show
            if mask is None and np.mean(quick == labels) < 0.9:
                raise AssertionError(f"the labeller's labels of {name} are not those of the model")


def cluster() -> None:
    """Patterns by gpuseg's own k-means, of as many kinds as may need another kernel."""
    samples = np.random.default_rng(0).normal(size=(700, 5)).astype(np.float32)
    where = arrays.resolve_device("cuda")
    with learning.cuml(serves=False):
        for n in (1, 2, 9):
            labels = arrays.to_numpy(KMeans(n, random_state=0).fit(arrays.move(samples, where)).labels_)
            if np.unique(labels).size != n:
                raise AssertionError(f"{n} clusters were asked for, {np.unique(labels).size} found")


def _check(what: str, values: np.ndarray) -> None:
    finite = values[np.isfinite(values)]
    if finite.size < values.size / 2:
        raise AssertionError(f"{what}: {values.size - finite.size} of {values.size} values are not finite")


def main() -> int:
    """Do all of it on the GPU; 2 where there is none."""
    usable, reason = arrays.gpu_status()
    if not usable:
        print(f"no GPU can be used: {reason}", file=sys.stderr)
        return 2
    # each array by itself: in a pool, an access beyond the end of one falls into the next and is not seen
    with arrays.cupy_module().cuda.using_allocator(None):
        describe()
        cluster()
    predict()  # a graph of kernels may need the pool
    print(f"every kernel was launched on {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
