"""The command `gpuseg series`: what it writes and says, exit codes, going on after an interruption."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import gpuseg
from gpuseg import synthetic
from gpuseg.cli import main
from gpuseg.labeller import Labeller
from tests.test_cli import names, refused, said

OPTIONS = ["--patch-radius", "8", "--window-radius", "8", "--max-num-points", "60", "--random-state", "0",
           "--device", "cpu"]  # fmt: skip
FILES = ["frames.csv", "labels.tif", "model.npz", "summary.json"]


@pytest.fixture
def stack(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    movie = synthetic.boundary_movie((70, 80), 4, period=9, misorientation=20, speed=4, random_state=1)
    frames = np.stack([scene.image for scene in movie]).astype(np.uint8)
    tifffile.imwrite(
        "m.tif", frames, imagej=True, resolution=(50, 50), metadata={"axes": "TYX", "unit": "nm"}
    )
    return frames


def test_series_writes_what_the_library_finds(stack, tmp_path, capsys):
    assert main(["series", "m.tif", "-n", "2", "--n-operations", "10", "--fit-frames", "2", *OPTIONS]) == 0
    out, err = said(capsys)
    assert names(tmp_path / "m-gpuseg") == FILES
    descriptor = gpuseg.LocalCorrelationMap(8, 8, 60)
    wanted = gpuseg.segment_series(
        stack, 2, fit_frames=2, n_operations=10, descriptor=descriptor, random_state=0, device="cpu"
    )
    np.testing.assert_array_equal(tifffile.imread("m-gpuseg/labels.tif"), wanted.labels + 1)
    summary = json.loads((tmp_path / "m-gpuseg" / "summary.json").read_text())
    assert (summary["n_operations"], summary["pixel_size"]) == (10, pytest.approx(0.02))
    assert "m.tif: 4 frames, 0 flagged" in out
    assert "written to m-gpuseg/: labels.tif, frames.csv" in out
    assert err == ""


def test_the_memory_is_handed_on(stack, monkeypatch, capsys):
    given, segment_series = [], gpuseg.segment_series

    def noted(*rest, **options):
        given.append(options["max_memory"])
        return segment_series(*rest, **options)

    monkeypatch.setattr(gpuseg, "segment_series", noted)
    assert main(["series", "m.tif", "-o", "out", "--max-memory", "1GB", *OPTIONS]) == 0
    assert main(["series", "m.tif", "-o", "other", *OPTIONS]) == 0
    assert given == ["1GB", None]
    assert main(["series", "m.tif", "-o", "third", "--max-memory", "10KB", *OPTIONS]) == 2
    assert "`max_memory` is 10 KB; at least" in said(capsys)[1]


def test_mask_bin_and_named_frames(stack, tmp_path):
    mask = np.full(stack[0].shape, 255, np.uint8)
    mask[:10] = 0
    Pillow.fromarray(mask).save("mask.png")
    options = ["--bin", "2", "--mask", "mask.png", "--fit-frames", "0,3", "--patch-radius", "5"]
    assert main(["series", "m.tif", "-o", "out", "-q", *OPTIONS, *options]) == 0
    labels = tifffile.imread("out/labels.tif")
    assert labels.shape == (4, 35, 40)
    assert (labels[:, :5] == 0).all()
    assert (labels[:, 5:] > 0).all()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["parameters"]["fit_frames"] == [0, 3]


def test_a_mask_for_each_frame(stack, tmp_path):
    masks = np.full(stack.shape, 255, np.uint8)
    for k in range(4):
        masks[k, 10 * k : 10 * k + 10] = 0
    tifffile.imwrite("masks.tif", masks, photometric="minisblack")
    assert main(["series", "m.tif", "-o", "out", "-q", "--mask", "masks.tif", *OPTIONS]) == 0
    np.testing.assert_array_equal(tifffile.imread("out/labels.tif") == 0, masks == 0)
    Path("masks").mkdir()
    for k, mask in enumerate(masks):
        Pillow.fromarray(mask).save(f"masks/{k}.png")
    assert (
        main(
            [
                "series",
                "m.tif",
                "-o",
                "two",
                "-q",
                "--bin",
                "2",
                "--mask",
                "masks",
                "--patch-radius",
                "5",
                *OPTIONS,
            ]
        )
        == 0
    )
    np.testing.assert_array_equal(tifffile.imread("two/labels.tif") == 0, masks[:, ::2, ::2] == 0)


def test_flagged_frames_are_listed(stack, capsys):
    np.save("dead.npy", np.concatenate([stack, np.zeros((12, 70, 80), np.uint8)]))
    assert main(["series", "dead.npy", *OPTIONS]) == 0
    out, err = said(capsys)
    assert "16 frames, 12 flagged" in out
    assert "frame 4: dead: `image` of shape (70, 80) is constant" in out
    assert "... and 2 more: see frames.csv" in out
    assert err == ""


def test_a_cut_file_is_told(stack, tmp_path, capsys):
    content = (tmp_path / "m.tif").read_bytes()
    (tmp_path / "m.tif").write_bytes(content[: len(content) // 2])
    assert main(["series", "m.tif", *OPTIONS]) == 0
    out, err = said(capsys)
    assert "m.tif: 1 frames" in out or "m.tif: 2 frames" in out
    assert "broke off at frame" in err


def test_a_result_is_not_overwritten(stack, capsys):
    assert main(["series", "m.tif", "-q", *OPTIONS]) == 0
    assert main(["series", "m.tif", *OPTIONS]) == 2
    assert "'m-gpuseg' already holds labels.tif, frames.csv" in refused(capsys)
    assert main(["series", "m.tif", "-q", "--force", *OPTIONS]) == 0


def test_a_stopped_run_goes_on(stack, monkeypatch, capsys):
    label, calls = Labeller.frame, []

    def stops(self, *args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return label(self, *args, **options)

    monkeypatch.setattr(Labeller, "frame", stops)
    assert main(["series", "m.tif", "-q", *OPTIONS]) == 130
    assert "stopped" in refused(capsys)
    assert main(["series", "m.tif", "-v", *OPTIONS]) == 0
    assert "going on after 2 frames" in said(capsys)[1]
    assert len(calls) == 5
    assert tifffile.imread("m-gpuseg/labels.tif").shape == (4, 70, 80)


def test_frames_per_second_are_shown_on_a_terminal(stack, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("gpuseg.cli.PATIENCE", 0.0)
    assert main(["series", "m.tif", *OPTIONS]) == 0
    err = said(capsys)[1]
    assert "m.tif: 100%" in err
    assert "frame/s" in err


@pytest.mark.parametrize(("arguments", "message"), [
    (["no.tif"], "'no.tif' does not exist"),
    (["empty"], "holds no image; a folder with one image file per frame is wanted"),
    (["one.tif"], "holds a single picture"),
    (["m.tif", "--fit-frames", "two"], "'two': how many frames, or which, such as 0,40,80"),
    (["m.tif", "--fit-frames", "9,"], "`fit_frames` names frame 9; the series has 4 frames"),
    (["m.tif", "--fit-frames", "0"], "`fit_frames` is 0"),
    (["m.tif", "--n-operations", "0"], "`n_operations` is 0"),
    (["m.tif", "--mask", "one.tif"], "`mask` has shape (5, 6)"),
    (["m.tif", "--mask", "three.npy"], "`mask` has 3 frames, the series 4"),
    (["m.tif", "--mask", "cut.npy"], "ends within frame 2 of 3"),
    (["m.tif", "--mask", "broken"], "could not be read"),
    (["m.tif", "--bin", "0"], "`bin` is 0"),
    (["m.tif", "-n", "0"], "`n_patterns` is 0"),
    (["m.tif", "--dataset", "b"], "`dataset` 'b' is not in 'm.tif'"),
    ([], "Missing argument 'FRAMES'"),
])  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, stack, capsys):
    tifffile.imwrite("one.tif", np.ones((5, 6), np.uint8))
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/0.png").write_bytes(b"no picture")
    np.save("three.npy", np.ones((3, 70, 80), np.uint8))
    Path("cut.npy").write_bytes(Path("three.npy").read_bytes()[:-9])
    assert main(["series", *arguments, *OPTIONS]) == 2
    assert message in refused(capsys)
