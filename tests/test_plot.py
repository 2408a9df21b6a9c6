"""Pictures: the overlay pixel by pixel, and that every plot draws what it says."""

from __future__ import annotations

import io
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gpuseg import plot
from gpuseg.grid import Grid
from gpuseg.symmetry import Translation, translations_in_window

SHAPE = (60, 50)


def made_segmentation(upsampling=True):
    """What `segment` returns, by hand: pattern 1 right of column 20, the first five rows masked."""
    rng = np.random.default_rng(1)
    grid = Grid.full(SHAPE, 5)
    operations = translations_in_window((20, 20), 100)
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    labels = np.where(rows < 5, -1, (cols > 20).astype(np.int32)).astype(np.int32)
    certainty = np.full(SHAPE, 0.75, np.float32)
    on_grid = grid.at_points(labels)
    components = np.stack([2.0 * on_grid - 1, rng.normal(size=grid.shape)]).astype(np.float32)
    values = rng.uniform(-1, 1, (len(operations), *grid.shape)).astype(np.float32)
    return SimpleNamespace(
        image=rng.normal(100, 10, SHAPE),
        labels=labels if upsampling else on_grid,
        certainty=certainty if upsampling else grid.at_points(certainty),
        grid=grid,
        descriptors=SimpleNamespace(values=values, operations=operations, grid=grid),
        components=components,
        explained_variance_ratio=np.array([0.6, 0.3]),
        cluster_centers=np.array([[-1.0, 0.0], [1.0, 0.0]]),
        separability=np.arange(len(operations), dtype=float),
        operations=operations,
        n_patterns=2,
        area_fractions=np.array([0.4, 0.6]),
        parameters={"stride": 5, "n_components": np.int64(2), "nothing": float("nan")},
        timings={"descriptors": 0.01, "total": 0.02},
        device="cpu",
        evidence=None,
        model=SimpleNamespace(save=lambda path: np.savez(path, centers=np.eye(2))),
    )


@pytest.fixture
def axes():
    from matplotlib.figure import Figure

    return Figure().subplots()


# --- overlay ------------------------------------------------------------------------------------------------


def test_overlay_leaves_masked_pixels_grey_and_colours_the_others():
    image = np.tile(np.linspace(0, 1, 40), (30, 1))
    labels = np.zeros((30, 40), int)
    labels[:, :10] = -1
    labels[20:] = 1
    picture = plot.overlay(image, labels, alpha=0.5)
    assert picture.shape == (30, 40, 3)
    assert picture.dtype == np.uint8
    low, high = np.percentile(image, plot.STRETCH)
    grey = np.clip(255 * (image - low) / (high - low), 0, 255)[..., None]
    first, second = plot.palette(2)
    assert np.abs(picture[:20, :10] - grey[:20, :10]).max() <= 1
    assert np.abs(picture[5, 12] - (0.5 * grey[5, 12] + 0.5 * first)).max() <= 1
    assert np.abs(picture[25, 30] - (0.5 * grey[25, 30] + 0.5 * second)).max() <= 1


def test_overlay_draws_white_lines_between_patterns_only():
    labels = np.full((20, 20), -1)
    labels[:, 5:10] = 0
    labels[:, 10:] = 1
    picture = plot.overlay(np.random.default_rng(0).random((20, 20)), labels)
    white = (picture == 255).all(axis=-1)
    assert white[:, [9, 10]].all()
    assert not white[:, 5:9].any()
    assert not white[:, 11:].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_overlay_draws_pixels_that_are_not_finite(value):
    image = np.random.default_rng(0).random((20, 30))
    image[4, 5] = value
    picture = plot.overlay(image, np.full((20, 30), -1))
    assert picture[4, 5, 0] == (255 if value == np.inf else 0)
    assert picture.std() > 30


@pytest.mark.parametrize("image", [np.full((6, 7), 3.0), np.full((6, 7), np.nan)])
def test_overlay_of_an_image_without_contrast(image):
    assert not plot.overlay(image, np.full((6, 7), -1)).any()


