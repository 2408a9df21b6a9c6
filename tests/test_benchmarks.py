"""The benchmarks themselves: formulas of the least work, and that tiny runs end on a page."""

import importlib.util
import itertools
import json
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import gpuseg
from benchmarks import __main__ as command
from benchmarks import (
    dense,
    every_kernel,
    goals,
    gpu,
    large,
    learning,
    machine,
    page,
    questions,
    report,
    roofline,
    side_by_side,
    speed,
    studies,
    timing,
    work,
)
from benchmarks.cases import CASES, Case, Goal, chosen
from benchmarks.images import bicrystal
from benchmarks.timing import FIRST, Absent, Contender
from gpuseg import arrays, constants
from gpuseg.engines import cpu, cuda
from gpuseg.polar import PolarPlan
from tests import cuml_stand_in
from tests.emulator import EmulatedModule

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


# --- cases ------------------------------------------------------------------------------------------------


def quick(name, device="cpu"):
    """A case of its quick size, one round, as JSON."""
    found = speed.measure(chosen([name])[0], device, None, 1, command.preamble(None), True)
    return json.loads(json.dumps(found))


def in_a_row(found):
    """All rows but those of first runs."""
    return [row for row in found["rows"] if not row["stage"].endswith(FIRST)]


def test_scores_by_scipy_and_by_scikit_image_are_those_of_gpuseg():
    for name, other in (("maps-81", "scipy uniform_filter"), ("maps-1681", "scikit-image match_template")):
        found = quick(name)
        assert [row["contender"] for row in in_a_row(found)] == [other, "gpuseg"]
        assert in_a_row(found)[1]["ratio"] > 0
        for who, bound in ((other, 1e-5), ("gpuseg", 1e-6)):
            assert found["rightness"][who]["largest error of a score"] < bound


def test_what_is_not_installed_is_not_measured(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "skimage" else find(name, *rest)
    )
    found = quick("maps-1681")
    assert found["absent"] == {"scikit-image match_template": "scikit-image is not installed"}
    assert [row["contender"] for row in in_a_row(found)] == ["gpuseg"]
    table = report.cases({"cases": [found]})
    assert "| scikit-image match_template | not measured | | scikit-image is not installed |" in table


def test_scikit_learn_agrees_on_components_and_patterns():
    found = quick("learning-81")
    assert {row["contender"] for row in found["rows"]} == {"scikit-learn", "gpuseg"}
    assert [row["stage"] for row in in_a_row(found)][::2] == [
        "PCA",
        *(f"k-means, {n} patterns" for n in range(2, 9)),
    ]
    for goal in goals.reached(chosen(["learning-81"])[0].goals, found, "cpu"):
        assert goal["met"], goal


def test_cuml_is_timed_beside_gpusegs_own(emulated_cuda, monkeypatch):
    emulated_cuda()
    monkeypatch.setattr(learning, "N_PATTERNS", range(2, 4))
    case, scene = Case("", "", "learning", max_num_points=9), bicrystal(64, dose=3.0)
    people, baseline = learning.contenders(case, "cuda", scene)
    assert isinstance(people[0], Absent)
    assert baseline == people[1].name == goals.OWN["cuda"]
    fitted = cuml_stand_in.install(monkeypatch)
    before = constants.CUML_SERVES
    people, baseline = learning.contenders(case, "cuda", scene)
    assert baseline == people[0].name == "cuML"
    people[1].run()
    assert fitted == []
    people[0].run()
    assert fitted == ["PCA", "KMeans", "KMeans"]
    assert constants.CUML_SERVES is before
    found = {"rows": [], "rightness": {"cuML": people[0].rightness()}}
    asked = chosen(["learning-81"])[0].gpu_goals
    assert [goal["met"] for goal in goals.reached(asked, found, "cuda")] == [True] * len(asked)


def test_the_faster_of_two_is_told_by_their_ratios():
    rows = [
        {"stage": stage, "contender": "gpuseg cuda, resident", "baseline": "cuML", "ratio": ratio}
        for stage, ratio in (
            ("PCA", 2.0),
            ("PCA", 4.0),
            ("k-means, 2 patterns", 0.5),
            ("k-means, 3 patterns", 1.5),
        )
    ]
    assert learning.verdict([{"rows": rows[:1]}, {"rows": rows[1:]}]).splitlines() == [
        "PCA: gpuseg's own is faster than cuML in 2 of 2 measurements, 3 times in the median.",
        "k-means: gpuseg's own is faster than cuML in 1 of 2 measurements, 1 times in the median.",
    ]
    assert (
        learning.verdict([{"rows": [{**rows[0], "baseline": "scikit-learn"}]}, {"not_measured": "?"}]) == ""
    )


