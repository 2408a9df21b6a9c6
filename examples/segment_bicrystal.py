"""Segment a noisy image of two crystal grains, compare it with the truth, and draw what was found.

    python examples/segment_bicrystal.py [FIGURE.png]

Made, not measured: of this image we know which pixel belongs to which grain. The two grains are the same
hexagonal crystal, 14 degrees apart, seen with one electron in two pixels.
"""

import sys

from matplotlib import pyplot
from sklearn.metrics import adjusted_rand_score

import gpuseg


def main(figure_file: str = "bicrystal.png") -> None:
    made = gpuseg.synthetic.bicrystal((384, 384), counts=0.5, random_state=0)
    segmentation = gpuseg.segment(made.image, n_patterns=2, random_state=0)

    agreement = adjusted_rand_score(made.truth.ravel(), segmentation.labels.ravel())
    print(f"{made.description}\n{segmentation}")
    print(f"adjusted Rand index against the truth: {agreement:.4f} (1 = all right)")
    for row in segmentation.to_table():
        print(f"pattern {row['pattern']}: {row['area_fraction']:.1%} of the area, "
              f"mean certainty {row['mean_certainty']:.2f}")  # fmt: skip

    # the translation that tells the two grains apart best, and how well
    best = segmentation.separability.argmax()
    print(f"best separated by {segmentation.operations[best]}: {segmentation.separability[best]:.2f}")

    figure, panels = pyplot.subplots(1, 3, figsize=(10.2, 3.4), layout="constrained")
    gpuseg.plot.plot_image(segmentation, panels[0])
    gpuseg.plot.plot_overlay(segmentation, panels[1])
    gpuseg.plot.plot_certainty(segmentation, panels[2])
    for panel in panels:
        panel.set_axis_off()
    figure.savefig(figure_file, dpi=90)
    print(f"written: {figure_file}")


if __name__ == "__main__":
    main(*sys.argv[1:])
