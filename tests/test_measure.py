"""Measuring: truth from geometry, units, degenerate labels, motion, defects, other channels."""

from __future__ import annotations

import builtins
import csv
import importlib.machinery
import importlib.util
import math
import re
import sys
import tracemalloc
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import gpuseg
from gpuseg import measure, synthetic
from gpuseg.grid import Grid
from gpuseg.measure.lengths import lengths_between
from tests.emulator import require

pytest.importorskip("skimage", reason="pip install 'gpuseg[measure]'")

SHAPE = (200, 240)
VACANCIES = [(80, 80), (200, 120), (330, 60), (100, 420), (320, 450), (450, 400)]


def disc(radius, center=(100.3, 119.6), shape=SHAPE):
    rows, cols = np.indices(shape)
    return ((rows - center[0]) ** 2 + (cols - center[1]) ** 2 < radius**2).astype(np.int32)


def half_plane(angle, shape=(400, 400)):
    return synthetic.label_halves(shape, angle=angle, offset=0.3)


def without(monkeypatch, package):
    """As if a package were not installed."""
    real = builtins.__import__

    def refuse(name, *rest, **options):
        if name.partition(".")[0] == package:
            raise ImportError(f"No module named {package!r}")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)


# ---- regions


def test_a_disc_is_measured_in_pixels_and_nanometres():
    table = measure.regions(disc(50), pixel_size=0.2)
    around, inside = table.records()
    assert (around["region"], around["pattern"], around["touches_border"]) == (1, 0, True)
    assert (inside["region"], inside["pattern"], inside["touches_border"]) == (2, 1, False)
    assert inside["area_px"] == disc(50).sum()
    assert inside["area_px"] == pytest.approx(math.pi * 50**2, rel=2e-3)
    assert inside["area_nm2"] == pytest.approx(inside["area_px"] * 0.04)
    assert inside["perimeter_px"] == pytest.approx(2 * math.pi * 50, rel=0.01)
    assert inside["perimeter_nm"] == pytest.approx(inside["perimeter_px"] * 0.2)
    assert inside["equivalent_diameter_nm"] == pytest.approx(20, rel=2e-3)
    assert (inside["centroid_row_px"], inside["centroid_col_px"]) == pytest.approx((100.3, 119.6), abs=0.05)
    assert inside["centroid_row_nm"] == pytest.approx(inside["centroid_row_px"] * 0.2)
    # around: the outline of the image and that of the hole
    assert around["perimeter_px"] == pytest.approx(2 * sum(SHAPE) + 2 * math.pi * 50, rel=0.02)


def test_a_rectangle():
    labels = np.zeros(SHAPE, np.int16)
    labels[40:100, 30:150] = 1
    row = measure.regions(labels, pixel_size=2, unit="µm").records()[1]
    assert row["area_um2"] == 60 * 120 * 4
    assert row["perimeter_px"] == pytest.approx(360, rel=0.02)
    assert (row["centroid_row_px"], row["centroid_col_px"]) == (69.5, 89.5)
    assert row["equivalent_diameter_px"] == pytest.approx(math.sqrt(4 * 7200 / math.pi))


@pytest.mark.parametrize("side", ["top", "left", "bottom", "right"])
def test_each_side_is_a_border(side):
    labels = np.zeros((30, 40), np.int32)
    place = {
        "top": np.s_[0:5, 9:12],
        "left": np.s_[9:12, 0:5],
        "bottom": np.s_[25:30, 9:12],
        "right": np.s_[9:12, 35:40],
    }
    labels[place[side]] = 1
    table = measure.regions(labels)
    assert table["touches_border"][table["pattern"] == 1].tolist() == [True]
    moved = np.zeros((32, 42), np.int32)
    moved[1:-1, 1:-1] = labels
    table = measure.regions(moved)
    assert table["touches_border"][table["pattern"] == 1].tolist() == [False]


def test_masked_pixels_are_no_region_and_divide():
    labels = np.zeros((20, 30), np.int32)
    labels[:, 10] = -1
    table = measure.regions(labels)
    assert table["area_px"].tolist() == [200, 380]
    assert table["pattern"].tolist() == [0, 0]
    names = measure.label_regions(labels)
    assert np.unique(names[:, 10]).tolist() == [0]
    assert (names[0, 0], names[0, 29]) == (1, 2)
    nothing = np.full((5, 5), -1)
    assert len(measure.regions(nothing)) == len(measure.boundaries(nothing)) == 0
    assert "area_px" in measure.regions(nothing).columns
    assert not measure.label_regions(nothing).any()


def test_connectivity_and_smallest_size():
    labels = np.zeros((20, 20), np.int32)
    labels[2:5, 2:5] = labels[5:9, 5:9] = 1
    labels[15, 15] = 1
    area = {
        k: sorted(t["area_px"][t["pattern"] == 1])
        for k in (1, 2)
        for t in [measure.regions(labels, connectivity=k)]
    }
    assert area == {1: [1, 9, 16], 2: [1, 25]}
    large = measure.regions(labels, min_size=9)
    assert large["region"].tolist() == [1, 2, 3]
    names = measure.label_regions(labels, min_size=9)
    assert names[15, 15] == 0
    for row in large:
        assert (names == row["region"]).sum() == row["area_px"]
        assert np.unique(labels[names == row["region"]]).tolist() == [row["pattern"]]


