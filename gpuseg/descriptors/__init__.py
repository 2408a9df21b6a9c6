"""Local descriptors: what is measured about the surroundings of every grid point."""

from gpuseg.descriptors.base import Descriptors
from gpuseg.descriptors.choice import as_descriptor
from gpuseg.descriptors.translation import LocalCorrelationMap, PreselectedTranslations

__all__ = ["Descriptors", "LocalCorrelationMap", "PreselectedTranslations", "as_descriptor"]
