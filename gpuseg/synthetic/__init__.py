"""Synthetic images of crystals with their truth: lattices, grains, columns, noise, and ready-made scenes.

An image is built in small steps, each of which can be used alone::

    labels = label_voronoi((512, 512), n_grains=5, random_state=0)          # which pixel is which grain
    phases = [hexagonal(14).rotated(angle) for angle in (0, 12, 24, 36, 48)]  # what each grain is made of
    scene = image_of_grains(labels, phases, counts=3, random_state=0)       # .image, .truth

or in one call: `bicrystal`, `twin_bands`, `polycrystal`, `three_phases`, `amorphous_inclusion`,
`precipitates`, `film_in_vacuum`.

Positions, vectors and shifts are (row, col) in pixels, (0, 0) the centre of the first pixel. Angles are in
degrees, counter-clockwise from the column axis as one sees the image (rows run downwards). The same
`random_state` gives the same image, and the same grains whatever the dose and the noise.
"""

from gpuseg.synthetic._geometry import rotate_vector
from gpuseg.synthetic.columns import columns_of_grains, gaussian_columns
from gpuseg.synthetic.grains import label_bands, label_discs, label_halves, label_voronoi
from gpuseg.synthetic.imaging import intensity_gradient, line_offsets, poisson_dose, scan_jitter
from gpuseg.synthetic.movie import BoundaryMovie, boundary_movie
from gpuseg.synthetic.phases import (
    Amorphous,
    Lattice,
    Phase,
    Vacuum,
    centred,
    hexagonal,
    honeycomb,
    kagome,
    oblique,
    perovskite,
    pg_crystal,
    pm_crystal,
    rectangular,
    square,
)
from gpuseg.synthetic.scenes import (
    SyntheticImage,
    amorphous_inclusion,
    bicrystal,
    film_in_vacuum,
    image_of_grains,
    polycrystal,
    precipitates,
    three_phases,
    twin_bands,
)

__all__ = [
    "Amorphous",
    "BoundaryMovie",
    "Lattice",
    "Phase",
    "SyntheticImage",
    "Vacuum",
    "amorphous_inclusion",
    "bicrystal",
    "boundary_movie",
    "centred",
    "columns_of_grains",
    "film_in_vacuum",
    "gaussian_columns",
    "hexagonal",
    "honeycomb",
    "image_of_grains",
    "intensity_gradient",
    "kagome",
    "label_bands",
    "label_discs",
    "label_halves",
    "label_voronoi",
    "line_offsets",
    "oblique",
    "perovskite",
    "pg_crystal",
    "pm_crystal",
    "poisson_dose",
    "polycrystal",
    "precipitates",
    "rectangular",
    "rotate_vector",
    "scan_jitter",
    "square",
    "three_phases",
    "twin_bands",
]