def test_another_subspace_and_other_labels_show():
    scene = bicrystal(64, dose=3.0)
    people, _ = learning.contenders(Case("", "", "learning", max_num_points=25), "cpu", scene)
    for person in people:
        person.run()
    own, other = people[1].run, people[0].run
    other.pca.components_ = np.eye(*other.pca.components_.shape)
    other.patterns[2].labels_ = np.arange(own.samples.shape[0]) % 2
    found = goals.reached(
        chosen(["learning-81"])[0].goals, {"rightness": {"scikit-learn": people[0].rightness()}}, "cpu"
    )
    assert [goal["met"] for goal in found] == [True, False, True, True, False]


def test_the_memory_of_a_large_image_is_that_of_two_processes(tmp_path, monkeypatch):
    seen = []

    def run_python(program, *arguments):
        seen.append((program, arguments))
        return {"peak": 10.0 * len(seen)}

    monkeypatch.setattr(large, "run_python", run_python)
    people = large.contenders(chosen(["large-memory"])[0], np.zeros((8, 8)), tmp_path)
    assert people[0].run() == {"fit": 10.0, "predict": 20.0}
    assert [program for program, _ in seen] == ["", large.FIT, large.PREDICT]
    assert seen[1][1] == (str(tmp_path / "image.npy"), large.LEAST_BUDGET, str(tmp_path / "model.npz"))


def test_scores_of_every_pixel_beside_the_speed_of_the_memory():
    found = quick("dense-196")
    share = found["rightness"]["gpuseg"]["share of the write bandwidth"]
    assert 0 < share < 1
    descriptor = gpuseg.LocalCorrelationMap(20, 20, 9)
    shares = dense.shares(descriptor, 1, 100, 1e-3, PEAKS)
    assert shares["share of the write bandwidth"] == pytest.approx(9 * 100**2 * 4 / 1e-3 / 8e9)
    assert shares["share of the copy bandwidth"] == pytest.approx(10 * 100**2 * 4 / 1e-3 / 10e9)


def test_labels_of_the_gpu_are_compared_with_those_of_the_cpu(emulated_cuda):
    emulated_cuda()
    small = Case("segment", "", "segment", quick_size=64, max_num_points=9)
    found = speed.measure(small, "cuda", None, 1, command.preamble(None), True)
    assert [row["contender"] for row in found["rows"]][1] == goals.OWN["cuda"]
    small = Case("predict-81", "", "predict", quick_size=64, max_num_points=9)
    for case in (small, replace(small, n_operations=4)):
        frames = speed.measure(case, "cuda", None, 1, command.preamble(None), True)
        assert frames["rightness"][goals.OWN["cuda"]]["share of the labels as on the CPU"] >= 0.999
    for who in ("gpuseg cuda", "gpuseg cuda, resident"):
        assert found["rightness"][who]["share of the labels as on the CPU"] >= 0.999


def test_a_case_that_breaks_off_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    measure = speed.measure

    def broken(case, *rest):
        if case.name == "methods-81":
            raise RuntimeError("no luck")
        return measure(case, *rest)

    monkeypatch.setattr(speed, "measure", broken)
    path = tmp_path / "found.json"
    arguments = ["--quick", "--device", "cpu", "--json", str(path)]
    assert command.main([*arguments, "--case", "methods-81", "--case", "methods-9-sparse"]) == 1
    first, second = json.loads(path.read_text())["cases"]
    assert first["not_measured"] == "RuntimeError: no luck"
    assert second["rows"]


# --- what is asked ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "met"), [("at most", 2.0, True), ("at least", 3.5, False), ("ratio", 5.0, True)]
)
def test_goals_are_judged_by_the_contender_they_name(kind, value, met):
    rows = [
        {"stage": "whole", "contender": who, "median": median, "ratio": ratio}
        for who, median, ratio in (("other", 50.0, None), ("gpuseg", 1.5, 33.0))
    ]
    measured = {"rows": rows, "rightness": {"gpuseg": {"share": 3.0}}}
    goal = Goal("share" if kind == "at least" else "whole", kind, value)
    (found,) = goals.reached((goal,), measured, "cpu")
    assert found["met"] is met
    assert goals.reached((Goal("whole", kind, value, "nobody"),), measured, "cpu") == []
    assert goals.reached((goal,), measured, "cuda") == []


