"""A grain boundary, seen twice: reflection tells the grains apart, rotation finds the boundary itself.

    python examples/grain_boundary.py [FIGURE.png]

Both grains are the same hexagonal crystal. Their mirror lines point in different directions, so reflection
scores differ; their rotational symmetry is the same, and is broken only where they meet.
"""

import sys

from matplotlib import pyplot
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import adjusted_rand_score

import gpuseg


def main(figure_file: str = "grain_boundary.png") -> None:
    made = gpuseg.synthetic.bicrystal((384, 384), counts=5, random_state=0)
    mirrors = gpuseg.ReflectionSymmetry(radius=20, n_planes=10, pooling_radius=20)
    grains = gpuseg.segment(made.image, n_patterns=2, descriptor=mirrors, random_state=0)
    turns = gpuseg.RotationalSymmetry(radius=20, pooling_radius=14)
    boundary = gpuseg.segment(made.image, n_patterns=2, descriptor=turns, random_state=0)

    agreement = adjusted_rand_score(made.truth.ravel(), grains.labels.ravel())
    print(f"reflection: adjusted Rand index of the two grains {agreement:.4f}")
    best = grains.separability.argmax()
    print(f"best separated by {grains.operations[best]}: {grains.separability[best]:.2f}")
    away = distance_transform_edt(made.truth == 0) + distance_transform_edt(made.truth == 1)
    found = boundary.labels == 0  # the smaller pattern
    print(f"rotation: {found.mean():.1%} of the image are boundary, on average {away[found].mean():.1f} px "
          f"from the true one; the rest is {away[~found].mean():.1f} px away")  # fmt: skip

    figure, panels = pyplot.subplots(2, 2, figsize=(8, 8), layout="constrained")
    gpuseg.plot.plot_descriptor(grains, int(best), panels[0, 0])
    gpuseg.plot.plot_overlay(grains, panels[0, 1])
    gpuseg.plot.plot_descriptor(boundary, 0, panels[1, 0])
    gpuseg.plot.plot_overlay(boundary, panels[1, 1])
    figure.savefig(figure_file, dpi=90)
    print(f"written: {figure_file}")


if __name__ == "__main__":
    main(*sys.argv[1:])