@pytest.mark.parametrize("kind", ["uint8", "int64", "big-endian", "fortran", "strided", "read-only", "list"])
def test_labels_of_any_layout(kind):
    labels = disc(30)
    wanted = measure.regions(labels).records(), measure.boundaries(labels).records()
    twice = np.repeat(np.repeat(labels, 2, 0), 2, 1)
    read_only = labels.copy()
    read_only.flags.writeable = False
    given = {"uint8": labels.astype(np.uint8), "int64": labels.astype(np.int64), "big-endian": labels.astype(">i4"),
             "fortran": np.asfortranarray(labels), "strided": twice[::2, ::2], "read-only": read_only, "list": labels.tolist()}[kind]  # fmt: skip
    assert (measure.regions(given).records(), measure.boundaries(given).records()) == wanted


def test_a_single_pixel_is_a_region():
    row = measure.regions(np.zeros((1, 1), np.int32)).records()[0]
    assert (row["area_px"], row["centroid_row_px"]) == (1, 0)
    assert 2 < row["perimeter_px"] < 4


# ---- lengths


@pytest.mark.parametrize("angle", [0, 10, 22.5, 30, 45, 60, 71, 90, 120, 160])
@pytest.mark.parametrize("stride", [1, 5])
def test_straight_boundaries_of_any_direction(angle, stride):
    """Within the 1.5 % of eight directions, also through the stairs of upsampling, and 1 px at either end."""
    labels = half_plane(angle)
    grid = Grid.full(labels.shape, stride)
    found = measure.boundaries(grid.upsample(grid.at_points(labels)), stride=stride)["length_px"][0]
    theta = math.radians(angle)
    wanted = 400 / max(abs(math.cos(theta)), abs(math.sin(theta)))
    assert abs(found - wanted) < 0.015 * wanted + 1.5 * stride


def test_stairs_are_counted_where_they_are_real():
    """What the stride is for: a count of pixel sides, or steps of one pixel, see the stairs."""
    grid = Grid.full((400, 400), 5)
    stairs = grid.upsample(grid.at_points(half_plane(45)))
    assert (
        measure.boundaries(stairs)["length_px"][0]
        > 1.2 * measure.boundaries(stairs, stride=5)["length_px"][0]
    )


@pytest.mark.parametrize(("radius", "bound"), [(5, 0.02), (10, 0.01), (20, 0.01), (80, 0.005)])
def test_the_outline_of_a_disc(radius, bound):
    row = measure.boundaries(disc(radius)).records()[0]
    assert row["length_px"] == pytest.approx(2 * math.pi * radius, rel=bound)


def test_the_outline_of_a_disc_through_the_stairs_of_a_stride():
    grid = Grid.full(SHAPE, 5)
    stairs = grid.upsample(grid.at_points(disc(80)))
    seen, smooth = (measure.regions(stairs, stride=stride)["perimeter_px"][1] for stride in (1, 5))
    assert smooth == pytest.approx(2 * math.pi * 80, rel=0.01)
    assert seen > 1.15 * smooth


def test_three_patterns_meet_in_pairs():
    labels = np.zeros((100, 120), np.int32)
    labels[:, 40:80], labels[:, 80:] = 2, 1
    table = measure.boundaries(labels, pixel_size=0.5, unit="nm")
    assert list(zip(table["pattern_a"], table["pattern_b"], strict=True)) == [(0, 2), (1, 2)]
    np.testing.assert_allclose(table["length_px"], 100, rtol=0.015)
    np.testing.assert_array_equal(table["length_nm"], table["length_px"] * 0.5)


@pytest.mark.parametrize("angle", [0, 33, 90])
def test_a_thin_pattern_between_two_others_keeps_them_apart(angle):
    rows, cols = np.indices((200, 200)) - 100
    across = rows * math.cos(math.radians(angle)) + cols * math.sin(math.radians(angle))
    labels = np.where(across > 0.5, 2, 0)
    labels[(across > 0.5) & (across < 2.1)] = 1
    lengths = lengths_between(labels, 1)
    assert lengths[0, 2] == 0
    np.testing.assert_allclose(lengths[0, 1], lengths[1, 2], rtol=0.02)


def test_boundaries_do_not_depend_on_names_or_orientation():
    labels = synthetic.label_voronoi((90, 110), n_grains=4, random_state=3)
    lengths = lengths_between(labels, 1)
    np.testing.assert_array_equal(lengths, lengths.T)
    assert not np.diag(lengths).any()
    np.testing.assert_allclose(lengths_between(3 - labels, 1), lengths[::-1, ::-1], rtol=1e-12)
    np.testing.assert_allclose(lengths_between(labels[:, ::-1], 1), lengths, rtol=1e-12)
    np.testing.assert_allclose(lengths_between(np.rot90(labels), 1), lengths, rtol=1e-12)


def test_large_numbers_of_patterns_take_no_room():
    few = np.where(np.indices((40, 50))[1] < 20, 0, 1)
    few[0] = -1
    many = np.where(few == 1, 65535, few)
    found, wanted = measure.boundaries(many), measure.boundaries(few)
    assert (found["pattern_a"].tolist(), found["pattern_b"].tolist()) == ([0], [65535])
    np.testing.assert_array_equal(found["length_px"], wanted["length_px"])
    large = np.where(few == 1, 300, few)
    motion, plain = measure.series([large, large]), measure.series([few, few])
    assert motion.patterns == (0, 300)
    for column in ("boundary_length_px", "boundary_position_px"):
        np.testing.assert_array_equal(motion.frames[column], plain.frames[column])
    missing = measure.series([large, np.zeros_like(large)], patterns=(300, 0))
    assert missing.frames["boundary_length_px"].tolist() == [wanted["length_px"][0], 0]


def test_masked_pixels_and_the_border_make_no_boundary():
    labels = np.zeros((60, 60), np.int32)
    labels[:, 30:] = 1
    labels[:, 25:35] = -1
    assert len(measure.boundaries(labels)) == 0
    assert len(measure.boundaries(np.zeros((20, 20), int))) == 0