def test_the_newest_figure_stands_beside_what_is_asked():
    def run(when, median, **more):
        row = {"stage": "whole", "contender": "gpuseg cuda, resident", "median": median, "ratio": None}
        case = {"name": "segment", "device": "cuda", "rows": [row]}
        return {"when": when, "cases": [case], **more}

    runs = {
        "old": run("2026-01-01", 0.009),
        "new": run("2026-02-01", 0.004),
        "trial": run("2026-03-01", 1, quick=True),
    }
    text = goals.table(runs)
    assert "| segment | cuda | whole | at most 0.005 | 0.004 | yes | new |" in text
    assert "| dense-289 | cuda | share of the copy bandwidth | at least 0.5 | not measured |  |  |" in text
    assert "| cpu |" in text
    assert "| cpu |" not in goals.table(runs, "cuda")


def run_of(when, device, contender, median, gpus=(), cases=("segment",), **more):
    """A file with one stage of each case."""
    row = {"stage": "whole", "contender": contender, "median": median, "unit": "s"}
    return {
        "when": when,
        "cases": [{"name": name, "device": device, "rows": [row]} for name in cases],
        "machine": {"cores": 2, "processor": "Some"},
        "device": {"usable": bool(gpus), "devices": [{"name": name} for name in gpus]},
        **more,
    }


def test_machines_stand_side_by_side():
    runs = {
        "new": run_of("2026-02", "cpu", "gpuseg", 0.02),
        "old": run_of("2026-01", "cpu", "gpuseg", 0.09, cases=("cli", "segment")),
        "other": run_of("2026-03", "cpu", "pystem", 5.0),
        "trial": run_of("2026-04", "cpu", "gpuseg", 7.0, quick=True),
    }
    assert side_by_side.table(runs).splitlines() == [
        "| case | stage | 2 cores of Some | a GPU |",
        "|---|---|---:|---:|",
        "| segment | whole | 20 ms | not measured |",
        "| cli | whole | 90 ms | not measured |",
    ]
    runs["gpu"] = run_of("2026-05", "cuda", "gpuseg cuda, resident", 0.003, ("H200",))
    assert side_by_side.table(runs).splitlines()[::2] == [
        "| case | stage | 2 cores of Some | H200 |",
        "| segment | whole | 20 ms | 3 ms |",
    ]
    assert side_by_side.table({}) == ""


def test_every_figure_that_is_asked_of_a_gpu_has_a_case():
    asked = {
        case.name: {(goal.stage, goal.value) for goal in case.gpu_goals} for case in CASES if case.gpu_goals
    }
    assert {
        ("segment", ("whole", 5e-3)),
        ("segment", ("share of the labels as on the CPU", 0.999)),
        ("predict-81", ("per frame", 0.5e-3)),
        ("dense-289", ("share of the copy bandwidth", 0.5)),
        ("dense-symmetry", ("whole", 10e-3)),
        ("dense-fit", ("whole", 0.5)),
    } <= {(name, goal) for name, wanted in asked.items() for goal in wanted}
    assert set(gpu.MUST_SHOW) == {name for name in asked if not name.startswith("learning")}


# --- everything of a GPU ----------------------------------------------------------------------------------


def test_every_kernel_is_launched(emulated_cuda):
    cupy = emulated_cuda()
    every_kernel.describe()
    every_kernel.cluster()
    every_kernel.predict()
    kernels = {
        kernel
        for name, options in cuda.variants().items()
        for kernel in EmulatedModule(cuda.source(name), options[0]).kernel_names
    }
    assert kernels == set(cupy.launches)


def test_without_a_gpu_nothing_is_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(arrays, "gpu_status", lambda: (False, "there is none"))
    for arguments in (["gpu", "--out", str(tmp_path / "out")], ["questions"]):
        assert command.main(arguments) == 2
        assert "no GPU can be used: there is none" in capsys.readouterr().err
    assert every_kernel.main() == 2
    assert not (tmp_path / "out").exists()


