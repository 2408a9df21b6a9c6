"""The number of patterns that "auto" finds, and the evidence for it, on scenes whose number is known."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import gpuseg
from gpuseg import evidence, plot, synthetic
from gpuseg.cli import main

matplotlib.use("Agg")
SHARED = Path(__file__).resolve().parents[2] / "shared"
HERE = {"device": "cpu", "random_state": 0}
SIZES = {"descriptor": gpuseg.LocalCorrelationMap("auto", "auto"), "stride": "auto"}


def crystal(phase):
    def make(counts, random_state):
        labels = np.zeros((300, 300), np.int32)
        return synthetic.image_of_grains(labels, [phase], counts=counts, random_state=random_state)

    return make


SCENES = {
    "hexagonal": (1, crystal(synthetic.hexagonal(12))),
    "honeycomb": (1, crystal(synthetic.honeycomb(14))),
    "perovskite": (1, crystal(synthetic.perovskite(16))),
    "amorphous": (1, crystal(synthetic.Amorphous(12))),
    "bicrystal": (2, lambda **o: synthetic.bicrystal((300, 300), period=10, **o)),
    "twins": (2, lambda **o: synthetic.twin_bands((400, 400), period=9, **o)),
    "three": (3, lambda **o: synthetic.three_phases((400, 400), period=10, **o)),
    "inclusion": (3, lambda **o: synthetic.amorphous_inclusion((400, 400), period=10, **o)),
    "four grains": (4, lambda **o: synthetic.polycrystal((400, 400), n_grains=4, period=9, **o)),
}


@pytest.mark.parametrize("sizes", [{}, SIZES], ids=["default sizes", "auto sizes"])
@pytest.mark.parametrize("counts", [1, 10])
@pytest.mark.parametrize("scene", SCENES)
def test_number_of_patterns(scene, counts, sizes):
    wanted, make = SCENES[scene]
    result = gpuseg.segment(make(counts=counts, random_state=2).image, "auto", **sizes, **HERE)
    assert result.n_patterns == wanted, result.evidence


def test_the_evidence_is_kept_with_the_result(tmp_path, caplog):
    image = synthetic.bicrystal((256, 256), random_state=0).image
    with caplog.at_level(logging.INFO, "gpuseg"):
        result = gpuseg.segment(image, n_patterns="auto", **HERE)
    found = result.evidence
    assert found.candidates == tuple(range(2, 9))
    assert found.n_patterns == result.n_patterns == len(result.cluster_centers) == 2
    assert len(found.valley) == len(found.region) == 7
    assert all(0 <= value <= 1 for value in (*found.valley, *found.region))
    assert found.valley[0] > 0.9
    assert found.reason in caplog.text
    assert "2 patterns" in found.reason
    assert result.parameters["n_patterns"] == 2
    assert result.parameters["evidence"]["valley"] == found.valley
    assert "number of patterns" in result.timings
    result.save(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["parameters"]["evidence"]["n_patterns"] == 2
    assert result.model.predict(image, device="cpu").evidence is None
    assert gpuseg.segment(image, 2, **HERE).evidence is None


def test_auto_gives_what_its_number_gives_and_the_same_again():
    image = synthetic.amorphous_inclusion((300, 300), period=10, random_state=0).image
    auto, again = (gpuseg.segment(image, "auto", **HERE) for _ in range(2))
    assert auto.evidence == again.evidence
    given = gpuseg.segment(image, auto.n_patterns, **HERE)
    np.testing.assert_array_equal(auto.labels, given.labels)
    np.testing.assert_array_equal(auto.labels, again.labels)


def test_masked_pixels_are_no_pattern():
    image = synthetic.bicrystal((300, 300), random_state=0).image.copy()
    image[:, :100] = np.nan
    mask = np.ones(image.shape, bool)
    mask[200:, :] = False
    assert gpuseg.segment(image, "auto", mask=mask, **HERE).n_patterns == 2


def test_segmenter_and_series_find_the_number(tmp_path):
    movie = synthetic.boundary_movie((200, 200), n_frames=3, random_state=0)
    frames = [scene.image for scene in movie]
    assert gpuseg.Segmenter("auto", **HERE).fit(frames[0]).segmentation_.n_patterns == 2
    series = gpuseg.segment_series(frames, "auto", fit_frames=2, out=tmp_path / "out", **HERE)
    assert series.n_patterns == 2
    again = gpuseg.segment_series(frames, "auto", fit_frames=2, **HERE)
    np.testing.assert_array_equal(series.labels, again.labels)


def test_several_images_are_judged_together():
    """Each frame is one crystal; together they are two."""
    one, other = (
        crystal(synthetic.hexagonal(12).rotated(angle))(counts=5, random_state=0).image for angle in (5, 25)
    )
    assert gpuseg.segment_series([one, other], "auto", fit_frames=1, **HERE).n_patterns == 1
    assert gpuseg.segment_series([one, other], "auto", fit_frames=2, **HERE).n_patterns == 2


def test_any_descriptor_will_do():
    image = synthetic.three_phases((300, 300), period=10, random_state=0).image
    for descriptor in ("power-spectrum", ["local-correlation-map", "power-spectrum"]):
        assert gpuseg.segment(image, "auto", descriptor=descriptor, **HERE).n_patterns == 3
    image = synthetic.bicrystal((256, 256), period=10, random_state=0).image
    around = {"radius": "auto", "pooling_radius": "auto"}
    for descriptor in (gpuseg.ReflectionSymmetry(**around), gpuseg.GlideReflectionSymmetry(**around)):
        assert gpuseg.segment(image, "auto", descriptor=descriptor, stride="auto", **HERE).n_patterns == 2


def blobs(places, n=600, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.standard_normal((n, 2)) + place for place in places]).astype(np.float32)


@pytest.mark.parametrize(
    ("distance", "low", "high"), [(0, 0, 0.15), (1, 0, 0.2), (4, 0.55, 0.85), (10, 0.99, 1)]
)
def test_a_valley_deepens_with_the_distance(distance, low, high):
    samples = blobs([(0, 0), (distance, 0)])
    labels = (np.arange(1200) >= 600).astype(int)
    assert low <= evidence._smallest_valley(samples, labels, 2) <= high


def test_halves_of_one_cloud_have_no_valley_however_long_it_is():
    samples = blobs([(0, 0), (0, 0)]) * np.float32([20, 1])
    assert evidence._smallest_valley(samples, (samples[:, 0] > 0).astype(int), 2) < 0.15
    level = np.random.default_rng(0).random((2000, 2)) * [10, 1]
    assert evidence._smallest_valley(level, (level[:, 0] > 5).astype(int), 2) < 0.45


def test_degenerate_clusters():
    two = np.repeat(np.float32([[0, 0], [1, 0]]), 50, axis=0)
    labels = np.arange(100) // 50
    assert evidence._smallest_valley(two, labels, 2) == 1
    assert evidence._smallest_valley(np.zeros((100, 2)), labels, 2) == 0
    assert evidence._smallest_valley(two[:60], labels[:60], 2) == 0  # ten samples tell nothing
    assert evidence._smallest_valley(blobs([(0, 0)])[:, :1], np.arange(600) % 2, 2) < 0.15


def test_a_cluster_may_be_a_point():
    labels = np.arange(1200) // 600
    for width in (0, 1e-6):
        point = np.float32([width, width]) * blobs([(0, 0)])
        for distance, low, high in ((0.2, 0, 0.15), (10, 0.99, 1)):
            other = blobs([(distance, distance)], seed=1)
            assert low <= evidence._smallest_valley(np.concatenate([point, other]), labels, 2) <= high
    across = np.repeat(np.float32([[0, 0], [1, 0]]), 600, axis=0)
    across[:, 1] = np.tile(np.float32([-1, 1]), 600)  # each is a point along the line between them
    assert evidence._smallest_valley(across, labels, 2) == 1


def test_vacuum_without_noise_is_a_pattern(tmp_path):
    row, col = np.mgrid[:200, :200]
    image = np.where(col < 100, np.cos(2 * np.pi * row / 10) + np.cos(2 * np.pi * col / 10), 0)
    result = gpuseg.segment(image, "auto", **HERE)
    assert result.n_patterns == 2
    assert np.isfinite(result.evidence.valley).all()


def test_a_seam_fills_no_region():
    labels = np.zeros((60, 60), int)
    labels[:, 30:] = 1
    grid = gpuseg.Grid.full((300, 300), 5)
    inner = [
        each.sum() / (labels == k).sum() for k, each in enumerate(evidence._surrounded(labels, grid, 2, 40))
    ]
    assert min(inner) > 0.85
    labels[:, 29:32] = 2
    seam = list(evidence._surrounded(labels, grid, 3, 40))[2]
    assert not seam.any()


@pytest.mark.parametrize(
    ("descriptor", "reach"),
    [
        (gpuseg.LocalCorrelationMap(8, 12), 20),
        (gpuseg.LocalCorrelationMap((8, 4), 12), 18),
        (gpuseg.PowerSpectrum(9), 9),
        (gpuseg.RotationalSymmetry(9, pooling_radius=4), 13),
        (gpuseg.PreselectedTranslations([(0, 7), (3, 0)], 10), 15),
        (gpuseg.Fusion((gpuseg.PowerSpectrum(9), gpuseg.LocalCorrelationMap(8, 12))), 20),
        (gpuseg.RotationalSymmetry(9, pooling_radius=4, n_max=2).keeping([1, 2]), 13),
    ],
)
def test_reach_of_a_descriptor(descriptor, reach):
    assert evidence.reach_of(descriptor) == reach


def test_few_grid_points_are_one_pattern():
    image = synthetic.bicrystal((60, 60), random_state=0).image
    result = gpuseg.segment(image, "auto", stride=15, **HERE)
    assert result.n_patterns == 1
    assert result.evidence.candidates == ()
    assert "1 pattern" in result.evidence.reason


@pytest.mark.parametrize("side", [80, 128, 200])
@pytest.mark.parametrize("seed", range(3))
def test_noise_is_one_pattern_in_small_images_too(side, seed):
    noise = np.random.default_rng(seed).standard_normal((side, side))
    assert gpuseg.segment(noise, "auto", **HERE).n_patterns == 1


@pytest.mark.parametrize("word", ["atuo", "AUTO", "", "2"])
def test_misspelt_words_are_refused(word):
    image = synthetic.bicrystal((64, 64), random_state=0).image
    wanted = f"`n_patterns` is {word!r}; a whole number of at least 1 or 'auto' is needed"
    for call in (gpuseg.segment, lambda im, n, **o: gpuseg.segment_series([im], n, **o)):
        with pytest.raises(TypeError, match=wanted):
            call(image, word, **HERE)


def test_evidence_is_drawn():
    result = gpuseg.segment(synthetic.bicrystal((200, 200), random_state=0).image, "auto", **HERE)
    axes = plot.plot_evidence(result)
    assert axes.get_title() == "number of patterns: 2"
    np.testing.assert_allclose(axes.lines[0].get_ydata(), result.evidence.valley)
    none = replace(result.evidence, n_patterns=1, candidates=(), valley=(), region=())
    assert plot.plot_evidence(none).get_title() == "number of patterns: 1"
    with pytest.raises(ValueError, match="n_patterns='auto'"):
        plot.plot_evidence(gpuseg.segment(np.eye(64), 1, **HERE))


# --- suggestions --------------------------------------------------------------------------------------------


def test_a_suggestion_is_what_auto_takes_and_says_why():
    image = synthetic.twin_bands((300, 300), period=9, random_state=0).image
    found = gpuseg.suggest(image, device="cpu")
    auto = gpuseg.segment(image, "auto", **SIZES, **HERE)
    used = auto.model.descriptor
    assert (found.patch_radius, found.window_radius) == (used.patch_radius, used.window_radius)
    assert (found.stride, found.n_patterns) == (auto.model.stride, auto.n_patterns) == (1, 2)
    assert found.lattice_period == auto.parameters["lattice_period"]
    assert found.evidence == auto.evidence
    text = str(found)
    assert "patterns        2" in text
    assert f"patch radius    {found.patch_radius}" in text
    assert all(reason in text for reason in found.reasons)
    assert len(found.reasons) == 5


def test_a_suggestion_without_a_lattice_is_the_default():
    found = gpuseg.suggest(np.random.default_rng(0).standard_normal((100, 100)), device="cpu")
    assert (found.patch_radius, found.window_radius, found.stride, found.n_patterns) == (20, 20, 5, 1)
    assert found.lattice_period is None
    assert "none found" in str(found)


def test_a_suggestion_needs_an_image():
    with pytest.raises(ValueError, match="two axes"):
        gpuseg.suggest(np.zeros(5))
    with pytest.raises(ValueError, match="constant"):
        gpuseg.suggest(np.zeros((64, 64)), device="cpu")
    with pytest.raises(ValueError, match=r"`mask` has shape"):
        gpuseg.suggest(np.eye(64), np.ones((3, 3), bool))


def test_command_suggest(tmp_path, capsys):
    np.save(tmp_path / "image.npy", synthetic.bicrystal((256, 256), random_state=0).image)
    arguments = [
        "suggest",
        str(tmp_path / "image.npy"),
        "--device",
        "cpu",
        "--plot",
        str(tmp_path / "why.png"),
    ]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "lattice period  13.9 px" in told
    assert "patterns        2" in told
    assert "-n 2 --patch-radius 17 --window-radius 16 --stride 3" in told
    assert (tmp_path / "why.png").stat().st_size > 1000


def test_command_segment_with_everything_automatic(tmp_path, capsys):
    np.save(tmp_path / "image.npy", synthetic.bicrystal((256, 256), random_state=0).image)
    automatic = ["-n", "auto", "--patch-radius", "auto", "--window-radius", "auto", "--stride", "auto"]
    out = tmp_path / "out"
    assert main(["segment", str(tmp_path / "image.npy"), "-o", str(out), "--device", "cpu", *automatic]) == 0
    assert "2 patterns" in capsys.readouterr().out
    parameters = json.loads((out / "summary.json").read_text())["parameters"]
    assert (parameters["n_patterns"], parameters["stride"]) == (2, 3)
    assert parameters["descriptor"]["patch_radius"] == 17
    assert main(["info", str(tmp_path / "image.npy"), "--stride", "auto", "--window-radius", "auto"]) == 0
    assert "every 3 px" in capsys.readouterr().out


def test_command_series_with_everything_automatic(tmp_path):
    movie = synthetic.boundary_movie((160, 160), n_frames=3, random_state=0)
    np.save(tmp_path / "movie.npy", np.stack([scene.image for scene in movie]))
    arguments = ["-n", "auto", "--stride", "auto", "--patch-radius", "auto", "--device", "cpu"]
    assert main(["series", str(tmp_path / "movie.npy"), "-o", str(tmp_path / "out"), *arguments]) == 0
    model = gpuseg.SegmentationModel.load(tmp_path / "out" / "model.npz")
    assert (len(model.cluster_centers), model.stride, model.descriptor.patch_radius) == (2, 3, 17)


@pytest.mark.parametrize("option", ["-n", "--stride", "--patch-radius", "--window-radius"])
def test_command_refuses_misspelt_words(option, tmp_path, capsys):
    np.save(tmp_path / "image.npy", np.eye(64))
    assert main(["segment", str(tmp_path / "image.npy"), option, "atuo"]) == 2
    assert "'atuo'" in capsys.readouterr().err


# --- real images --------------------------------------------------------------------------------------------

REAL = (
    ("STO_16_STOimage_1.ser", 1, 1),
    ("ncem_Acquisition_18.emd", 1, 1),
    ("Ni_M3B2_interface_HAADF91.tif", 1, 2),
    ("CdTe_tilt_GB_HAADF149.dm3", 1, 2),
    ("Au_grain_boundary_512.png", 1, 2),
    ("Si_tilt_GB_HAADF85.dm3", 1, 2),
    ("STO_on_Ge_HAADF.jpg", 3, 3),
)


@pytest.mark.parametrize("sizes", [{}, SIZES], ids=["default sizes", "auto sizes"])
@pytest.mark.parametrize(("file", "bin_factor", "wanted"), REAL)
def test_number_of_patterns_in_real_images(file, bin_factor, wanted, sizes):
    path = SHARED / "data" / "images" / file
    if not path.is_file():
        pytest.skip(f"the real images are not part of the package ({file} not found)")
    if path.suffix in (".ser", ".emd", ".dm3"):
        pytest.importorskip("rsciio")
    if path.suffix == ".emd":
        pytest.importorskip("h5py")
    image = gpuseg.io.read_image(path).binned(bin_factor).data
    assert gpuseg.segment(image, "auto", **sizes, **HERE).n_patterns == wanted


def test_an_emulated_gpu_chooses_the_same(emulated_cuda):
    image = synthetic.bicrystal((120, 128), period=7, misorientation=20, random_state=1).image
    wanted = gpuseg.segment(image, "auto", **SIZES, **HERE)
    cupy = emulated_cuda()
    got = gpuseg.segment(cupy.asarray(image), "auto", **SIZES, random_state=0)
    assert got.device == "cuda:0"
    assert got.model.descriptor == wanted.model.descriptor
    assert got.n_patterns == wanted.n_patterns == 2
    np.testing.assert_allclose(got.evidence.valley, wanted.evidence.valley, atol=0.02)
    np.testing.assert_allclose(got.evidence.region, wanted.evidence.region, atol=0.02)
    assert (cupy.asnumpy(got.labels) == wanted.labels).mean() > 0.99


def test_a_glide_is_part_of_the_reach():
    glide = gpuseg.GlideReflectionSymmetry(10, 2, (4.5, 7.0), 5)
    assert evidence.reach_of(glide) == 10 + 5 + 7
    assert evidence.reach_of(gpuseg.GlideReflectionSymmetry(10, pooling_radius=5)) == 15