# ---- what is taken


def test_a_segmentation_knows_its_stride_and_grid():
    scene = synthetic.bicrystal((160, 160), random_state=0)
    options = {"random_state": 0, "device": "cpu", "stride": 4}
    full = gpuseg.segment(scene.image, 2, **options)
    points = gpuseg.segment(scene.image, 2, upsampling=False, **options)
    for function in (measure.regions, measure.boundaries):
        assert (
            function(full).records()
            == function(points).records()
            == function(full.labels, stride=4).records()
        )
    assert measure.boundaries(full)["length_px"][0] < 0.9 * measure.boundaries(full, stride=1)["length_px"][0]
    assert measure.boundaries(full)["length_px"][0] == pytest.approx(
        160 / math.sin(math.radians(75)), rel=0.06
    )


@pytest.mark.parametrize("function", [measure.regions, measure.boundaries, measure.label_regions])
@pytest.mark.parametrize(("labels", "error", "message"), [
    (np.zeros((3, 3)), TypeError, "`labels` is ndarray of float64; a Segmentation or (H, W) integers"),
    (np.zeros((3, 3), bool), TypeError, "of bool"),
    ("labels.tif", TypeError, "`labels` is str"),
    (np.zeros((2, 3, 3), int), ValueError, "`labels` has shape (2, 3, 3); .*gpuseg.measure.series takes a series"),
    (np.zeros((0, 3), int), ValueError, "`labels` has shape (0, 3)"),
    (np.full((3, 3), -2), ValueError, "`labels` runs from -2 to -2"),
    (np.full((3, 3), 70000), ValueError, "`labels` runs from 70000 to 70000"),
])  # fmt: skip
def test_bad_labels(function, labels, error, message):
    with pytest.raises(error, match=re.escape(message).replace(r"\.\*", ".*")):
        function(labels)


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"pixel_size": 0}, ValueError, "`pixel_size` is 0; a positive number is needed"),
    ({"pixel_size": -1.5}, ValueError, "`pixel_size` is -1.5"),
    ({"pixel_size": math.nan}, ValueError, "`pixel_size` is nan"),
    ({"pixel_size": math.inf}, ValueError, "`pixel_size` is inf"),
    ({"pixel_size": "0.1 nm"}, TypeError, "`pixel_size` is '0.1 nm'"),
    ({"pixel_size": True}, TypeError, "`pixel_size` is True"),
    ({"unit": "nm"}, ValueError, "`unit` is 'nm', but `pixel_size` is not given"),
    ({"pixel_size": 1, "unit": 3}, TypeError, "`unit` is 3; a name such as 'nm' is needed"),
    ({"pixel_size": 1, "unit": "1/nm"}, ValueError, "`unit` is '1/nm'"),
    ({"pixel_size": 1, "unit": ""}, ValueError, "`unit` is ''"),
    ({"stride": 0}, ValueError, "`stride` is 0; a whole number of at least 1"),
    ({"stride": 1.5}, TypeError, "`stride` is 1.5"),
])  # fmt: skip
def test_bad_options_of_all(options, error, message):
    labels = disc(20)
    for function in (
        measure.regions,
        measure.boundaries,
        lambda labels, **o: measure.series(labels[None], **o),
    ):
        with pytest.raises(error, match=re.escape(message)):
            function(labels, **options)


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"connectivity": 3}, ValueError, "`connectivity` is 3; a whole number of at least 1 and at most 2"),
    ({"connectivity": "full"}, TypeError, "`connectivity` is 'full'"),
    ({"min_size": 0}, ValueError, "`min_size` is 0"),
    ({"min_size": 2.5}, TypeError, "`min_size` is 2.5"),
])  # fmt: skip
def test_bad_options_of_regions(options, error, message):
    for function in (measure.regions, measure.label_regions):
        with pytest.raises(error, match=re.escape(message)):
            function(disc(20), **options)


def test_without_scikit_image_the_error_names_the_extra(monkeypatch):
    without(monkeypatch, "skimage")
    with pytest.raises(ImportError, match=re.escape("pip install 'gpuseg[measure]'")):
        measure.regions(disc(20))
    assert len(measure.boundaries(disc(20))) == 1  # needs none


# ---- on a GPU


def stand_in_for_cucim(monkeypatch, cupy, seen):
    """A module with cuCIM's names that takes arrays of the GPU only, and gives columns of the GPU."""
    import skimage.measure

    def label(image, background=None, return_num=False, connectivity=None):
        seen.append("label")
        assert isinstance(image, cupy.ndarray)
        return cupy.asarray(
            skimage.measure.label(image.get(), background=background, connectivity=connectivity)
        )

    def regionprops_table(image, intensity_image=None, properties=("label", "bbox")):
        seen.append("regionprops_table")
        assert isinstance(image, cupy.ndarray)
        found = skimage.measure.regionprops_table(image.get(), properties=properties)
        return {name: cupy.asarray(column) for name, column in found.items()}

    module = ModuleType("cucim.skimage.measure")
    module.label, module.regionprops_table = label, regionprops_table
    package, middle = ModuleType("cucim"), ModuleType("cucim.skimage")
    package.skimage, middle.measure = middle, module
    for each in (package, middle, module):
        each.__spec__ = importlib.machinery.ModuleSpec(each.__name__, None)
        monkeypatch.setitem(sys.modules, each.__name__, each)