def test_no_step_stops_the_others(tmp_path):
    def step(name, program, limit=60.0):
        return gpu.Step(name, "a step", limit, (sys.executable, "-c", program))

    slow = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print(p.pid, flush=True); time.sleep(60)"
    plan = [
        step("good", "print('first'); print('last')"),
        step("bad", "raise SystemExit('no luck')"),
        gpu.Step("absent", "a step", 1, (), "there is no such tool"),
        step("slow", slow, 1.5),
        step("after", "print('still here')"),
    ]
    kept = []
    found = gpu.run(plan, tmp_path, 100, lambda rows: kept.append(len(rows)))
    assert [row["outcome"] for row in found] == [
        "passed", "failed: exit status 1", "not measured: there is no such tool", "out of time after 2 s", "passed",
    ]  # fmt: skip
    assert [row["last"] for row in found] == ["last", "no luck", "", found[3]["last"], "still here"]
    assert kept == [1, 2, 3, 4, 5]
    assert (tmp_path / "good.log").read_text() == "first\nlast\n"
    for _ in range(50):  # the child of the slow one is gone too
        if not alive(int(found[3]["last"])):
            break
        time.sleep(0.1)
    assert not alive(int(found[3]["last"]))
    assert "| slow | a step | out of time after 2 s |" in report.steps({"steps": found})


