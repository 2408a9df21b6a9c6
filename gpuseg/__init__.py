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
    GlideReflectionSymmetry,
    Histogram,
    LocalCorrelationMap,
    Patches,
    PowerSpectrum,
    PreselectedTranslations,
    ReflectionSymmetry,
    RotationalSymmetry,
)
from gpuseg.grid import Grid
from gpuseg.labeller import Labeller
from gpuseg.segmentation import Segmentation, SegmentationModel, segment
from gpuseg.symmetry import Feature, GlideReflection, Part, Ranked, Reflection, Rotation, Translation

if TYPE_CHECKING:
    from gpuseg import io, measure, plot, synthetic
    from gpuseg.segmenter import Segmenter
    from gpuseg.series import SeriesError, iterate_series, segment_series
    from gpuseg.series_results import FrameSegmentation, SeriesSegmentation
    from gpuseg.suggestion import Suggestion, suggest

__version__ = "0.1.0"

__all__ = [
    "Descriptors",
    "DeviceError",
    "Feature",
    "FrameSegmentation",
    "Fusion",
    "GlideReflection",
    "GlideReflectionSymmetry",
    "Grid",
    "Histogram",
    "Labeller",
    "LocalCorrelationMap",
    "Part",
    "Patches",
    "PowerSpectrum",
    "PreselectedTranslations",
    "Ranked",
    "Reflection",
    "ReflectionSymmetry",
    "Rotation",
    "RotationalSymmetry",
    "Segmentation",
    "SegmentationModel",
    "Segmenter",
    "SeriesError",
    "SeriesSegmentation",
    "Suggestion",
    "Translation",
    "io",
    "iterate_series",
    "measure",
    "plot",
    "segment",
    "segment_series",
    "suggest",
    "synthetic",
]

# imported when first asked for, so that `import gpuseg` stays fast
_MODULES = ("io", "measure", "plot", "synthetic")
_NAMES = {
    "Segmenter": "segmenter",
    "FrameSegmentation": "series_results",
    "SeriesSegmentation": "series_results",
    "SeriesError": "series",
    "iterate_series": "series",
    "segment_series": "series",
    "Suggestion": "suggestion",
    "suggest": "suggestion",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"gpuseg.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"gpuseg.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'gpuseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