def test_cucim_is_used_where_it_is_installed(emulated_cuda, monkeypatch):
    cupy, seen = emulated_cuda(), []
    stand_in_for_cucim(monkeypatch, cupy, seen)
    labels = disc(20)
    labels[100, 100] = 0
    on_gpu = cupy.asarray(labels)
    assert measure.regions(on_gpu, min_size=5).records() == measure.regions(labels, min_size=5).records()
    assert seen == ["label", "regionprops_table"]
    assert len(measure.regions(cupy.asarray(np.full((5, 5), -1)))) == 0
    names = measure.label_regions(on_gpu)
    assert isinstance(names, cupy.ndarray)
    np.testing.assert_array_equal(names.get(), measure.label_regions(labels))
    assert measure.boundaries(on_gpu).records() == measure.boundaries(labels).records()
    data = np.arange(labels.size, dtype=np.float32).reshape(labels.shape)
    np.testing.assert_array_equal(
        measure.accumulate(on_gpu, cupy.asarray(data)), measure.accumulate(labels, data)
    )


def test_without_cucim_labels_of_a_gpu_are_measured_on_the_host(emulated_cuda, monkeypatch):
    cupy = emulated_cuda()
    without(monkeypatch, "cucim")
    assert measure.regions(cupy.asarray(disc(20))).records() == measure.regions(disc(20)).records()
    assert isinstance(measure.label_regions(cupy.asarray(disc(20))), np.ndarray)


# ---- tables


def test_a_table_as_records_and_csv(tmp_path):
    table = measure.regions(disc(50), pixel_size=0.3)
    assert [type(value) for value in table.records()[0].values()][:4] == [int, int, bool, int]
    assert list(table) == table.records()
    table.to_csv(tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(table.columns)
    assert [float(row["perimeter_nm"]) for row in rows] == table["perimeter_nm"].tolist()  # to the last digit
    with pytest.raises(FileExistsError, match="is there already; use force=True"):
        table.to_csv(tmp_path / "a.csv")
    measure.regions(disc(20)).to_csv(tmp_path / "a.csv", force=True)
    assert "_nm" not in (tmp_path / "a.csv").read_text()
    with pytest.raises(FileNotFoundError):
        table.to_csv(tmp_path / "nowhere" / "a.csv")
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]
    with pytest.raises(KeyError, match="no column 'area'; one of region, pattern"):
        table["area"]


def test_a_table_prints_its_first_rows():
    table = measure.Table({"k": np.arange(50), "x_px": np.linspace(0, 1, 50)})
    lines = repr(table).splitlines()
    assert lines[0].split() == ["k", "x_px"]
    assert lines[-1] == "... and 30 more rows"
    assert len(lines) == 22
    assert repr(measure.Table({"k": np.arange(0)})) == "k"


def test_a_table_as_a_pandas_frame(monkeypatch):
    table = measure.regions(disc(50))
    without(monkeypatch, "pandas")
    with pytest.raises(ImportError, match=r"to_pandas\(\) needs pandas: `pip install pandas`"):
        table.to_pandas()
    monkeypatch.undo()
    require(importlib.util.find_spec("pandas"), "pip install pandas")
    frame = table.to_pandas()
    assert list(frame.columns) == list(table.columns)
    assert frame["area_px"].tolist() == table["area_px"].tolist()


# ---- motion


@pytest.mark.parametrize(
    ("angle", "speed"), [(90, 1.0), (60, 1.5), (20, -1.2), (67, 0.9), (0, 2.0), (130, -0.7)]
)
def test_a_moving_boundary_is_found_where_it_is(angle, speed):
    movie = synthetic.boundary_movie((150, 190), 25, boundary_angle=angle, speed=speed, random_state=0)
    truth = np.stack([synthetic.label_halves((150, 190), angle=angle, offset=d) for d in movie.boundary])
    found = measure.series(truth)
    assert found.patterns == (0, 1)
    assert abs((found.angle - angle + 90) % 180 - 90) <= 0.5
    # the sides of pixels on the line itself are chance: half a pixel along rows and columns
    np.testing.assert_allclose(found.frames["boundary_position_px"], movie.boundary, atol=0.51)
    assert found.speed == pytest.approx(speed, rel=2e-3)
    assert found.speed_error < 2e-3
    assert found.speed_unit == "px_per_frame"
    assert found.frames["straightness"].min() > 0.98
    assert found.frames["used"].all()
    fractions = [(each == 0).mean() for each in truth]
    np.testing.assert_allclose(found.frames["area_fraction_0"], fractions)
    swapped = measure.series(1 - truth)
    assert swapped.speed == pytest.approx(-found.speed, rel=1e-6)


def test_speed_in_calibrated_units():
    labels = np.stack([synthetic.label_halves((60, 80), angle=90, offset=2 * k - 10) for k in range(11)])
    found = measure.series(labels, frame_time=0.5, pixel_size=0.1, unit="Å")
    assert found.speed_unit == "angstrom_per_s"
    assert found.speed == pytest.approx(2 * 0.1 / 0.5)
    assert found.start == pytest.approx(-1, abs=0.06)
    np.testing.assert_allclose(found.frames["time_s"], np.arange(11) / 2)
    np.testing.assert_allclose(found.frames["boundary_speed_angstrom_per_s"], 0.4)
    np.testing.assert_allclose(found.frames["boundary_length_angstrom"], 6, rtol=0.02)
    row = found.summary().records()[0]
    assert (row["pattern_a"], row["pattern_b"], row["frames_used"], row["frames"]) == (0, 1, 11, 11)
    assert row["speed_angstrom_per_s"] == found.speed
    assert "11 frames: 0.4 +- " in repr(found)
    assert "angstrom/min" in repr(
        measure.series(labels, frame_time=2, time_unit="min", pixel_size=1, unit="Å")
    )


