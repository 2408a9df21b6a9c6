"""What was found, in numbers: regions, boundaries, motion, defects, and other channels summed over them.

>>> import gpuseg
>>> scene = gpuseg.synthetic.bicrystal((200, 200), random_state=0)
>>> result = gpuseg.segment(scene.image, n_patterns=2, random_state=0)
>>> table = gpuseg.measure.regions(result, pixel_size=0.02, unit="nm")
>>> table["area_nm2"].sum().round(3)
np.float64(16.0)

Every function takes a `gpuseg.Segmentation`, one frame of a series, or plain labels (H, W): 0, 1, ... are
patterns, -1 is masked and belongs to no region. Lengths are given in pixels of the image and, where a pixel
size is given, in its unit; the unit stands in the name of the column: ``area_px``, ``area_nm2``.
"""

from gpuseg.measure.channels import accumulate
from gpuseg.measure.geometry import boundaries, label_regions, regions
from gpuseg.measure.motion import Motion, series
from gpuseg.measure.spots import defects
from gpuseg.measure.table import Table

__all__ = ["Motion", "Table", "accumulate", "boundaries", "defects", "label_regions", "regions", "series"]