def alive(pid):
    """Whether a process runs; one that nobody has fetched yet does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_steps_that_do_not_fit_into_the_time_are_not_begun(tmp_path):
    plan = [gpu.Step(name, "", 60.0, (sys.executable, "-c", "import time; time.sleep(1.2)")) for name in "ab"]
    found = gpu.run(plan, tmp_path, 2.0, lambda rows: None)
    assert [row["outcome"] for row in found] == ["passed", "not measured: no time was left"]


def test_all_steps_are_commands_that_are_understood(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "sanitizer", lambda: "compute-sanitizer")
    plan = gpu.steps(tmp_path, quick=True)
    assert [step.name for step in plan[:6]] == ["tests", *(f"case-{name}" for name in gpu.MUST_SHOW)]
    assert {"memcheck", "racecheck", "initcheck", "roofline", "cuml", "questions", "studies"} < {
        s.name for s in plan
    }
    for step in plan:
        if step.command[1:3] == ("-m", "benchmarks"):
            options = command.parser().parse_args(step.command[3:])
            assert options.json == tmp_path / f"{step.name}.json"
            assert options.quick
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "compute-sanitizer"
    tool.touch()
    tool.chmod(0o755)
    assert gpu.sanitizer() == str(tool)


def test_what_a_gpu_is_asked_runs_in_the_emulator(emulated_cuda, monkeypatch):
    emulated_cuda()
    few = {
        "TILES": (((16, 64),), ((4, 32), (1, 1))),
        "ENOUGH_BLOCKS": (1, 64),
        "ITERATIONS_AT_A_TIME": (1, 5),
        "EIGENPROBLEMS_ON_HOST": (0, 99),
    }
    monkeypatch.setattr(questions, "SWEEPS", {"SCRATCH_BYTES": (1, 1 << 20), **few})
    monkeypatch.setattr(questions, "N_SAMPLES", 200)
    monkeypatch.setattr(questions, "FEATURES", (9,))
    before = constants_of_launchers()
    bench = questions.Bench(24, 2, arrays.resolve_device("cuda"))
    rows = list(questions.measure(bench, 1))
    assert all(row["median"] > 0 for row in rows)
    assert {row["question"].partition(",")[0] for row in rows} == {"2", "4", "5", "7", "8", "10"}
    assert constants_of_launchers() == before
    text = report.trials({"questions": rows})
    assert "| 7, polar patches | 10 mirrors |" in text


def constants_of_launchers():
    return {name: getattr(questions._home(name), name, None) for name in questions.SWEEPS}


def test_a_trial_with_a_wrong_result_is_no_measurement(emulated_cuda, monkeypatch):
    emulated_cuda()
    monkeypatch.setattr(cuda, "A_CONSTANT", 1, raising=False)

    def run():
        return np.full(3, 2.0 if cuda.A_CONSTANT == 7 else 1.0)

    ways = [questions.Trial("q", str(n), run, ("A_CONSTANT", n)) for n in (3, 7, 8)]
    monkeypatch.setattr(questions, "trials", lambda bench: iter(ways))
    there = arrays.resolve_device("cuda")
    good, wrong, other = questions.measure(questions.Bench(8, 1, there), 1)
    assert good["median"] > 0
    assert wrong["not_measured"] == "the result is wrong"
    assert other["median"] > 0
    assert cuda.A_CONSTANT == 1


def test_everything_of_a_gpu_ends_in_one_folder_and_on_the_page(emulated_cuda, tmp_path, monkeypatch, capsys):
    emulated_cuda()
    plan = [
        gpu.Step("memcheck", "every kernel", 60, (sys.executable, "-c", "print('ERROR SUMMARY: 0 errors')")),
        gpu.Step("tests", "pytest", 60, (sys.executable, "-c", "raise SystemExit(3)")),
    ]
    monkeypatch.setattr(gpu, "steps", lambda out, quick=False: plan)
    out = tmp_path / "out"
    assert command.main(["gpu", "--out", str(out), "--quick"]) == 1
    run = json.loads((out / "gpu.json").read_text())
    assert [step["outcome"] for step in run["steps"]] == ["passed", "failed: exit status 3"]
    assert "| segment | cuda | whole | at most 0.005 | not measured |" in (out / "summary.md").read_text()
    assert command.main(["report", str(out / "gpu.json"), "--out", str(tmp_path / "page")]) == 0
    text = (tmp_path / "page" / "report.md").read_text()
    assert "emulated GPU" in text
    assert "| memcheck | every kernel | passed | 0 | ERROR SUMMARY: 0 errors |" in text
    assert command.main(["gpu", "--out", str(out), "--step", "mem*"]) == 0
    capsys.readouterr()
    assert command.main(["gpu", "--out", str(out), "--step", "nonsense"]) == 2
    assert "no step is called ['nonsense']; there are: " in capsys.readouterr().err


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


def test_runs_of_a_study_stand_side_by_side():
    def study(*points, **more):
        keys = ("x", "median", "accuracy", "busy_cores")
        return {
            "x": "threads",
            "points": [dict(zip(keys, p, strict=True), values=[p[1]]) for p in points],
            **more,
        }

    text = studies.table(
        {"one": study((1, 1.0, None, 0.9), (2, 0.5, None, 1.8)), "other": study((2, 0.25, 0.7, None))}
    )
    head, _, first, second = text.splitlines()
    assert (
        head
        == "| threads | one: ms (min to max) | cores busy | other: ms (min to max) | adjusted Rand index |"
    )
    assert first == "| 1 | 1000 (1000 to 1000) | 0.90 |  |  |"
    assert second == "| 2 | 500 (500 to 500) | 1.80 | 250 (250 to 250) | 0.700 |"


def test_the_cores_that_threads_keep_busy_are_counted(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    found = studies.measure(studies.chosen(["threads-segment"])[0], "cpu", 2, True)
    assert [point["x"] for point in found["points"]] == [1, 2]
    assert all(0 < point["busy_cores"] < point["x"] + 0.5 for point in found["points"])


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
    assert "On a GPU: not measured." in text
    assert "### series-frames\n\nNot measured." in text
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


def test_who_is_fast_runs_more_than_once_a_round(monkeypatch):
    """The median of a row of runs is the time of a round, and the first of them a stage of its own."""
    clock = iter(range(10**6))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock) * 0.04)  # a run seems to take 0.04 s
    monkeypatch.setattr(timing, "wake_cores", lambda: None)
    monkeypatch.setattr(timing, "PAUSE", 0)
    seconds = itertools.count(1)
    fast = Contender("fast", lambda: {"whole": float(next(seconds))})
    rounds = timing.interleave([fast], rounds=2)["fast"]
    assert [each["whole"] for each in rounds] == [5, 10]  # 2 to warm up, then 3 to 7 and 8 to 12
    assert [each["whole" + FIRST] for each in rounds] == [3, 8]


def test_the_first_run_is_compared_with_the_only_one_of_the_baseline():
    slow, fast = [{"whole": 6.0}, {"whole": 8.0}], [{"whole": 1.0, "whole" + FIRST: 2.0}] * 2
    ratios = {
        (row.contender, row.stage): row.ratio for row in timing.rows({"slow": slow, "fast": fast}, "slow")
    }
    assert ratios["fast", "whole"] == 7
    assert ratios["fast", "whole" + FIRST] == 3.5
    assert ratios["slow", "whole"] is None
