"""Local descriptors: what is measured about the surroundings of every grid point."""

from gpuseg.descriptors.base import Descriptors
from gpuseg.descriptors.choice import as_descriptor
from gpuseg.descriptors.fusion import Fusion
from gpuseg.descriptors.glide import GlideReflectionSymmetry
from gpuseg.descriptors.histogram import Histogram
from gpuseg.descriptors.patches import Patches
from gpuseg.descriptors.power_spectrum import PowerSpectrum
from gpuseg.descriptors.reflection import ReflectionSymmetry
from gpuseg.descriptors.rotation import RotationalSymmetry
from gpuseg.descriptors.translation import LocalCorrelationMap, PreselectedTranslations

__all__ = [
    "Descriptors",
    "Fusion",
    "GlideReflectionSymmetry",
    "Histogram",
    "LocalCorrelationMap",
    "Patches",
    "PowerSpectrum",
    "PreselectedTranslations",
    "ReflectionSymmetry",
    "RotationalSymmetry",
    "as_descriptor",
]
