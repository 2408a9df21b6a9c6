"""The benchmarks themselves: formulas of the least work, and that tiny runs end on a page."""

import json

import numpy as np
import pytest

import gpuseg
from benchmarks import __main__ as command
from benchmarks import dense, machine, page, report, roofline, studies, work
from benchmarks.cases import Case
from benchmarks.images import bicrystal
from gpuseg import arrays
from gpuseg.engines import cpu
from gpuseg.polar import PolarPlan

PEAKS = work.Peaks(2, 10e9, 8e9, 2e9, 50e9)


@pytest.fixture(autouse=True)
def _no_long_measuring(monkeypatch):
    """What the machine could do takes seconds to measure."""
    monkeypatch.setattr(machine, "copy_bandwidth", lambda: 10e9)
    monkeypatch.setattr(machine, "multiply_adds", lambda: 50e9)


def shifts_of(max_num_points):
    operations = gpuseg.LocalCorrelationMap(20, 20, max_num_points).operations()
    return np.array([(t.d_row, t.d_col) for t in operations])


# --- formulas ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_num_points", "stride", "needed"), [(100, 5, 41), (1681, 5, 1641), (1681, 1, 841), (196, 1, 196)]
)
def test_opposite_shifts_on_the_grid_share_a_sum(max_num_points, stride, needed):
    assert work.sums_needed(shifts_of(max_num_points), stride) == needed


def test_box_scores_move_the_image_and_the_scores_and_no_more():
    shifts = shifts_of(100)
    least = work.box_scores(1000, 40, shifts, 5)
    assert (least.read, least.written) == (4000, 4 * 81 * 40)
    assert least.multiply_adds == 41 * (1000 + 4 * 40) + 3 * 81 * 40


def test_the_limit_is_the_longer_of_bytes_and_arithmetic():
    assert work.Work(5_000_000_000, 5_000_000_000, 1, "").seconds(PEAKS) == (1.0, "bytes")
    assert work.Work(1, 1, 100_000_000_000, "").seconds(PEAKS) == (2.0, "arithmetic")


def test_every_formula_grows_with_what_it_says():
    small, large = work.covariance(100, 10), work.covariance(200, 10)
    assert large.read == 2 * small.read
    assert large.multiply_adds - small.multiply_adds == 100 * 10 * 11 // 2
    assert work.upsampling(100, 4).moved == 4 * 104
    assert work.power_spectrum((64, 64), (8, 8), (5, 7)).written == 4 * 18 * 64
    assert work.polar_scores(10, 2, 3, 1, 5).multiply_adds == 10 * (4 + 24 + 2 + 10 + 6)
    assert work.pooling(100, 20, 4, 3, 2).multiply_adds == 2 * 2 * 3 * 120


def test_reflections_cost_the_samples_and_pairs_of_their_plan():
    plan = PolarPlan.of(6, gpuseg.ReflectionSymmetry(radius=6).scored())
    counted = len(plan.corners), np.count_nonzero(plan.own_weight), len(plan.pairs)
    assert counted[0] >= counted[1] > 0
    assert work.polar_scores(1, 10, *counted).multiply_adds > 8 * counted[0]


# --- roofline ---------------------------------------------------------------------------------------------


def roofline_rows(monkeypatch):
    monkeypatch.setattr(roofline, "RADIUS", (4, 4))
    return list(roofline.rows(arrays.resolve_device("cpu"), PEAKS, 48, 1))


def test_every_stage_has_a_limit_and_a_time(monkeypatch):
    rows = roofline_rows(monkeypatch)
    stages = [row["stage"].split(" (")[0] for row in rows]
    assert dict.fromkeys(stages).keys() == {
        "normalise", "box scores", "filling", "covariance", "projection", "k-means assignment", "upsampling",
        "polar scores", "pooling", "power spectrum",
    }  # fmt: skip
    assert stages.count("box scores") == 3
    assert stages.count("polar scores") == 2
    for row in rows:
        assert 0 < row["limit"] == pytest.approx(row["reached"] * row["median"])
    text = roofline.table({"roofline": json.loads(json.dumps(rows))})
    for row in rows:
        assert f"| {row['stage']} | {row['shapes']} |" in text
        assert f"- {row['stage'].split(' (')[0]}: {row['why']}." in text


def test_a_stage_that_an_engine_lacks_is_not_measured(monkeypatch):
    monkeypatch.delattr(cpu, "pool")
    rows = roofline_rows(monkeypatch)
    missing = [row for row in rows if "not_measured" in row]
    assert [row["stage"] for row in missing] == ["pool (rotation)", "pool (reflection)"]
    assert missing[0]["not_measured"] == "gpuseg.engines.cpu has no `pool`"


