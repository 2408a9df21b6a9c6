"""Mirror or glide line: two crystals of one cell, told apart by the symmetry operation that each of them has.

    python examples/glide_or_mirror.py [FIGURE.png]

Left a crystal with mirror lines (plane group pm), right one with glide lines (pg). The length of the glide is
found in the image: half the lattice period along the line.
"""

import sys

from matplotlib import pyplot
from sklearn.metrics import adjusted_rand_score

import gpuseg
from gpuseg import synthetic


def main(figure_file: str = "glide_or_mirror.png") -> None:
    phases = [synthetic.pm_crystal(18, 14), synthetic.pg_crystal(18, 14)]
    made = synthetic.image_of_grains(
        synthetic.label_halves((320, 320), angle=70), phases, counts=10, random_state=0
    )
    mirror = gpuseg.ReflectionSymmetry(radius=20, angles=90)
    glide = gpuseg.GlideReflectionSymmetry(radius=20, angles=90).found_in(made.image)
    print(f"found: {glide.scored()[0]}")
    segmentation = gpuseg.segment(made.image, n_patterns=2, descriptor=[mirror, glide], random_state=0)

    agreement = adjusted_rand_score(made.truth.ravel(), segmentation.labels.ravel())
    print(f"adjusted Rand index against the truth: {agreement:.4f}")
    scores = [descriptor.transform(made.image) for descriptor in (mirror, glide)]
    for descriptors in scores:
        (operation,), (values,) = descriptors.operations, descriptors.values
        sides = [values[descriptors.grid.at_points(made.truth) == k].mean() for k in (0, 1)]
        print(f"{operation}: mean score {sides[0]:.2f} on the left, {sides[1]:.2f} on the right")

    figure, panels = pyplot.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
    gpuseg.plot.plot_image(segmentation, panels[0])
    for panel, descriptors in zip(panels[1:], scores, strict=False):
        gpuseg.plot.plot_descriptor(descriptors, 0, panel)
    gpuseg.plot.plot_overlay(segmentation, panels[3])
    figure.savefig(figure_file, dpi=90)
    print(f"written: {figure_file}")


if __name__ == "__main__":
    main(*sys.argv[1:])
