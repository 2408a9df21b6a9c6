"""Two phases at a low dose: where each one is, and which translations tell them apart.

    python examples/two_phases.py [FIGURE.png]

A square and a hexagonal lattice of nearly the same spacing, three counts per pixel. The figure shows the
image, the patterns found in it, and the separability of every translation (Wang et al. 2021, Figure 1).
"""

import sys

from matplotlib import pyplot
from sklearn.metrics import adjusted_rand_score

import gpuseg
from gpuseg import synthetic


def main(figure_file: str = "two_phases.png") -> None:
    halves = synthetic.label_halves((320, 320), angle=60)
    phases = [synthetic.square(14), synthetic.hexagonal(15)]
    made = synthetic.image_of_grains(halves, phases, counts=3, random_state=0)
    segmentation = gpuseg.segment(made.image, n_patterns=2, random_state=0)

    agreement = adjusted_rand_score(made.truth.ravel(), segmentation.labels.ravel())
    print(f"{segmentation}\nadjusted Rand index against the truth: {agreement:.4f}")
    fast = segmentation.select(10)
    print(f"the 10 best translations alone give {fast.accuracy:.1%} of the grid points the same label:")
    print(", ".join(str(operation) for operation in fast.descriptor.operations()))

    figure, panels = pyplot.subplots(1, 3, figsize=(11, 3.5), layout="constrained")
    gpuseg.plot.plot_image(segmentation, panels[0])
    gpuseg.plot.plot_overlay(segmentation, panels[1])
    gpuseg.plot.plot_separability(segmentation, panels[2])
    figure.savefig(figure_file, dpi=90)
    print(f"written: {figure_file}")


if __name__ == "__main__":
    main(*sys.argv[1:])