def test_no_gpu_no_figures(monkeypatch):
    monkeypatch.setattr(arrays, "gpu_status", lambda: (False, "there is none"))
    found = list(roofline.measure(("cuda",), 48, 1, True))
    assert found == [{"stage": "all", "device": "cuda", "not_measured": "there is none"}]
    assert "all on cuda: not measured (there is none)" in roofline.table({"roofline": found})


def test_the_same_stages_run_on_a_gpu(emulated_cuda, monkeypatch):
    emulated_cuda()
    monkeypatch.setattr(roofline, "RADIUS", (2, 2))
    where = arrays.resolve_device("cuda")
    peaks = machine.peaks(where, quick=True)
    assert peaks.threads == 0
    rows = list(roofline.rows(where, peaks, 24, 1))
    assert len(rows) == 20
    assert all(row["device"] == str(where) and row["reached"] > 0 for row in rows)
    study = studies.measure(studies.chosen(["patch-dense"])[0], "cuda", 1, True)
    assert [point["x"] for point in study["points"]] == [11**2, 21**2]


def test_peaks_are_measured_on_the_threads_of_gpuseg(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    peaks = machine.peaks(arrays.resolve_device("cpu"), quick=True)
    assert peaks.threads == 1
    assert min(vars(peaks).values()) > 0


# --- studies, baselines and the page ----------------------------------------------------------------------


def test_the_exponent_of_a_power_law_is_found():
    points = [{"x": x, "median": 3 * x**1.5} for x in (1.0, 2.0, 8.0)]
    assert studies.exponent(points) == pytest.approx({"fitted": 1.5, "last": 1.5})
    assert studies.exponent(points[:1]) is None


def test_threads_of_a_study_are_given_back(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    assert studies._on_threads(1, cpu.n_threads)() == 1
    assert cpu.n_threads() == 3
    monkeypatch.delenv("NUMBA_NUM_THREADS")
    before = cpu.n_threads()
    studies._on_threads(before + 1, cpu.n_threads)()
    assert cpu.n_threads() == before


def test_the_baseline_of_scipy_makes_the_box_sums():
    scene = bicrystal(96, dose=3.0)
    people, name = dense.contenders(Case("", "", "dense", max_num_points=9, stride=1), "cpu", scene)
    assert [each.name for each in people] == [name, "gpuseg", "gpuseg, valid"]
    baseline = people[0].run
    baseline()
    image, shift = baseline.image.astype(np.float64), baseline.operations[1]
    assert (shift.d_row, shift.d_col) == (-20, -6)
    expected = (image[28:69, 28:69] * image[8:49, 22:63]).mean()
    assert baseline.result[1, 48, 48] == pytest.approx(expected, rel=1e-4)


def tiny_run(tmp_path, monkeypatch):
    """A file with a roofline and two studies, one with accuracy."""
    found = tmp_path / "tiny.json"
    run = {**command.preamble(None), "rounds": 1, "quick": True, "roofline": roofline_rows(monkeypatch)}
    run["studies"] = [
        studies.measure(studies.chosen([name])[0], "cpu", 1, True) for name in ("patch", "operations")
    ]
    run["studies"].append({"name": "patch", "device": "cuda", "not_measured": "there is none"})
    report.write(found, run)
    return found


def test_the_page_says_what_the_files_hold(tmp_path, monkeypatch, capsys):
    path = tiny_run(tmp_path, monkeypatch)
    assert command.main(["report", str(path), "--out", str(tmp_path / "page")]) == 0
    assert str(tmp_path / "page" / "report.md") in capsys.readouterr().out
    text = (tmp_path / "page" / "report.md").read_text()
    run = json.loads(path.read_text())
    assert "A quick trial" in text
    assert f"{run['studies'][0]['exponent']['fitted']:.2f} of the pixels of a patch" in text
    assert f"{run['studies'][1]['points'][-1]['accuracy']:.3f}" in text
    assert "The paper's Figure 7 redone." in text
    assert "Not measured: tiny, cuda: there is none." in text
    for name in ("roofline-tiny", "study-patch", "study-operations"):
        assert f"]({name}.png)" in text
        assert (tmp_path / "page" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_a_page_without_a_gpu_says_so(tmp_path):
    run = {**command.preamble(None), "device": {"usable": False, "reason": "none", "devices": []}}
    assert "On a GPU: not measured" in page.write({"empty": run}, tmp_path).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["studies", "--study", "nonsense"], "no study is called 'nonsense'; there are: pixels"),
        (["report", "not-there.json"], "'not-there.json' cannot be read as JSON"),
        (["--case", "nonsense"], "no case is called 'nonsense'"),
    ],
)
def test_what_makes_no_sense_is_said(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert message in capsys.readouterr().err


def test_a_file_that_holds_no_run_is_refused(tmp_path, capsys):
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(SystemExit, match="2"):
        command.main(["report", str(tmp_path / "other.json")])
    assert "holds no run" in capsys.readouterr().err