@settings(max_examples=25, deadline=None)
@given(
    labels=hnp.arrays(
        np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(-1, 20)
    ),
    dtype=st.sampled_from([bool, np.uint8, ">u2", np.int64, np.float16, np.float32, ">f8"]),
    gain=st.floats(0.5, 100),
)
def test_overlay_takes_any_numbers_and_does_not_depend_on_gain(labels, dtype, gain):
    image = np.random.default_rng(0).integers(0, 100, labels.shape).astype(dtype)
    image.flags.writeable = False
    picture = plot.overlay(image, labels)
    assert picture.shape == (*labels.shape, 3)
    other = plot.overlay(image.astype(float) * gain, labels)
    assert np.abs(picture.astype(int) - other).max() <= 1


def test_overlay_refuses_what_does_not_fit():
    image = np.zeros((4, 5))
    with pytest.raises(ValueError, match=r"`image` has shape \(4, 5\) and `labels` \(5, 4\)"):
        plot.overlay(image, np.zeros((5, 4), int))
    with pytest.raises(ValueError, match=r"`alpha` is 1\.5"):
        plot.overlay(image, np.zeros((4, 5), int), alpha=1.5)


def test_palette_has_as_many_different_colours_as_wanted():
    colours = plot.palette(30)
    assert colours.shape == (30, 3)
    assert len(np.unique(colours, axis=0)) == 30
    assert (plot.palette(3) == colours[:3]).all()
    assert plot.palette(0).shape == (0, 3)


# --- plots --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upsampling", [True, False])
@pytest.mark.parametrize(
    "function", [plot.plot_image, plot.plot_overlay, plot.plot_labels, plot.plot_certainty]
)
def test_maps_count_pixels_with_rows_down_and_have_a_scale_bar(function, upsampling, axes):
    segmentation = made_segmentation(upsampling)
    assert function(segmentation, axes, pixel_size=0.1) is axes
    low, high = axes.get_ylim()
    assert low > high
    assert axes.get_xlabel() == "column (px)"
    # 50 pixels of 0.1 nm: at most a quarter of 5 nm is 1 nm.
    assert [text.get_text() for text in axes.texts] == ["1 nm"]


def test_labels_plot_shows_patterns_at_their_pixels(axes):
    segmentation = made_segmentation()
    plot.plot_labels(segmentation, axes)
    shown = axes.images[0].get_array()
    assert (shown[30, 10] == plot.palette(2)[0]).all()
    assert (shown[30, 40] == plot.palette(2)[1]).all()
    assert (shown[2] == round(255 * plot.MASKED_GREY)).all()
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["pattern 0: 42.0%", "pattern 1: 58.0%"]


def test_plots_take_plain_arrays(axes):
    plot.plot_labels(np.array([[0, 1], [1, -1]]), axes)
    plot.plot_certainty(np.full((3, 4), 0.5), axes)
    plot.plot_explained_variance(np.array([0.7, 0.2]), axes)
    assert len(axes.images) == 2
    assert [patch.get_height() for patch in axes.patches] == pytest.approx([70, 20])


def test_separability_map_puts_each_translation_at_its_place(axes):
    segmentation = made_segmentation()
    plot.plot_separability(segmentation, axes)
    shown = axes.collections[0].get_array()
    assert shown.shape == (9, 9)
    assert shown[0, 0] == segmentation.separability[0]
    place = segmentation.operations.index(Translation(-20, 15))
    assert shown[0, 7] == segmentation.separability[place]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_separability_of_scattered_translations_leaves_gaps(axes):
    operations = (Translation(0, 14), Translation(12, 7), Translation(-3, 2))
    plot.plot_separability(
        SimpleNamespace(operations=operations, separability=np.array([1, np.nan, 3.0])), axes
    )
    shown = axes.collections[0].get_array()
    assert shown.count() == 2
    assert shown[0, 0] == 3


