"""Descriptors by the names of the paper."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from gpuseg.descriptors.fusion import Fusion
from gpuseg.descriptors.glide import GlideReflectionSymmetry
from gpuseg.descriptors.histogram import Histogram
from gpuseg.descriptors.kept import Kept
from gpuseg.descriptors.patches import Patches
from gpuseg.descriptors.power_spectrum import PowerSpectrum
from gpuseg.descriptors.reflection import ReflectionSymmetry
from gpuseg.descriptors.rotation import RotationalSymmetry
from gpuseg.descriptors.translation import LocalCorrelationMap, PreselectedTranslations

__all__ = ["as_descriptor", "describe", "from_description"]

NAMES = {
    "local-correlation-map": LocalCorrelationMap,
    "power-spectrum": PowerSpectrum,
    "histogram": Histogram,
    "patches": Patches,
    "rotational-symmetry": RotationalSymmetry,
    "reflection-symmetry": ReflectionSymmetry,
    "glide-reflection-symmetry": GlideReflectionSymmetry,
}
KINDS = {kind.__name__: kind for kind in (*NAMES.values(), PreselectedTranslations, Fusion, Kept)}


def as_descriptor(descriptor: Any) -> Any:
    """What the argument `descriptor` means.

    Parameters
    ----------
    descriptor : None, str, descriptor, or list of them
        None is ``LocalCorrelationMap()``; a name of the paper such as "local-correlation-map" or
        "power-spectrum" is the descriptor of that name with its defaults; several are fused.

    Returns
    -------
    descriptor

    Raises
    ------
    ValueError, TypeError
    """
    if descriptor is None:
        return LocalCorrelationMap()
    if isinstance(descriptor, list | tuple):
        if len(descriptor) == 0:
            raise ValueError("`descriptor` is an empty list; at least one descriptor is needed")
        return Fusion(tuple(_member(each) for each in descriptor))
    if isinstance(descriptor, str):
        if descriptor == "preselected-translations":
            raise ValueError(
                "`descriptor` is 'preselected-translations', which needs its translations; "
                "give gpuseg.PreselectedTranslations([...])"
            )
        if descriptor not in NAMES:
            raise ValueError(
                f"`descriptor` is {descriptor!r}; one of {', '.join(map(repr, NAMES))} is needed"
            )
        return NAMES[descriptor]()
    if isinstance(descriptor, type) or not hasattr(descriptor, "transform"):
        wanted = f"{LocalCorrelationMap.__name__}(...), {PreselectedTranslations.__name__}(...) or a name"
        raise TypeError(f"`descriptor` is {descriptor!r}; {wanted} is needed")
    return descriptor


def _member(descriptor: Any) -> Any:
    if descriptor is None or isinstance(descriptor, list | tuple | Fusion):
        raise TypeError(f"`descriptor` is a list that holds {descriptor!r}; descriptors or names are needed")
    return as_descriptor(descriptor)


def describe(descriptor: Any) -> dict[str, Any]:
    """A descriptor as JSON can hold it.

    Parameters
    ----------
    descriptor : descriptor

    Returns
    -------
    dict
        Its ``name`` and its parameters.
    """
    described: dict[str, Any] = {"name": type(descriptor).__name__}
    if not dataclasses.is_dataclass(descriptor):
        return described
    for parameter in dataclasses.fields(descriptor):
        value = getattr(descriptor, parameter.name)
        if isinstance(descriptor, PreselectedTranslations) and parameter.name == "translations":
            value = [[t.d_row, t.d_col] for t in descriptor.operations()]
        described[parameter.name] = _plain(value)
    if isinstance(descriptor, Fusion):
        described["descriptors"] = [describe(each) for each in descriptor.descriptors]
    if isinstance(descriptor, Kept):
        described["descriptor"] = describe(descriptor.descriptor)
    return described


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list) else value


def from_description(description: dict[str, Any]) -> Any:
    """The descriptor that `describe` described.

    Parameters
    ----------
    description : dict

    Returns
    -------
    descriptor

    Raises
    ------
    ValueError
        If no descriptor has that name.
    """
    parameters = {name: _frozen(value) for name, value in description.items()}
    name = parameters.pop("name")
    if name not in KINDS:
        raise ValueError(f"the descriptor {name!r} is unknown; one of {', '.join(KINDS)} is needed")
    if name == Fusion.__name__:
        parameters["descriptors"] = [from_description(each) for each in parameters["descriptors"]]
    if name == Kept.__name__:
        parameters["descriptor"] = from_description(parameters["descriptor"])
    return KINDS[name](**parameters)
