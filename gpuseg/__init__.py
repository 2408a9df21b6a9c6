"""gpuseg: unsupervised segmentation of atomic-resolution images by local symmetry, on a GPU or all CPU cores.

>>> import gpuseg
>>> segmentation = gpuseg.segment(gpuseg.synthetic.bicrystal(random_state=0).image, n_patterns=2)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gpuseg.arrays import DeviceError
from gpuseg.descriptors import (
    Descriptors,
    Fusion,
    Histogram,
    LocalCorrelationMap,
    Patches,
    PowerSpectrum,
    PreselectedTranslations,
)
from gpuseg.grid import Grid
from gpuseg.segmentation import Segmentation, SegmentationModel, segment
from gpuseg.symmetry import Feature, Part, Translation

if TYPE_CHECKING:
    from gpuseg import io, plot, synthetic
    from gpuseg.segmenter import Segmenter

__version__ = "0.1.0"

__all__ = [
    "Descriptors",
    "DeviceError",
    "Feature",
    "Fusion",
    "Grid",
    "Histogram",
    "LocalCorrelationMap",
    "Part",
    "Patches",
    "PowerSpectrum",
    "PreselectedTranslations",
    "Segmentation",
    "SegmentationModel",
    "Segmenter",
    "Translation",
    "io",
    "plot",
    "segment",
    "synthetic",
]

# imported when first asked for, so that `import gpuseg` stays fast
_MODULES = ("io", "plot", "synthetic")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"gpuseg.{name}")
    if name == "Segmenter":
        from gpuseg.segmenter import Segmenter

        return Segmenter
    raise AttributeError(f"module 'gpuseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
