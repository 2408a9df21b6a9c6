"""Defects from certainty: where inside a grain the crystal is not what it is elsewhere.

    python examples/defects.py [FIGURE.png]

Two grains from which eight columns are missing. A patch with a vacancy lies further from its cluster centre,
so its label is less certain than the labels around it.
"""

import sys

import numpy as np
from matplotlib import pyplot

import gpuseg
from gpuseg import measure, synthetic


def main(figure_file: str = "defects.png") -> None:
    places = [(row, col) for row in (90, 200, 310, 430) for col in (90, 420)]
    made = synthetic.bicrystal((512, 512), counts=20, vacancies=places, random_state=0)
    segmentation = gpuseg.segment(made.image, n_patterns=2, random_state=0)
    found = measure.defects(segmentation, by="certainty", pixel_size=0.012, unit="nm")

    spots = np.stack([found["centroid_row_px"], found["centroid_col_px"]], 1)
    distance = np.hypot(*(spots[:, None] - made.vacancies[None]).T)  # (vacancies, spots)
    print(f"{len(found)} spots, {(distance.min(1) < 20).sum()} of {len(made.vacancies)} vacancies among them")
    for spot in found.records():
        place = f"row {spot['centroid_row_px']:.0f}, column {spot['centroid_col_px']:.0f}"
        print(f"pattern {spot['pattern']} at {place}: {spot['area_nm2']:.3f} nm^2, "
              f"certainty {spot['mean_certainty']:.2f}")  # fmt: skip

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    gpuseg.plot.plot_defects(segmentation, found, panels[0])
    gpuseg.plot.plot_certainty(segmentation, panels[1])
    figure.savefig(figure_file, dpi=90)
    print(f"written: {figure_file}")


if __name__ == "__main__":
    main(*sys.argv[1:])
