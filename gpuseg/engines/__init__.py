"""The engines: the same functions for the CPU (`cpu`, numba) and for a GPU (`cuda`, CUDA C++)."""

from __future__ import annotations

from types import ModuleType

from gpuseg.arrays import Device

__all__ = ["engine_for"]


def engine_for(device: Device) -> ModuleType:
    """The engine that works on a device.

    Parameters
    ----------
    device : Device

    Returns
    -------
    module
        `gpuseg.engines.cpu` or `gpuseg.engines.cuda`: same names, same signatures.
    """
    if device.kind == "cuda":
        from gpuseg.engines import cuda

        return cuda
    from gpuseg.engines import cpu

    return cpu