def test_separability_of_other_operations_is_a_bar_each(axes):
    plot.plot_separability(
        SimpleNamespace(operations=("rotation 60", "rotation 90"), separability=np.array([2, 5.0])), axes
    )
    assert [patch.get_width() for patch in axes.patches] == [2, 5]


def test_separability_of_very_many_operations_shows_the_best(axes):
    separability = np.random.default_rng(0).permutation(100).astype(float)
    names = tuple(f"feature {k}" for k in range(100))
    plot.plot_separability(SimpleNamespace(operations=names, separability=separability), axes)
    assert [patch.get_width() for patch in axes.patches] == list(range(99, 99 - plot.MANY_BARS, -1))
    assert axes.get_yticklabels()[0].get_text() == names[separability.argmax()]


def test_local_correlation_map_is_that_of_the_nearest_grid_point(axes):
    segmentation = made_segmentation()
    plot.plot_local_correlation(segmentation, (31, 12), axes)
    row, col = np.abs(segmentation.grid.rows - 31).argmin(), np.abs(segmentation.grid.cols - 12).argmin()
    expected = segmentation.descriptors.values[:, row, col].reshape(9, 9)
    np.testing.assert_array_equal(axes.collections[0].get_array(), expected)
    assert "(31, 12)" in axes.get_title()
    with pytest.raises(ValueError, match=r"`pixel` is \(60, 0\)"):
        plot.plot_local_correlation(segmentation, (60, 0), axes)
    rotations = SimpleNamespace(
        operations=("rotation 60",), grid=segmentation.grid, values=np.zeros((1, 12, 10))
    )
    with pytest.raises(ValueError, match="`source` scores rotation 60; translations are wanted"):
        plot.plot_local_correlation(rotations, (1, 1), axes)


def test_descriptor_and_component_maps_cover_the_image(axes):
    segmentation = made_segmentation()
    plot.plot_descriptor(segmentation, Translation(5, -10), axes)
    number = segmentation.operations.index(Translation(5, -10))
    np.testing.assert_array_equal(axes.images[0].get_array(), segmentation.descriptors.values[number])
    assert axes.images[0].get_extent() == [-0.5, 49.5, 59.5, -0.5]
    with pytest.raises(ValueError, match="`operation` is 81; one of the 81 is wanted"):
        plot.plot_descriptor(segmentation, 81, axes)
    plot.plot_component(segmentation, 1, axes)
    np.testing.assert_array_equal(axes.images[1].get_array(), segmentation.components[1])
    with pytest.raises(ValueError, match="`component` is 2; 0 to 1 is wanted"):
        plot.plot_component(segmentation, 2, axes)


@pytest.mark.parametrize("upsampling", [True, False])
def test_clusters_are_coloured_by_pattern_and_leave_out_masked_points(upsampling, axes):
    segmentation = made_segmentation(upsampling)
    plot.plot_clusters(segmentation, axes)
    points, centers = axes.collections
    assert len(points.get_offsets()) == (segmentation.grid.at_points(made_segmentation().labels) >= 0).sum()
    np.testing.assert_allclose(centers.get_offsets(), segmentation.cluster_centers)
    orange = plot.palette(1)[0] / 255
    is_first = np.isclose(points.get_facecolors()[:, :3], orange).all(axis=1)
    np.testing.assert_array_equal(points.get_offsets()[:, 0] < 0, is_first)


