"""The command `gpuseg measure`: what it writes and says, exit codes, units, files that are no labels."""

import csv
import json
import shutil

import numpy as np
import pytest
import tifffile

import gpuseg
from gpuseg import io, measure, synthetic
from gpuseg.cli import main
from tests import test_cli
from tests.test_cli import names, said

pytest.importorskip("skimage", reason="pip install 'gpuseg[measure]'")

OPTIONS = ["--patch-radius", "8", "--window-radius", "8", "--max-num-points", "60", "--random-state", "0",
           "--device", "cpu", "-q"]  # fmt: skip


def refused(capsys, arguments):
    """The one line of a command that ends with exit code 2."""
    said(capsys)
    assert main(arguments) == 2
    return test_cli.refused(capsys)


def write_tiff(path, frames):
    axes = {"axes": "TYX"} if frames.ndim == 3 else {}
    tifffile.imwrite(path, frames, imagej=True, resolution=(50, 50), metadata={**axes, "unit": "nm"})


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What gpuseg segment and gpuseg series wrote."""
    folder = tmp_path_factory.mktemp("results")
    write_tiff(folder / "a.tif", synthetic.bicrystal((120, 130), period=9, random_state=0).image)
    movie = synthetic.boundary_movie((70, 80), 6, period=9, misorientation=20, speed=4, random_state=1)
    frames = np.stack([scene.image for scene in movie])
    frames[2] = 1
    write_tiff(folder / "m.tif", frames)
    assert main(["segment", str(folder / "a.tif"), "-o", str(folder / "a"), *OPTIONS]) == 0
    assert main(["segment", str(folder / "a.tif"), "-o", str(folder / "p"), "--no-upsampling", *OPTIONS]) == 0
    assert main(["segment", str(folder / "a.tif"), "-o", str(folder / "one"), "-n", "1", *OPTIONS]) == 0
    assert main(["series", str(folder / "m.tif"), "-o", str(folder / "m"), *OPTIONS]) == 0
    return folder


@pytest.fixture
def here(results, tmp_path, monkeypatch):
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def written(table):
    return [{name: str(value) for name, value in row.items()} for row in table]


def test_an_image_is_measured_as_in_the_library(here, capsys):
    assert main(["measure", "a"]) == 0
    out, err = said(capsys)
    assert "a: 2 regions, 1 boundaries, 0 defects" in out
    assert "written to a/: regions.csv, boundaries.csv, defects.csv" in out
    assert err == ""
    labels = tifffile.imread("a/labels.tif").astype(int) - 1
    scale = {"pixel_size": io.read_image("a/labels.tif").pixel_size, "unit": "nm", "stride": 5}
    assert rows("a/regions.csv") == written(measure.regions(labels, **scale))
    assert rows("a/boundaries.csv") == written(measure.boundaries(labels, **scale))
    assert float(rows("a/boundaries.csv")[0]["length_nm"]) == pytest.approx(
        0.02 * 120 / np.sin(np.radians(75)), rel=0.1
    )
    assert rows("a/defects.csv") == []
    assert (here / "a" / "defects.csv").read_text().startswith("defect,pattern,mean_certainty")


def test_a_threshold_and_a_least_size(here):
    assert main(["measure", "a", "--threshold", "0.9999", "--min-size", "10000000", "-o", "t", "-q"]) == 0
    assert rows("t/regions.csv") == []
    sure = tifffile.imread("a/certainty.tif")
    assert main(["measure", "a", "--threshold", "0.5", "-o", "u", "-q"]) == 0
    assert (sure < 0.5).any()  # along the boundary
    assert rows("u/defects.csv") == []


def test_with_its_image_defects_are_found_by_likeness(here, capsys):
    places = [(60, 50), (150, 170)]
    scene = synthetic.bicrystal((220, 220), period=10, vacancies=places, random_state=3)
    write_tiff("v.tif", scene.image)
    assert main(["segment", "v.tif", "-o", "v", *OPTIONS, "--patch-radius", "15"]) == 0
    assert main(["measure", "v", "--image", "v.tif", "-q"]) == 0
    found = [(float(row["centroid_row_px"]), float(row["centroid_col_px"])) for row in rows("v/defects.csv")]
    assert len(found) == 2
    np.testing.assert_allclose(found, sorted(map(tuple, scene.vacancies)), atol=10)
    assert "mean_likeness" in rows("v/defects.csv")[0]
    assert main(["measure", "one", "--image", "a.tif", "-q"]) == 0
    assert (here / "one" / "defects.csv").exists()
    assert main(["measure", "p", "--image", "a.tif", "-q"]) == 0
    binned = refused(capsys, ["measure", "v", "--image", "v.tif", "--bin", "2", "-o", "w"])
    assert "`image` of shape (110, 110) is not what the labels (220, 220) are of" in binned
    assert "is not what the labels" in refused(capsys, ["measure", "v", "--image", "a.tif", "-o", "w"])
    io.write_labels("x.tif", np.zeros((9, 9), int))
    assert "`image` goes with a folder" in refused(capsys, ["measure", "x.tif", "--image", "a.tif"])


def test_grid_points_and_one_pattern(here, capsys):
    assert main(["measure", "p"]) == 0
    assert main(["measure", "a"]) == 0
    points, full = (float(rows(f"{name}/boundaries.csv")[0]["length_nm"]) for name in "pa")
    assert points == pytest.approx(full, rel=0.06)
    labels = tifffile.imread("p/labels.tif").astype(int) - 1
    assert rows("p/boundaries.csv") == written(measure.boundaries(labels, pixel_size=0.1, unit="nm"))
    assert main(["measure", "one"]) == 0
    assert names(here / "one") == sorted([*io.RESULT_FILES, "regions.csv", "boundaries.csv"])
    assert "one: 1 regions, 0 boundaries" in said(capsys)[0]


def test_a_series_is_measured_as_in_the_library(here, capsys):
    assert main(["measure", "m", "--frame-time", "0.5"]) == 0
    out, _ = said(capsys)
    assert "m: 6 frames" in out
    assert "speed_nm_per_s" in out
    descriptor = gpuseg.LocalCorrelationMap(8, 8, 60)
    frames = tifffile.imread("m.tif")
    result = gpuseg.segment_series(frames, 2, descriptor=descriptor, random_state=0, device="cpu")
    wanted = measure.series(result, frame_time=0.5, pixel_size=0.02)
    found = rows("m/motion.csv")
    assert [row["flag"][:5] for row in found] == ["", "", "dead:", "", "", ""]
    assert found[2]["boundary_position_nm"] == "nan"
    np.testing.assert_allclose(
        [float(row["boundary_position_nm"]) for row in found],
        wanted.frames["boundary_position_nm"],
        rtol=1e-4,
    )
    (speed,) = rows("m/speed.csv")
    assert float(speed["speed_nm_per_s"]) == pytest.approx(wanted.speed, rel=1e-4)
    assert abs(wanted.speed) == pytest.approx(4 * 0.02 / 0.5, rel=0.15)
    assert int(speed["frames_used"]) == 5
    assert main(["measure", "m/labels.tif", "--frame-time", "0.5", "-o", "again", "-q"]) == 0
    assert rows("again/motion.csv") == found


def test_a_series_of_one_pattern_has_no_boundary(here, capsys):
    assert main(["series", "m.tif", "-n", "1", "-o", "alone", *OPTIONS]) == 0
    said(capsys)
    assert main(["measure", "alone"]) == 0
    out, err = said(capsys)
    assert "6 frames\nno boundary in any frame" in out
    assert "nan" not in out + err
    assert {"motion.csv", "speed.csv"} <= set(names(here / "alone"))


def test_labels_of_other_programs(here):
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 5:30], labels[:, 30:] = 1, 2
    io.write_labels("x.tif", labels.astype(int) - 1, 0.1, "nm")
    np.save("y.npy", labels)
    assert main(["measure", "x.tif", "-q"]) == 0
    assert [float(row["area_nm2"]) for row in rows("x-measure/regions.csv")] == pytest.approx([10, 12])
    assert main(["measure", "y.npy", "--pixel-size", "2", "--unit", "um", "-q"]) == 0
    assert [float(row["area_um2"]) for row in rows("y-measure/regions.csv")] == pytest.approx([4000, 4800])
    assert names(here / "y-measure") == ["boundaries.csv", "regions.csv"]
    later = labels.copy()
    later[:, 30:32] = 1
    np.save("z.npy", np.stack([labels, later]))
    assert main(["measure", "z.npy", "--angle", "90", "-q"]) == 0
    assert float(rows("z-measure/speed.csv")[0]["speed_px_per_frame"]) == pytest.approx(2)
    assert "time_s" not in rows("z-measure/motion.csv")[0]


def test_nothing_is_replaced_without_force(here, capsys):
    for name, files in (("a", "regions.csv, boundaries.csv, defects.csv"), ("m", "motion.csv, speed.csv")):
        assert main(["measure", name, "-q"]) == 0
        before = {each: (here / name / each).read_bytes() for each in names(here / name)}
        assert f"'{name}' already holds {files}; use force (--force)" in refused(capsys, ["measure", name])
        assert {each: (here / name / each).read_bytes() for each in names(here / name)} == before
        assert main(["measure", name, "--force", "--pixel-size", "3", "-q"]) == 0
        assert names(here / name) == sorted(before)
    assert float(rows("a/regions.csv")[0]["area_nm2"]) == 9 * float(rows("a/regions.csv")[0]["area_px"])


def bad_files():
    return {
        "nothing.tif": None,
        "empty.tif": b"",
        "broken.tif": b"II*\0 and then no TIFF",
        "float.npy": np.zeros((9, 9)),
        "negative.npy": np.full((9, 9), -1),
        "large.npy": np.full((9, 9), 70000),
        "picture.npy": np.random.default_rng(0).integers(0, 255, (30, 30)).astype(np.uint8),
        "pictures.npy": np.random.default_rng(0).integers(0, 255, (3, 30, 30)).astype(np.uint8),
    }


@pytest.mark.parametrize(("name", "message"), [
    ("nothing.tif", "'nothing.tif' does not exist; a folder written by"),
    ("empty.tif", "'empty.tif' is empty"),
    ("broken.tif", "'broken.tif' could not be read"),
    ("float.npy", "'float.npy' holds float64; whole numbers, 0 = masked, k + 1 = pattern k, are wanted"),
    ("negative.npy", "'negative.npy' runs from -1 to -1; whole numbers"),
    ("large.npy", "'large.npy' runs from 70000 to 70000"),
    ("picture.npy", "of neighbouring pixels differ: a picture, not labels"),
    ("pictures.npy", "of neighbouring pixels differ in frame 0: a picture, not labels"),
])  # fmt: skip
def test_bad_files(tmp_path, monkeypatch, capsys, name, message):
    monkeypatch.chdir(tmp_path)
    content = bad_files()[name]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        np.save(name, content)
    before = names(tmp_path)
    assert message in refused(capsys, ["measure", name])
    assert names(tmp_path) == before


def test_bad_folders(here, capsys):
    (here / "bare").mkdir()
    assert "'bare' holds no labels.tif" in refused(capsys, ["measure", "bare"])
    summary = json.loads((here / "a" / "summary.json").read_text())
    del summary["parameters"]
    (here / "a" / "summary.json").write_text(json.dumps(summary))
    assert "'a' is no complete result of gpuseg ('parameters')" in refused(capsys, ["measure", "a"])
    (here / "a" / "summary.json").write_text("{")
    assert "'a' is no complete result of gpuseg" in refused(capsys, ["measure", "a"])
    (here / "a" / "summary.json").unlink()  # the labels speak for themselves
    assert main(["measure", "a", "-q"]) == 0
    assert not (here / "a" / "defects.csv").exists()
    lines = (here / "m" / "frames.csv").read_text().splitlines()
    (here / "m" / "frames.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert "frames.csv has 5 rows for 6 frames" in refused(capsys, ["measure", "m"])
    shutil.copy("p/certainty.tif", "one/certainty.tif")
    assert "'one': labels.tif is (120, 130), certainty.tif (24, 26)" in refused(capsys, ["measure", "one"])


@pytest.mark.parametrize(("options", "message"), [
    (["a", "--pixel-size", "-1"], "`pixel_size` is -1.0; a positive number is needed"),
    (["a", "--pixel-size", "1", "--unit", "1/nm"], "`unit` is '1/nm'"),
    (["a", "--min-size", "0"], "`min_size` is 0"),
    (["a", "--threshold", "2"], "`threshold` is 2.0"),
    (["m", "--frame-time", "0"], "`frame_time` is 0.0"),
    (["m", "--time-unit", "1/s"], "`time_unit` is '1/s'"),
    (["m", "--image", "m.tif"], "--image goes with the result of a single image"),
    (["a", "--image", "nowhere.tif"], "'nowhere.tif' does not exist"),
    (["m", "--angle", "nan"], "`angle` is nan"),
    (["a", "--pixel-size", "big"], "'big' is not a valid float"),
    (["a", "-o", "a.tif"], "'a.tif' is a file; a folder for the results is wanted"),
])  # fmt: skip
def test_bad_options(here, capsys, options, message):
    before = {each: names(here / each) for each in ("a", "m")}
    assert message in refused(capsys, ["measure", *options])
    assert {each: names(here / each) for each in ("a", "m")} == before
