"""A twin boundary on the move: patterns learnt from the first frame, followed through a movie, and timed.

    python examples/twin_movie.py [FIGURE.png]

Two twins of an oblique lattice, mirror images of each other, and a boundary that moves 0.8 pixels per frame.
One frame is dead, as happens in a real recording.
"""

import sys
from collections.abc import Iterator

import numpy as np
from matplotlib import pyplot

import gpuseg
from gpuseg import measure, synthetic

SPEED = 0.8  # pixels per frame
DEAD = 17


def frames(movie: synthetic.BoundaryMovie) -> Iterator[np.ndarray]:
    """As from a camera: one at a time."""
    for number, scene in enumerate(movie):
        yield np.zeros_like(scene.image) if number == DEAD else scene.image


def main(figure_file: str = "twin_movie.png") -> None:
    one = synthetic.oblique(14, 12, 75)
    other = synthetic.Lattice(one.a, (one.b[0], -one.b[1]))
    shape = (200, 260)
    movie = synthetic.BoundaryMovie(shape, 40, (one, other), 8.0, 90.0, SPEED, -16.0, counts=5.0, seed=1)
    found = gpuseg.segment_series(frames(movie), n_patterns=2, n_operations=30, random_state=0)
    motion = measure.series(found, frame_time=0.5, pixel_size=0.012, unit="nm")

    print(f"{found}\nflagged: {found.frames_flagged}")
    print(f"{motion}, in truth {SPEED * 0.012 / 0.5:.4g} nm/s")

    figure, panels = pyplot.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
    for panel, number in zip(panels, (0, len(movie) - 1), strict=False):
        panel.imshow(gpuseg.plot.overlay(movie[number].image, found.labels[number]))
        panel.set_title(f"frame {number}")
    gpuseg.plot.plot_area_fractions(motion, panels[2])
    gpuseg.plot.plot_boundary_position(motion, panels[3])
    figure.savefig(figure_file, dpi=90)
    print(f"written: {figure_file}")


if __name__ == "__main__":
    main(*sys.argv[1:])
