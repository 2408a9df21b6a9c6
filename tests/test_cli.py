"""The command line: what it passes on, what it prints and writes, and its exit codes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import gpuseg
from gpuseg import arrays, cli, io
from gpuseg.cli import main
from tests.test_plot import made_segmentation

RESULTS = ["certainty.tif", "labels.tif", "model.npz", "overlay.png", "summary.json"]


@pytest.fixture
def image(tmp_path, monkeypatch):
    """A calibrated image of the shape of `made_segmentation`, in the current folder."""
    monkeypatch.chdir(tmp_path)
    data = np.random.default_rng(0).integers(0, 200, (60, 50), dtype=np.uint8)
    tifffile.imwrite("a.tif", data, imagej=True, resolution=(50, 50), metadata={"unit": "nm"})
    return data


@pytest.fixture
def calls(monkeypatch):
    """The calls of `gpuseg.segment`, which answers at once with a result made by hand."""
    made = []

    def segment(data, n_patterns, **options):
        made.append({"data": data, "n_patterns": n_patterns, **options})
        return made_segmentation()

    monkeypatch.setattr(gpuseg, "segment", segment)
    return made


def said(capsys):
    captured = capsys.readouterr()
    return captured.out, captured.err


def refused(capsys):
    """The one line on stderr of a command that refused."""
    out, err = said(capsys)
    assert out == ""
    assert err.lstrip().startswith("gpuseg: ")
    assert err.strip().count("\n") == 0
    assert "Traceback" not in err
    return err


def names(folder):
    return sorted(each.name for each in folder.iterdir())


# --- segment ------------------------------------------------------------------------------------------------


def test_segment_writes_a_calibrated_result(image, calls, tmp_path, capsys):
    assert main(["segment", "a.tif", "-n", "2", "-o", "out/"]) == 0
    assert names(tmp_path / "out") == RESULTS
    np.testing.assert_array_equal(calls[0]["data"], image)
    assert io.read_image(tmp_path / "out" / "labels.tif").pixel_size == pytest.approx(0.02)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["source"]["path"] == "a.tif"
    assert summary["patterns"][0]["area_nm^2"] == pytest.approx(55 * 21 * 4e-4)
    out, err = said(capsys)
    assert "a.tif: 60 x 50 px, uint8, 0.02 nm per pixel" in out
    assert "0: 40.0%, 1: 60.0%" in out
    assert "device cpu; 0.02 s (descriptors 0.010)" in out
    assert err == ""


def test_defaults_are_those_of_the_library(image, calls):
    assert main(["segment", "a.tif"]) == 0
    call = calls[0]
    del call["data"]
    assert repr(call.pop("descriptor")) == repr(gpuseg.LocalCorrelationMap())
    assert call == {
        "n_patterns": 2, "stride": 5, "n_components": 5, "upsampling": True, "random_state": None,
        "mask": None, "device": "auto", "max_memory": None,
    }  # fmt: skip
    assert os.path.isdir("a-gpuseg")


def test_options_are_passed_on(image, calls):
    options = (
        "-n 3 --patch-radius 8,6 --window-radius 9 --max-num-points 60 --method box --border valid "
        "--stride 4 --n-components 0.9 --no-upsampling --random-state 7 --device cpu --max-memory 2GB"
    )
    assert main(["segment", "a.tif", *options.split()]) == 0
    call = calls[0]
    expected = gpuseg.LocalCorrelationMap(
        patch_radius=(8, 6), window_radius=9, max_num_points=60, method="box", border="valid"
    )
    assert repr(call["descriptor"]) == repr(expected)
    assert (call["n_patterns"], call["stride"], call["n_components"]) == (3, 4, 0.9)
    assert (call["upsampling"], call["random_state"], call["device"]) == (False, 7, "cpu")
    assert call["max_memory"] == "2GB"


def test_other_descriptors_go_by_name(image, calls, capsys):
    assert main(["segment", "a.tif", "--descriptor", "power-spectrum", "-q"]) == 0
    assert calls[0]["descriptor"] == gpuseg.PowerSpectrum()
    assert said(capsys) == ("", "")
    assert main(["segment", "a.tif", "--descriptor", "power-spectrum", "--patch-radius", "4", "--force"]) == 2
    assert "--patch-radius cannot go with --descriptor power-spectrum, which has none" in refused(capsys)
    assert main(["segment", "a.tif", "--descriptor", "wavelets", "--force"]) == 2
    assert "`descriptor` is 'wavelets'" in refused(capsys)


def test_each_descriptor_takes_the_sizes_it_has(image, calls):
    names = ["--descriptor", "power-spectrum", "--descriptor", "rotational-symmetry"]
    sizes = ["--window-radius", "9", "--radius", "8", "--pooling-radius", "6,5", "--border", "valid"]
    assert main(["segment", "a.tif", *names, *sizes, "-q"]) == 0
    assert calls[0]["descriptor"] == [
        gpuseg.PowerSpectrum(window_radius=9, border="valid"),
        gpuseg.RotationalSymmetry(radius=8, pooling_radius=(6, 5), border="valid"),
    ]


def test_info_tells_what_glides_cost(image, capsys):
    crystal = gpuseg.synthetic.image_of_grains(
        np.zeros((120, 120), int), [gpuseg.synthetic.pg_crystal(16, 12)]
    )
    tifffile.imwrite("crystal.tif", crystal.image)
    command = ["info", "crystal.tif", "--descriptor", "glide-reflection-symmetry", "--radius", "16"]
    assert main(command) == 0
    assert "values        4, " in said(capsys)[0]  # of ten lines those along which there is a period
    assert main([*command[:-1], "2"]) == 2
    assert "no lattice period of at most 4 px" in said(capsys)[1]


def test_mask_and_binning_go_together(image, calls, capsys):
    mask = np.full(image.shape, 255, np.uint8)
    mask[:5] = 0
    Pillow.fromarray(mask).save("mask.png")
    assert main(["segment", "a.tif", "--mask", "mask.png", "--bin", "2"]) == 0
    call = calls[0]
    np.testing.assert_allclose(call["data"], image.reshape(30, 2, 25, 2).mean(axis=(1, 3)), rtol=1e-6)
    assert call["mask"].dtype == bool
    assert not call["mask"][:3].any()
    assert call["mask"][3:].all()
    summary = json.loads(Path("a-gpuseg/summary.json").read_text())
    assert summary["pixel_size"] == pytest.approx(0.04)
    assert (summary["source"]["bin"], summary["source"]["mask"]) == (2, "mask.png")


def test_frame_and_data_set(image, calls):
    np.savez("two.npz", one=image, movie=np.stack([image, image + 1]))
    assert main(["segment", "two.npz", "--dataset", "movie", "--frame", "1"]) == 0
    np.testing.assert_array_equal(calls[0]["data"], image + 1)


def test_result_is_not_overwritten_and_not_computed(image, calls, capsys):
    assert main(["segment", "a.tif", "-q"]) == 0
    before = os.stat("a-gpuseg/labels.tif").st_mtime_ns
    assert main(["segment", "a.tif"]) == 2
    message = refused(capsys)
    assert "'a-gpuseg' already holds labels.tif, certainty.tif" in message
    assert "--force" in message
    assert len(calls) == 1
    assert os.stat("a-gpuseg/labels.tif").st_mtime_ns == before
    assert main(["segment", "a.tif", "--force"]) == 0


@pytest.mark.parametrize(("arguments", "message"), [
    (["no.tif"], "'no.tif' does not exist"),
    (["."], "is a folder; the path of one image file is wanted"),
    (["empty.tif"], "is empty (0 bytes)"),
    (["colour.png"], "is a colour picture"),
    (["a.tif", "--frame", "3"], "`frame` is 3"),
    (["a.tif", "--bin", "0"], "`bin` is 0; 1 to 50 is wanted"),
    (["a.tif", "--mask", "small.png"], "`mask` 'small.png' has shape (4, 5), the image (60, 50)"),
    (["a.tif", "--mask", "no.png"], "'no.png' does not exist"),
    (["a.tif", "-n", "two"], "'two': a whole number, or auto to have it chosen, is wanted (see gpuseg segment --help)"),
    (["a.tif", "--patch-radius", "1,2,3"], "'1,2,3' is not a radius"),
    (["a.tif", "--n-components", "many"], "'many': a number such as 5"),
    (["a.tif", "--strid", "3"], "No such option"),
    ([], "Missing argument 'IMAGE'"),
])  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, image, calls, capsys):
    Path("empty.tif").touch()
    Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)).save("colour.png")
    Pillow.fromarray(np.ones((4, 5), np.uint8)).save("small.png")
    assert main(["segment", *arguments]) == 2
    assert message in refused(capsys)
    assert not calls


@pytest.mark.parametrize(("error", "code", "message"), [
    (ValueError("`n_patterns` is 0;\n at least 1 is wanted"), 2, "`n_patterns` is 0; at least 1 is wanted"),
    (TypeError("`image` is complex"), 2, "`image` is complex"),
    (OSError(28, "No space left on device", "out"), 2, "No space left on device: 'out'"),
    (arrays.DeviceError("no GPU can be used"), 2, "no GPU can be used"),
    (KeyboardInterrupt(), 130, "stopped"),
    (MemoryError("40 GB"), 1, "out of memory: 40 GB; average pixels"),
    (RuntimeError("a bug"), 1, "unexpected RuntimeError: a bug; -vv shows where"),
])  # fmt: skip
def test_errors_of_the_work(error, code, message, image, monkeypatch, capsys):
    def segment(*args, **options):
        raise error

    monkeypatch.setattr(gpuseg, "segment", segment)
    assert main(["segment", "a.tif"]) == code
    assert message in refused(capsys)
    assert not os.path.exists("a-gpuseg")


def test_traceback_only_when_asked_for_twice(image, capsys):
    assert main(["segment", "no.tif", "-v"]) == 2
    assert "Traceback" not in said(capsys)[1]
    for louder in (["-vv"], ["-v", "-v"]):
        assert main(["segment", "no.tif", *louder]) == 2
        err = said(capsys)[1]
        assert "Traceback" in err
        assert err.splitlines()[-1].startswith("gpuseg: 'no.tif' does not exist")
    assert main(["-vv", "segment", "no.tif"]) == 2
    assert "Traceback" in said(capsys)[1]


def test_unwritable_place_is_one_line(image, calls, capsys):
    Path("out").touch()
    assert main(["segment", "a.tif", "-o", "out"]) == 2
    assert "'out' is a file; a folder for the results is wanted" in refused(capsys)


@pytest.mark.parametrize(("flags", "shown"), [
    (["-q"], []),
    ([], ["a warning", "compiled 3 kernels"]),
    (["-v"], ["a warning", "compiled 3 kernels", "a reason"]),
    (["-vv"], ["a warning", "compiled 3 kernels", "a reason", "a detail"]),
])  # fmt: skip
def test_log_goes_to_stderr_as_loud_as_asked_for(flags, shown, image, monkeypatch, capsys):
    log = logging.getLogger("gpuseg")

    def segment(*args, **options):
        log.warning("a warning")
        log.info("compiled 3 kernels")
        log.info("a reason")
        log.debug("a detail")
        logging.getLogger("tifffile").warning("another library")
        return made_segmentation()

    monkeypatch.setattr(gpuseg, "segment", segment)
    handlers = list(log.handlers)
    assert main(["segment", "a.tif", *flags]) == 0
    out, err = said(capsys)
    assert err.splitlines() == [f"gpuseg: {line}" for line in shown]
    assert bool(out) == (flags != ["-q"])
    assert log.handlers == handlers


def test_progress_only_for_long_work_on_a_terminal(image, monkeypatch, capsys):
    def segment(*args, **options):
        time.sleep(0.3)
        return made_segmentation()

    monkeypatch.setattr(gpuseg, "segment", segment)
    monkeypatch.setattr(cli, "PATIENCE", 0.05)
    assert main(["segment", "a.tif"]) == 0
    assert said(capsys)[1] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["segment", "a.tif", "--force"]) == 0
    assert "segmenting a.tif: 00:" in said(capsys)[1]
    monkeypatch.setattr(cli, "PATIENCE", 5)
    assert main(["segment", "a.tif", "--force"]) == 0
    assert said(capsys)[1] == ""


# --- the whole way ------------------------------------------------------------------------------------------


def test_demo_finds_the_grains_and_may_be_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--device", "cpu"]) == 0
    out, _ = said(capsys)
    index = float(out.split("adjusted Rand index against the truth: ")[1].split()[0])
    assert index > 0.97
    assert "device cpu" in out
    assert names(tmp_path / "gpuseg-demo") == sorted([*RESULTS, "image.tif"])
    assert main(["demo", "-q", "--device", "cpu"]) == 0
    # What the demo wrote can be segmented by hand.
    assert (
        main(["segment", "gpuseg-demo/image.tif", "-o", "again", "--random-state", "0", "--device", "cpu"])
        == 0
    )
    first, second = (tifffile.imread(f"{folder}/labels.tif") for folder in ("gpuseg-demo", "again"))
    assert (first == second).mean() > 0.999


def test_demo_does_not_overwrite_a_result_of_one_s_own(image, calls, capsys):
    assert main(["segment", "a.tif", "-o", "mine", "-q"]) == 0
    assert main(["demo", "-o", "mine"]) == 2
    assert "'mine' already holds labels.tif" in refused(capsys)


def test_segment_really_segments_and_model_predicts(tmp_path, monkeypatch, capsys):
    from gpuseg import synthetic

    monkeypatch.chdir(tmp_path)
    scene = synthetic.bicrystal((160, 200), counts=20, random_state=0)
    np.save("scene.npy", scene.image)
    command = "segment scene.npy -o out --patch-radius 14 --window-radius 14 --random-state 0 --device cpu"
    assert main(command.split()) == 0
    labels = tifffile.imread("out/labels.tif") - 1
    agreement = max((labels == scene.truth).mean(), (labels != scene.truth).mean())
    assert agreement > 0.95
    model = gpuseg.SegmentationModel.load("out/model.npz")
    np.testing.assert_array_equal(model.predict(scene.image, device="cpu").labels, labels)
    summary = json.loads(Path("out/summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["device"] == "cpu"
    assert summary["n_patterns"] == 2
    assert sum(each["area_fraction"] for each in summary["patterns"]) == pytest.approx(1)


def test_bad_values_reach_the_library_and_come_back_as_one_line(image, capsys):
    for flags in (
        ["-n", "0"],
        ["--patch-radius", "-3"],
        ["--method", "magic"],
        ["--stride", "0"],
        ["--device", "tpu"],
    ):
        assert main(["segment", "a.tif", *flags]) == 2
        refused(capsys)


# --- info, devices, help ------------------------------------------------------------------------------------


def test_info_tells_what_is_there_and_what_it_would_cost(image, capsys):
    assert (
        main(["info", "a.tif", "--patch-radius", "4", "--window-radius", "6", "--max-num-points", "50"]) == 0
    )
    out, err = said(capsys)
    assert err == ""
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["shape"] == "60 x 50 (rows x columns)"
    assert lines["numbers"] == f"uint8, {image.min()} to {image.max()}, mean {image.mean():.6g}"
    assert lines["pixel"] == "size    0.02 nm, view 1.2 x 1 nm"
    assert lines["grid"] == "12 x 10 points, every 5 px"
    assert lines["translations"] == "49, 5880 scores"
    assert lines["memory"].startswith("about ")


@pytest.mark.parametrize(("device", "lines"), [("auto", 2), ("cuda", 1), ("cpu", 1)])
def test_info_tells_the_plan_of_the_gpu(image, emulated_cuda, capsys, device, lines):
    emulated_cuda(memory=300_000)
    command = ["info", "a.tif", "--patch-radius", "4", "--window-radius", "6", "--stride", "1"]
    assert main([*command, "--device", device]) == 0
    plans = [line for line in said(capsys)[0].splitlines() if line.startswith("memory ")]
    assert len(plans) == lines
    if device != "cpu":
        assert "of 146 KB, in 60 bands of 1 rows of grid points, on cuda:0" in plans[0]
    if device != "cuda":
        assert plans[-1].endswith("the whole image at once")


def test_info_of_another_descriptor(image, capsys):
    assert main(["info", "a.tif", "--descriptor", "histogram", "--stride", "10"]) == 0
    out = capsys.readouterr().out
    assert "values        20, " in out
    assert "points, every 10 px" in out


def test_info_of_an_image_without_calibration_and_with_nan(tmp_path, capsys):
    data = np.full((60, 50), np.nan, np.float32)
    np.save(tmp_path / "a.npy", data)
    assert main(["info", str(tmp_path / "a.npy")]) == 0
    out = said(capsys)[0]
    assert "pixel size    not known" in out
    assert "none of them finite" in out
    data[3] = np.arange(50)
    np.save(tmp_path / "a.npy", data)
    assert main(["info", str(tmp_path / "a.npy")]) == 0
    assert "0 to 49, mean 24.5, 2950 not finite" in said(capsys)[0]


def test_devices_says_why_there_is_no_gpu(monkeypatch, capsys):
    monkeypatch.setattr(arrays, "gpu_status", lambda: (False, "no NVIDIA driver is installed"))
    monkeypatch.setattr(arrays, "cuda_devices", list)
    assert main(["devices"]) == 0
    out = said(capsys)[0]
    assert "cuda    not usable: no NVIDIA driver is installed" in out
    assert "auto    takes cpu" in out


def test_devices_lists_the_gpus(monkeypatch, capsys):
    gpu = {
        "index": 1,
        "name": "NVIDIA X",
        "memory_total": 24 * 2**30,
        "memory_free": 0,
        "compute_capability": "9.0",
    }
    monkeypatch.setattr(arrays, "gpu_status", lambda: (True, "NVIDIA X"))
    monkeypatch.setattr(arrays, "cuda_devices", lambda: [{**gpu, "index": 0}, gpu])
    assert main(["devices"]) == 0
    out = said(capsys)[0]
    assert "cuda:1  NVIDIA X, 24 GiB, compute capability 9.0" in out
    assert "auto    takes cuda:0" in out


@pytest.mark.parametrize("command", ["segment", "demo", "devices", "info"])
def test_help_has_examples_line_by_line(command, capsys):
    assert main([command, "--help"]) == 0
    out, err = said(capsys)
    assert err == ""
    assert f"\n    gpuseg {command}" in out.split("Examples:")[1]


def test_every_parameter_of_segment_has_an_option():
    import inspect

    parameters = set(inspect.signature(gpuseg.segment).parameters)
    parameters |= set(inspect.signature(gpuseg.LocalCorrelationMap).parameters)
    options = {option.name for option in cli.segment.params}
    # upsampling is --no-upsampling; labels sorted otherwise would contradict what the files promise.
    assert parameters - options == {"upsampling", "sort_labels_by_pattern_size"}


def test_without_a_command_help_is_shown(capsys):
    assert main([]) == 0
    assert "Commands:" in said(capsys)[0]
    assert main(["--version"]) == 0
    assert said(capsys)[0].startswith("gpuseg ")
    assert main(["fly"]) == 2
    assert "No such command 'fly'" in refused(capsys)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from gpuseg.cli import main; main(['segment', '--help']); "
        "heavy = {'numba', 'sklearn', 'scipy', 'matplotlib', 'cupy', 'tqdm', 'PIL', 'tifffile', 'rsciio'}; "
        "heavy &= set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_segment_does_not_import_matplotlib(image):
    code = (
        "import sys, gpuseg; from gpuseg.cli import main; "
        "code = main('segment a.tif --patch-radius 8 --window-radius 8 --device cpu'.split()); "
        "sys.exit('matplotlib' if 'matplotlib' in sys.modules else code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