def test_dead_and_strange_frames_do_not_bend_the_fit():
    frames = []
    for k in range(12):
        labels = synthetic.label_halves((60, 80), angle=90, offset=1.5 * k - 8)
        flag = ""
        if k == 4:
            labels, flag = np.full((60, 80), -1), "dead: constant"
        if k == 7:
            labels, flag = 1 - labels, "unlike what was learnt"
        frames.append(SimpleNamespace(labels=labels, mean_certainty=math.nan if k == 4 else 0.9, flag=flag))
    found = measure.series(iter(frames))
    assert found.speed == pytest.approx(1.5, rel=0.01)
    rows = found.frames.records()
    dead, strange = rows[4], rows[7]
    assert all(math.isnan(dead[name]) for name in ("area_fraction_0", "area_fraction_1", "mean_certainty", "straightness",
                                                   "boundary_position_px", "boundary_length_px", "boundary_speed_px_per_frame"))  # fmt: skip
    assert strange["area_fraction_0"] == pytest.approx((frames[7].labels == 0).mean())
    assert found.frames["used"].tolist() == [k not in (4, 7) for k in range(12)]
    assert [row["flag"] for row in rows if row["flag"]] == ["dead: constant", "unlike what was learnt"]
    np.testing.assert_allclose(
        found.frames["boundary_speed_px_per_frame"][found.frames["used"]], 1.5, atol=0.51
    )


def test_masked_pixels_do_not_move_the_boundary():
    labels = np.stack([synthetic.label_halves((100, 100), angle=70, offset=k - 5.0) for k in range(11)])
    labels[:, 30:60, 20:80] = -1
    found = measure.series(labels)
    np.testing.assert_allclose(found.frames["boundary_position_px"], np.arange(11) - 5.0, atol=0.3)
    assert found.speed == pytest.approx(1, rel=0.01)