def test_separability_against_variance_names_the_best(axes):
    segmentation = made_segmentation()
    segmentation.descriptors.values[3, 0, 0] = np.nan
    plot.plot_separability_against_variance(segmentation, axes)
    assert [text.get_text() for text in axes.texts] == [str(segmentation.operations[-1])]
    shown = axes.collections[0].get_offsets()
    np.testing.assert_allclose(
        shown[:, 0], np.nanvar(segmentation.descriptors.values, axis=(1, 2)), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("width", "pixel_size", "expected"), [(1000, 0.01, "2 nm"), (100, 0.003, "0.05 nm"), (64, 25.0, "200 nm")]
)
def test_scale_bar_has_a_round_length(width, pixel_size, expected, axes):
    plot.plot_image(np.random.default_rng(0).random((8, width)), axes, pixel_size=pixel_size)
    assert axes.texts[0].get_text() == expected
    left, right = axes.lines[0].get_xdata()
    assert (right - left) * width * pixel_size == pytest.approx(float(expected.split()[0]))


@pytest.mark.parametrize("upsampling", [True, False])
def test_png_is_a_picture_with_six_panels(upsampling):
    from PIL import Image

    content = plot.png(made_segmentation(upsampling))
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "PNG"
        assert picture.width > 900
        assert np.asarray(picture).std() > 20


# --- what was measured --------------------------------------------------------------------------------------


def test_defects_are_circled_in_the_colour_of_their_pattern(axes):
    from gpuseg.measure import Table

    columns = {
        "pattern": [1, 0],
        "centroid_row_px": [5.0, 20.0],
        "centroid_col_px": [9.0, 30.0],
        "area_px": [50, 8],
    }
    defects = Table({name: np.array(values) for name, values in columns.items()})
    assert plot.plot_defects(np.eye(40), defects, axes) is axes
    first, second = axes.patches
    assert first.center == (9, 5)
    assert first.radius == pytest.approx(1.5 * np.sqrt(50 / np.pi))
    np.testing.assert_allclose(second.get_edgecolor()[:3], plot.palette(1)[0] / 255)
    assert axes.get_title() == "2 defects"
    none = Table({name: np.array([]) for name in columns})
    assert plot.plot_defects(np.eye(40), none, pixel_size=0.1).get_title() == "0 defects"


@pytest.mark.parametrize("calibration", [{}, {"frame_time": 0.5, "pixel_size": 0.1}])
def test_motion_is_drawn_over_time(axes, calibration):
    from gpuseg import measure, synthetic

    labels = np.stack([synthetic.label_halves((30, 40), angle=90, offset=k - 3) for k in range(6)])
    labels[2] = -1
    motion = measure.series(labels, **calibration)
    plot.plot_area_fractions(motion, axes)
    assert [line.get_label() for line in axes.lines] == ["pattern 0", "pattern 1"]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 100 * motion.frames["area_fraction_0"])
    assert axes.get_xlabel() == ("time (s)" if calibration else "frame")
    axes.clear()
    plot.plot_boundary_position(motion, axes)
    used, left_out, fit = axes.lines
    assert (len(used.get_xdata()), len(left_out.get_xdata())) == (5, 1)
    assert fit.get_label() == ("0.2 nm/s" if calibration else "1 px/frame")
    assert axes.get_ylabel() == f"from the centre ({'nm' if calibration else 'px'})"
    never = measure.series(labels[2:3])
    assert len(plot.plot_boundary_position(never, axes).lines) == 5  # the points only: none, and none
    axes.clear()
    assert not plot.plot_area_fractions(never, axes).lines


def test_summary_draws_into_a_figure_given():
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    assert plot.summary(made_segmentation(), pixel_size=0.02, unit="nm", figure=figure) is figure
    titles = [panel.get_title() for panel in figure.axes if panel.get_title()]
    assert titles[:3] == ["image", "patterns over the image", "certainty"]
    assert len(titles) == 6


def test_new_axes_come_from_pyplot(monkeypatch):
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    axes = plot.plot_labels(np.zeros((4, 4), int))
    assert pyplot.gca() is axes
    figure = plot.summary(made_segmentation())
    assert pyplot.gcf() is figure
    pyplot.close("all")


def test_the_overlay_needs_no_matplotlib():
    code = (
        "import sys, numpy as np; from gpuseg.plot import overlay; "
        "overlay(np.eye(8), np.eye(8, dtype=int)); sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
