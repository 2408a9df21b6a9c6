"""What to choose for an image, with the reasons, before segmenting it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpuseg.arrays import move, resolve_device
from gpuseg.checks import AUTO, check_image, check_mask
from gpuseg.descriptors import LocalCorrelationMap
from gpuseg.evidence import Evidence
from gpuseg.segmentation import segment
from gpuseg.sizes import resolve

__all__ = ["Suggestion", "suggest"]


@dataclass(frozen=True)
class Suggestion:
    """What "auto" means for an image; prints with the reasons.

    Parameters
    ----------
    patch_radius, window_radius, stride : int
        In pixels.
    n_patterns : int
    lattice_period : float or None
        In pixels; None where no lattice was found, and then the sizes are the defaults.
    reasons : tuple of str
        One sentence for each choice.
    evidence : Evidence
        For the number of patterns; `gpuseg.plot.plot_evidence` draws it.
    """

    patch_radius: int
    window_radius: int
    stride: int
    n_patterns: int
    lattice_period: float | None
    reasons: tuple[str, ...]
    evidence: Evidence

    def __str__(self) -> str:
        period = "none found" if self.lattice_period is None else f"{self.lattice_period:.1f} px"
        return "\n".join(
            [
                f"lattice period  {period}",
                f"patch radius    {self.patch_radius}",
                f"window radius   {self.window_radius}",
                f"stride          {self.stride}",
                f"patterns        {self.n_patterns}",
                *(f"- {reason}" for reason in self.reasons),
            ]
        )


def suggest(image: Any, mask: Any = None, device: Any = "auto") -> Suggestion:
    """Sizes and number of patterns that suit an image, with the reasons.

    They are what `gpuseg.segment` takes for ``n_patterns="auto"``, ``stride="auto"`` and
    ``descriptor=LocalCorrelationMap(patch_radius="auto", window_radius="auto")``.

    Parameters
    ----------
    image : (H, W) array_like
    mask : (H, W) array_like of bool, optional
        True where a pixel may be used.
    device : {"auto", "cpu", "cuda", "cuda:i"}

    Returns
    -------
    Suggestion

    Raises
    ------
    TypeError, ValueError, gpuseg.DeviceError
        As `gpuseg.segment`.

    Examples
    --------
    >>> import gpuseg
    >>> found = gpuseg.suggest(gpuseg.synthetic.bicrystal((256, 256), random_state=0).image)
    >>> found.n_patterns, round(found.lattice_period)
    (2, 14)
    """
    image = check_image(image)
    mask = check_mask(mask, image.shape)
    where = resolve_device(device, image)
    with where.current:
        there, valid = move(image, where), None if mask is None else move(mask, where)
        descriptor, stride, sizes = resolve(LocalCorrelationMap(AUTO, AUTO), AUTO, there, valid)
        assert sizes is not None
        assert isinstance(descriptor, LocalCorrelationMap)
        found = segment(
            there, AUTO, descriptor=descriptor, stride=stride, mask=valid, random_state=0, device=where
        )
    assert found.evidence is not None
    return Suggestion(
        patch_radius=descriptor.patch_radius,
        window_radius=descriptor.window_radius,
        stride=stride,
        n_patterns=found.n_patterns,
        lattice_period=sizes.lattice_period,
        reasons=(*sizes.reasons, found.evidence.reason),
        evidence=found.evidence,
    )