def test_the_pair_and_the_angle_can_be_chosen():
    labels = np.zeros((6, 60, 90), np.int32)
    for k in range(6):
        labels[k, :, 30:] = 1
        labels[k, 40 - k :, 60:] = 2
    found = measure.series(labels)
    assert found.patterns == (0, 1)
    assert found.speed == pytest.approx(0, abs=1e-9)
    chosen = measure.series(labels, patterns=(1, 2))
    assert chosen.patterns == (1, 2)
    first = SimpleNamespace(labels=labels[0] // 2, flag="unlike what was learnt", mean_certainty=0.1)
    assert measure.series([first, *labels]).patterns == (0, 1)
    first.labels = np.where(labels[0] > 0, 2, 0)  # a boundary that is nowhere else
    assert measure.series([first, *labels]).patterns == (0, 1)
    fixed = measure.series(labels[:, :, :60], angle=450)
    assert fixed.angle == 90
    np.testing.assert_allclose(fixed.frames["boundary_position_px"], 0, atol=0.51)
    never = measure.series(labels, patterns=(1, 7))
    assert math.isnan(never.speed)
    assert never.frames["boundary_length_px"].tolist() == [0.0] * 6


@pytest.mark.parametrize(
    "labels", [np.zeros((4, 20, 20), int), np.full((4, 20, 20), -1), np.zeros((0, 20, 20), int), []]
)
def test_a_series_without_a_boundary_has_no_speed(labels):
    found = measure.series(labels, frame_time=1)
    assert found.patterns is None
    assert math.isnan(found.speed)
    assert math.isnan(found.angle)
    assert len(found.frames) == len(labels)
    assert found.summary()["frames_used"].tolist() == [0]


def test_one_and_two_frames():
    labels = np.stack([synthetic.label_halves((60, 80), angle=90, offset=d) for d in (0, 3)])
    one, two = measure.series(labels[:1]), measure.series(labels)
    assert math.isnan(one.speed)
    assert one.frames["boundary_position_px"][0] == pytest.approx(0, abs=0.51)
    assert two.speed == pytest.approx(3)
    assert math.isnan(two.speed_error)


def test_an_island_is_told_by_its_straightness(caplog):
    measure.series(np.stack([half_plane(30)] * 3))
    assert not caplog.records
    labels = np.stack([disc(30 - k, (100, 40)) for k in range(5)])
    found = measure.series(labels)
    assert "the boundary is far from a straight line (straightness 0." in caplog.text
    assert found.summary()["median_straightness"][0] == np.median(found.frames["straightness"])
    assert found.frames["straightness"].max() < 0.5
    np.testing.assert_allclose(
        found.frames["boundary_length_px"], [2 * math.pi * (30 - k) for k in range(5)], rtol=0.02
    )


@pytest.fixture(scope="module")
def movie():
    return synthetic.boundary_movie((120, 150), 16, period=9, misorientation=20, speed=3, random_state=2)


OPTIONS = {"descriptor": gpuseg.LocalCorrelationMap(10, 10, 80), "random_state": 0, "device": "cpu"}


def test_the_speed_of_a_segmented_movie(movie, tmp_path):
    images = [scene.image for scene in movie]
    images[5] = np.ones_like(images[5])
    options = {**OPTIONS, "n_operations": 30}
    result = gpuseg.segment_series(images, 2, **options)
    found = measure.series(result, frame_time=0.1, pixel_size=0.02)
    assert abs(found.speed) == pytest.approx(3 * 0.02 / 0.1, rel=0.03)
    assert found.frames["used"].tolist() == [k != 5 for k in range(16)]
    np.testing.assert_array_equal(found.frames["mean_certainty"], result.certainty)
    np.testing.assert_allclose(
        np.stack([found.frames[f"area_fraction_{k}"] for k in (0, 1)], 1), result.area_fractions
    )
    streamed = measure.series(
        gpuseg.iterate_series(iter(images), 2, **options), frame_time=0.1, pixel_size=0.02
    )
    assert repr(streamed.frames) == repr(found.frames)
    written = gpuseg.segment_series(images, 2, out=tmp_path / "out", **options)
    saved = measure.series(written, frame_time=0.1, pixel_size=0.02)
    assert repr(saved.frames) == repr(found.frames)
    assert "labels" not in vars(written)  # one frame at a time, not all of them


def test_labels_of_grid_points_are_as_far_apart_as_the_stride(movie):
    images = [scene.image for scene in movie]
    full, points = (gpuseg.segment_series(images, 2, upsampling=up, **OPTIONS) for up in (True, False))
    wanted, found = measure.series(full), measure.series(points)
    assert found.speed == pytest.approx(wanted.speed, rel=0.03)
    np.testing.assert_allclose(
        found.frames["boundary_length_px"], wanted.frames["boundary_length_px"], rtol=0.06
    )


def test_memory_does_not_grow_with_the_series():
    def peak(n_frames):
        tracemalloc.start()
        measure.series(
            synthetic.label_halves((200, 200), angle=90, offset=k / n_frames) for k in range(n_frames)
        )
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(2)
    assert peak(40) < peak(5) + 100_000  # one frame: 160 kB


@pytest.mark.parametrize(("source", "options", "error", "message"), [
    (3, {}, TypeError, "`segmentation` is int; a SeriesSegmentation"),
    ("out/", {}, TypeError, "`segmentation` is str"),
    (np.zeros((4, 4), int), {}, ValueError, "`segmentation` has shape (4, 4); labels (T, H, W) are needed"),
    (np.zeros((2, 4, 4)), {}, TypeError, "`frame 0` is ndarray of float64"),
    ([np.zeros((4, 4), int), np.zeros((4, 5), int)], {}, ValueError, "frame 1 has shape (4, 5); that of the others, (4, 4)"),
    (None, {"frame_time": 0}, ValueError, "`frame_time` is 0"),
    (None, {"frame_time": "1 s"}, TypeError, "`frame_time` is '1 s'"),
    (None, {"time_unit": "1/s"}, ValueError, "`time_unit` is '1/s'; a name such as 's'"),
    (None, {"time_unit": 2}, ValueError, "`time_unit` is 2"),
    (None, {"patterns": (1, 1)}, ValueError, "`patterns` is (1, 1); two different patterns"),
    (None, {"patterns": 1}, ValueError, "`patterns` is 1; two different patterns"),
    (None, {"patterns": (0, 1, 2)}, ValueError, "`patterns` is (0, 1, 2)"),
    (None, {"patterns": (0, "b")}, TypeError, "`patterns` is 'b'"),
    (None, {"patterns": (0, -1)}, ValueError, "`patterns` is -1"),
    (None, {"angle": "steep"}, TypeError, "`angle` is 'steep'; degrees"),
    (None, {"angle": math.inf}, ValueError, "`angle` is inf"),
])  # fmt: skip
def test_bad_series(source, options, error, message):
    source = np.zeros((2, 4, 4), int) if source is None else source
    with pytest.raises(error, match=re.escape(message)):
        measure.series(source, **options)


# ---- defects


def matched(table, truth, within=14):
    """How many of the true defects are found, and how many found are none."""
    found = np.stack([table["centroid_row_px"], table["centroid_col_px"]], 1)
    if not len(found):
        return 0, 0
    distance = np.linalg.norm(found[:, None] - truth[None], axis=2)
    return int((distance.min(0) < within).sum()), int((distance.min(1) >= within).sum())


@pytest.mark.parametrize(("counts", "by"), [(20, "auto"), (5, "likeness"), (20, "certainty")])
def test_vacancies_of_a_bicrystal_are_found_and_nothing_else(counts, by):
    scene = synthetic.bicrystal(counts=counts, vacancies=VACANCIES, random_state=0)
    result = gpuseg.segment(scene.image, 2, random_state=0, device="cpu")
    table = measure.defects(result, by=by, pixel_size=0.1)
    assert ("mean_likeness" in table.columns) == (by != "certainty")
    assert matched(table, scene.vacancies) == (len(VACANCIES), 0)
    sides = [
        result.labels[int(row), int(col)]
        for row, col in zip(table["centroid_row_px"], table["centroid_col_px"], strict=True)
    ]
    assert table["pattern"].tolist() == sides
    assert (table["min_certainty"] <= table["mean_certainty"]).all()
    assert (table["distance_to_boundary_px"] > 5).all()
    np.testing.assert_allclose(table["area_nm2"], table["area_px"] * 0.01)
    assert table["defect"].tolist() == list(range(1, len(table) + 1))
    none = measure.defects(result, min_size=10**6, by=by)
    assert len(none) == 0
    assert list(none.columns) == [name for name in table.columns if not name.endswith(("_nm", "_nm2"))]


def test_a_perfect_bicrystal_has_no_defects():
    scene = synthetic.bicrystal(counts=20, random_state=0)
    assert len(measure.defects(gpuseg.segment(scene.image, 2, random_state=0, device="cpu"))) == 0


def test_vacancies_move_no_certainty_in_a_small_image_but_likeness():
    """Why there are two ways: five components of 256 x 256 pixels know nothing of two vacancies."""
    scene = synthetic.bicrystal((256, 256), vacancies=[(100, 60), (160, 200)], random_state=10)
    result = gpuseg.segment(scene.image, 2, random_state=0, device="cpu")
    assert matched(measure.defects(result), scene.vacancies) == (2, 0)
    assert matched(measure.defects(result, by="certainty"), scene.vacancies) == (0, 0)


@pytest.mark.parametrize(("vacancies", "wanted"), [([(100, 100), (200, 220), (90, 210)], 3), (None, 0)])
def test_defects_of_a_single_crystal(vacancies, wanted):
    crystal = [synthetic.hexagonal(14).rotated(10)]
    labels = np.zeros((300, 300), np.int32)
    scene = synthetic.image_of_grains(labels, crystal, counts=20, vacancies=vacancies, random_state=1)
    result = gpuseg.segment(scene.image, 1, random_state=0, device="cpu")
    table = measure.defects(result)
    assert matched(table, scene.vacancies) == (wanted, 0)
    assert len(table) == wanted
    assert np.isinf(table["distance_to_boundary_px"]).all()
    if wanted:
        assert (table["mean_certainty"] == 1).all()
        lowest = table["mean_likeness"].max()
        assert len(measure.defects(result, lowest + 0.05)) == wanted  # not by certainty: all is certain
    with pytest.raises(ValueError, match="has one pattern, of which every label is certain"):
        measure.defects(SimpleNamespace(labels=result.labels, certainty=result.certainty))


def spot_map(center, radius=8, certainty=0.3):
    """Two halves, low certainty along the boundary, and one spot."""
    labels = np.zeros((200, 300), np.int32)
    labels[:, 150:] = 1
    sure = np.full(labels.shape, 0.9, np.float32)
    sure[:, 135:165] = 0.2
    sure[disc(radius, center, labels.shape) == 1] = certainty
    return SimpleNamespace(labels=labels, certainty=sure, n_patterns=2)


def test_where_a_spot_counts_as_a_defect():
    inside = spot_map((100, 60))
    (row,) = measure.defects(inside, 0.5).records()
    assert (row["pattern"], row["area_px"]) == (0, disc(8, (100, 60), (200, 300)).sum())
    assert (row["centroid_row_px"], row["centroid_col_px"]) == pytest.approx((100, 60), abs=0.2)
    assert row["mean_certainty"] == pytest.approx(0.3)
    assert row["distance_to_boundary_px"] == pytest.approx(149 - 60 - 8, abs=1)
    assert len(measure.defects(inside)) == 1  # a threshold of its own
    assert len(measure.defects(inside, 0.25)) == 0  # the spot is more certain than that
    assert len(measure.defects(inside, 0.5, min_size=500)) == 0
    assert len(measure.defects(spot_map((100, 130)), 0.5)) == 0  # one with the boundary
    wide = spot_map((100, 60))
    wide.certainty[:, 80:220] = 0.2  # far into the grains, and still the boundary's
    assert len(measure.defects(wide, 0.5)) == 1
    assert len(measure.defects(spot_map((100, 115)), 0.5)) == 1
    assert len(measure.defects(spot_map((100, 115)), 0.5, distance=40)) == 0  # too near for such patches
    assert len(measure.defects(spot_map((3, 60)), 0.5)) == 0  # at the border patches are not whole
    masked = spot_map((100, 60))
    masked.labels[80:120, 40:80] = -1
    assert len(measure.defects(masked, 0.5)) == 0


def test_a_small_island_of_another_pattern_is_a_defect_of_what_surrounds_it():
    found = spot_map((100, 60))
    island = disc(5, (100, 230), found.labels.shape) == 1
    found.labels[island] = 0
    table = measure.defects(found, 0.5)
    assert table["pattern"].tolist() == [0, 1]
    assert table["area_px"][1] == island.sum()
    large = spot_map((100, 60))
    large.labels[disc(30, (100, 230), large.labels.shape) == 1] = 0  # a region of its own
    assert table["pattern"][0] == 0
    assert len(measure.defects(large, 0.5)) == 1


@pytest.mark.parametrize(("source", "options", "error", "message"), [
    (np.zeros((9, 9), int), {}, TypeError, "`segmentation` is ndarray; a Segmentation, or another object"),
    (SimpleNamespace(labels=np.zeros((9, 9), int), certainty=np.zeros((8, 9)), n_patterns=2), {}, ValueError,
     "`certainty` has shape (8, 9); that of the labels, (9, 9)"),
    (None, {"threshold": 0}, ValueError, "`threshold` is 0; a certainty between 0 and 1"),
    (None, {"threshold": 1.5}, ValueError, "`threshold` is 1.5"),
    (None, {"threshold": "low"}, TypeError, "`threshold` is 'low'"),
    (None, {"min_size": 0}, ValueError, "`min_size` is 0"),
    (None, {"min_size": "big"}, TypeError, "`min_size` is 'big'"),
    (None, {"by": "eye"}, ValueError, "`by` is 'eye'; one of 'auto', 'certainty', 'likeness' is needed"),
    (None, {"by": "likeness"}, ValueError, "`by` is 'likeness', but `segmentation` is SimpleNamespace without descriptors"),
    (None, {"distance": -1}, ValueError, "`distance` is -1"),
    (None, {"distance": "far"}, TypeError, "`distance` is 'far'"),
    (None, {"stride": 0}, ValueError, "`stride` is 0"),
    (None, {"unit": "nm"}, ValueError, "`unit` is 'nm', but"),
])  # fmt: skip
def test_bad_input_of_defects(source, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        measure.defects(spot_map((100, 60)) if source is None else source, **options)


def test_defects_of_nothing():
    nothing = SimpleNamespace(labels=np.full((50, 50), -1), certainty=np.zeros((50, 50)), n_patterns=2)
    assert len(measure.defects(nothing)) == 0


# ---- other channels


class Lazy:
    """Like an array of h5py: read by slices, never as a whole."""

    def __init__(self, array):
        self._array, self.shape, self.dtype = array, array.shape, array.dtype
        self.parts = []

    def __getitem__(self, key):
        self.parts.append(self._array[key].nbytes)
        return self._array[key]


@pytest.fixture
def scan():
    random = np.random.default_rng(0)
    labels = synthetic.label_voronoi((12, 17), n_grains=3, random_state=0)
    labels[3, 2:9] = -1
    return labels, random.integers(0, 4000, (12, 17, 5, 4)).astype(np.uint16)


@pytest.mark.parametrize("max_memory", [1, 700, "10KB", "1GB"])
@pytest.mark.parametrize("how", ["sum", "mean"])
def test_any_cut_gives_the_same_sums(scan, how, max_memory):
    labels, data = scan
    wanted = np.stack([getattr(data[labels == k].astype(float), how)(axis=0) for k in range(3)])
    lazy = Lazy(data)
    np.testing.assert_allclose(
        measure.accumulate(labels, lazy, how, max_memory=max_memory), wanted, rtol=1e-12
    )
    assert sum(lazy.parts) == data.nbytes
    if isinstance(max_memory, int):
        assert max(lazy.parts) <= max(max_memory, data[0, 0].nbytes)


def test_spectra_pictures_and_complex_numbers(scan):
    labels, data = scan
    spectra, picture = data[..., 0], data[..., 0, 0]
    np.testing.assert_array_equal(
        measure.accumulate(labels, spectra), [spectra[labels == k].sum(0) for k in range(3)]
    )
    np.testing.assert_array_equal(
        measure.accumulate(labels, picture), [picture[labels == k].sum() for k in range(3)]
    )
    np.testing.assert_array_equal(
        measure.accumulate(labels, picture.tolist()), measure.accumulate(labels, picture)
    )
    waves = picture * (1 + 2j)
    assert measure.accumulate(labels, waves, "mean").dtype == np.complex128
    np.testing.assert_allclose(
        measure.accumulate(labels, waves), measure.accumulate(labels, picture) * (1 + 2j)
    )


def test_sums_are_exact_where_the_data_are_coarse():
    labels, data = np.zeros((40, 50), np.int32), np.ones((40, 50, 2), np.float32)
    data[0, 0] = 2**24  # one more is lost in float32
    np.testing.assert_array_equal(measure.accumulate(labels, data), [[2**24 + 1999] * 2])
    counts = np.full((40, 50), 65535, np.uint16)
    np.testing.assert_array_equal(measure.accumulate(labels, counts), [65535 * 2000])
    np.testing.assert_array_equal(measure.accumulate(labels, counts > 0), [2000])


def test_regions_and_empty_patterns(scan):
    labels, data = scan
    names = measure.label_regions(labels)
    found = measure.accumulate(labels, data, "mean", "region")
    wanted = [data[names == k].mean(0) for k in range(1, names.max() + 1)]
    np.testing.assert_allclose(found, wanted)
    assert (
        len(measure.accumulate(labels, data, by="region", min_size=30))
        == (measure.regions(labels)["area_px"] >= 30).sum()
    )
    labels = np.where(labels == 1, 0, labels)
    assert np.isnan(measure.accumulate(labels, data, "mean")[1]).all()
    assert not measure.accumulate(labels, data)[1].any()
    more = SimpleNamespace(labels=labels, n_patterns=5)
    assert measure.accumulate(more, data).shape == (5, 5, 4)
    nothing = np.full(labels.shape, -1)
    assert measure.accumulate(nothing, data).shape == (0, 5, 4)


def test_nan_stays_in_its_pattern(scan):
    labels, data = scan
    data = data.astype(np.float32)
    data[labels < 0] = np.nan
    place = tuple(np.argwhere(labels == 2)[0])
    data[(*place, 0, 0)] = np.nan
    found = measure.accumulate(labels, data)
    assert np.argwhere(np.isnan(found)).tolist() == [[2, 0, 0]]


def test_memory_of_sums_is_bounded(tmp_path):
    labels = np.zeros((64, 64), np.int32)
    labels[:, 32:] = 1
    data = np.memmap(tmp_path / "scan.raw", np.uint8, "w+", shape=(64, 64, 64, 64))
    data[:, 32:] = 3
    tracemalloc.start()
    found = measure.accumulate(labels, data, max_memory="1MB")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found[0] == 0).all()
    assert (found[1] == 3 * 64 * 32).all()
    assert peak < 1.5 * 2**20


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"how": "max"}, ValueError, "`how` is 'max'; one of 'sum', 'mean' is needed"),
    ({"by": "grain"}, ValueError, "`by` is 'grain'; one of 'pattern', 'region'"),
    ({"max_memory": "a lot"}, ValueError, "`max_memory` is 'a lot'; bytes or a text such as '128MB'"),
    ({"max_memory": "-1GB"}, ValueError, "`max_memory` is '-1GB'"),
    ({"max_memory": 0}, ValueError, "`max_memory` is 0"),
    ({"max_memory": 1.5}, TypeError, "`max_memory` is 1.5"),
    ({"data": np.zeros((17, 12))}, ValueError, "`data` has shape (17, 12); (12, 17) as the labels, then any, is needed"),
    ({"data": np.zeros(12)}, ValueError, "`data` has shape (12,)"),
    ({"data": np.full((12, 17), "a")}, TypeError, "`data` has dtype <U1; numbers are needed"),
    ({"by": "region", "connectivity": 5}, ValueError, "`connectivity` is 5"),
    ({"by": "region", "min_size": 0}, ValueError, "`min_size` is 0"),
])  # fmt: skip
def test_bad_input_of_accumulate(scan, options, error, message):
    labels, data = scan
    with pytest.raises(error, match=re.escape(message)):
        measure.accumulate(**{"segmentation": labels, "data": data, **options})
