"""The array layer: which GPU there is and why not, what counts as an array, where results live."""

from __future__ import annotations

import importlib.util
import logging
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import gpuseg
from gpuseg import arrays
from gpuseg.arrays import Device, DeviceError

CPU, GPU = Device("cpu"), Device("cuda", 0)


@pytest.fixture
def fresh(monkeypatch):
    """gpu_status as at the start of a process, before and after."""
    monkeypatch.delenv("GPUSEG_FORCE_CPU", raising=False)
    arrays.gpu_status.cache_clear()
    arrays._log_once.cache_clear()
    yield
    arrays.gpu_status.cache_clear()
    arrays._log_once.cache_clear()


def no_cupy(monkeypatch):
    """As where CuPy is not installed."""

    def missing():
        raise ModuleNotFoundError("No module named 'cupy'")

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(arrays, "cupy_module", missing)


def fake_cupy(monkeypatch, *, driver=13000, built_for=13000, devices=1, probe=42, launch_error=None):
    """A module `cupy` on a machine with such a driver and GPU."""

    class CUDARuntimeError(RuntimeError):
        pass

    def device_count():
        if devices == "error":
            raise CUDARuntimeError("cudaErrorInitializationError: initialization error\nsecond line")
        return devices

    class RawKernel:
        def __init__(self, code, name, *options):
            assert name in code

        def __call__(self, grid, block, args):
            if launch_error:
                raise launch_error
            args[0][0] = probe

    cupy = ModuleType("cupy")
    cupy.ndarray = type("ndarray", (), {})
    cupy.zeros, cupy.int32, cupy.RawKernel = np.zeros, np.int32, RawKernel
    runtime = SimpleNamespace(
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: built_for,
        getDeviceCount=device_count,
        getDeviceProperties=lambda index: {"name": f"GPU number {index}".encode(), "major": 9, "minor": 0},
        memGetInfo=lambda: (3 << 30, 4 << 30),
    )

    class CudaDevice:
        def __init__(self, index):
            self.index = index

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    cupy.cuda = SimpleNamespace(runtime=runtime, Device=CudaDevice)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


# --- which GPU there is, and why not ---------------------------------------------------------------------


def test_no_cupy(monkeypatch, fresh):
    no_cupy(monkeypatch)
    usable, reason = arrays.gpu_status()
    assert not usable
    assert "CuPy cannot be imported" in reason
    assert "pip install 'gpuseg[cuda" in reason


@pytest.mark.parametrize("error", [ImportError("libcublas.so.13: cannot open shared object file"), OSError("bad ELF"), AttributeError(), RuntimeError("first line\nsecond line")])  # fmt: skip
def test_a_broken_cupy(monkeypatch, fresh, error):
    def broken():
        raise error

    monkeypatch.setattr(arrays, "cupy_module", broken)
    usable, reason = arrays.gpu_status()
    assert not usable
    assert type(error).__name__ in reason
    assert str(error).partition("\n")[0] in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("machine", "wanted"),
    [
        ({"driver": 0}, "no NVIDIA driver"),
        ({"driver": 12080}, "the driver knows CUDA 12, this CuPy needs CUDA 13; update the driver"),
        ({"devices": 0}, "no CUDA device is visible"),
        ({"devices": "error"}, "cudaErrorInitializationError: initialization error"),
        ({"probe": 41}, "a probe kernel gave a wrong result"),
        ({"launch_error": RuntimeError("CUDA_ERROR_NO_BINARY_FOR_GPU")}, "CUDA_ERROR_NO_BINARY_FOR_GPU"),
        ({"launch_error": MemoryError()}, "MemoryError"),
        ({"launch_error": OSError("libnvrtc.so not found")}, "libnvrtc.so not found"),
    ],
)
def test_a_gpu_that_cannot_be_used(monkeypatch, fresh, machine, wanted):
    fake_cupy(monkeypatch, **machine)
    usable, reason = arrays.gpu_status()
    assert not usable
    assert wanted in reason
    assert "\n" not in reason
    assert arrays.cuda_devices() == []
    assert arrays.resolve_device("auto") == CPU
    with pytest.raises(
        DeviceError, match="`device` is 'cuda', but no GPU can be used: .*device='cpu'"
    ) as caught:
        arrays.resolve_device("cuda")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("driver", "built_for"), [(13000, 13000), (13020, 13000), (13000, 13020), (14000, 13000)]
)
def test_a_gpu_that_can(monkeypatch, fresh, driver, built_for):
    fake_cupy(monkeypatch, driver=driver, built_for=built_for)
    assert arrays.gpu_status() == (True, "GPU number 0")


def test_the_variable_that_forces_the_cpu(monkeypatch, fresh):
    fake_cupy(monkeypatch)
    monkeypatch.setenv("GPUSEG_FORCE_CPU", "1")
    assert arrays.gpu_status() == (False, "the environment variable GPUSEG_FORCE_CPU is 1")


def test_the_status_is_found_out_once(monkeypatch, fresh):
    cupy = fake_cupy(monkeypatch)
    assert arrays.gpu_status()[0]
    cupy.cuda.runtime.driverGetVersion = lambda: 0
    assert arrays.gpu_status()[0]


def test_devices_by_number(monkeypatch, fresh):
    fake_cupy(monkeypatch, devices=2)
    first, second = arrays.cuda_devices()
    assert second["index"] == 1
    assert second["name"] == "GPU number 1"
    assert second["compute_capability"] == "9.0"
    assert second["memory_total"] == 4 << 30
    assert second["memory_free"] == 3 << 30
    assert first["index"] == 0
    assert arrays.resolve_device("cuda:1") == Device("cuda", 1)
    assert arrays.resolve_device("cuda") == GPU
    with pytest.raises(DeviceError, match="`device` is 'cuda:2', but there are 2 CUDA devices"):
        arrays.resolve_device("cuda:2")


@pytest.mark.parametrize(
    "device", ["gpu", "", "cpu:0", "cuda:-1", "cuda:x", "auto:1", "CUDA", None, 0, "cuda:1:2"]
)
def test_names_that_are_no_device(device):
    with pytest.raises(ValueError, match="`device` is .*; one of 'auto', 'cpu', 'cuda', 'cuda:1' is needed"):
        arrays.resolve_device(device)


def test_devices_are_values():
    assert str(CPU) == "cpu"
    assert str(Device("cuda", 1)) == "cuda:1"
    assert arrays.resolve_device(GPU) is GPU
    assert arrays.resolve_device("cpu") == CPU
    with CPU.current:
        CPU.synchronize()


def test_auto_says_once_why_it_is_the_cpu(monkeypatch, fresh, caplog):
    no_cupy(monkeypatch)
    with caplog.at_level(logging.INFO, "gpuseg"):
        for _ in range(3):
            assert arrays.resolve_device("auto") == CPU
    (record,) = caplog.records
    assert "working on the CPU: CuPy cannot be imported" in record.getMessage()


def test_cuda_without_a_gpu_is_a_device_error(monkeypatch, fresh):
    no_cupy(monkeypatch)
    image = np.random.default_rng(0).normal(size=(60, 60))
    for call in (gpuseg.segment, gpuseg.LocalCorrelationMap(5, 5).transform):
        with pytest.raises(gpuseg.DeviceError, match=r"`device` is 'cuda', but .* CuPy cannot be imported"):
            call(image, device="cuda")
    assert issubclass(DeviceError, RuntimeError)


# --- what counts as an array -----------------------------------------------------------------------------

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


class OnlyDLPack:
    """An array of a library that knows DLPack and nothing else."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **keywords):
        return self._array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class OnlyArray:
    """An array of a library that knows __array__ and nothing else."""

    def __array__(self, dtype=None, copy=None):
        return np.array(VALUES, dtype=dtype)


def test_numpy_arrays_come_back_themselves():
    for array in (VALUES, VALUES[::2, ::-1], VALUES.astype(">f4"), np.asfortranarray(VALUES)):
        assert arrays.ingest(array) is array
        assert arrays.to_numpy(array) is array


def test_dlpack_without_a_copy():
    got = arrays.ingest(OnlyDLPack(VALUES))
    np.testing.assert_array_equal(got, VALUES)
    assert np.shares_memory(got, VALUES)


def test_read_only_dlpack():
    frozen = VALUES.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(arrays.ingest(OnlyDLPack(frozen)), VALUES)


@pytest.mark.parametrize("array", [VALUES.tolist(), tuple(map(tuple, VALUES.tolist())), OnlyArray()])
def test_array_likes(array):
    got = arrays.ingest(array)
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, VALUES)


def test_masked_arrays_lose_their_masked_pixels():
    masked = np.ma.masked_array(np.arange(6, dtype=np.uint16).reshape(2, 3), mask=[[0, 1, 0], [0, 0, 1]])
    got = arrays.ingest(masked)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [[0, np.nan, 2], [3, 4, np.nan]])
    wide = np.ma.masked_array(np.array([[2**31 - 1, 0]], np.int32), mask=[[False, True]])
    assert arrays.ingest(wide)[0, 0] == 2**31 - 1
    assert arrays.ingest(np.ma.masked_array(VALUES)).dtype == np.float32


def test_array_api_strict():
    strict = pytest.importorskip("array_api_strict")
    got = arrays.ingest(strict.asarray(VALUES))
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, VALUES)


def test_dask():
    dask = pytest.importorskip("dask.array", exc_type=ImportError)
    lazy = dask.from_array(VALUES, chunks=(2, 3))
    got = arrays.ingest(lazy)
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, VALUES)
    image = np.random.default_rng(0).normal(size=(40, 40))
    wanted = gpuseg.segment(image, random_state=0, descriptor=gpuseg.LocalCorrelationMap(4, 4), device="cpu")
    lazy = dask.from_array(image, chunks=16)
    got = gpuseg.segment(lazy, random_state=0, descriptor=gpuseg.LocalCorrelationMap(4, 4), device="cpu")
    np.testing.assert_array_equal(got.labels, wanted.labels)


def test_torch():
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(arrays.ingest(torch.from_numpy(VALUES.copy())), VALUES)
    learnt = torch.tensor(VALUES.tolist(), requires_grad=True)
    np.testing.assert_array_equal(arrays.ingest(learnt), VALUES)
    reduced = torch.tensor([[1.5, 2.0]], dtype=torch.float16)
    assert arrays.ingest(reduced).dtype == np.float16


def test_a_tensor_that_needs_its_gradient():
    """As torch's: refuses DLPack until it is detached."""

    class Tensor(OnlyDLPack):
        def detach(self):
            return OnlyDLPack(self._array)

        def __dlpack__(self, **keywords):
            raise RuntimeError("Can't export tensors that require gradient, use tensor.detach()")

    np.testing.assert_array_equal(arrays.ingest(Tensor(VALUES)), VALUES)


# --- where things live -----------------------------------------------------------------------------------


def test_homes_and_moves(emulated_cuda):
    cupy = emulated_cuda()
    device = cupy.asarray(VALUES)
    assert arrays.home_of(device) == GPU
    assert arrays.home_of(VALUES) == arrays.home_of([1]) == arrays.home_of(None) == CPU
    assert arrays.move(device, GPU) is device
    assert arrays.move(VALUES, CPU) is VALUES
    np.testing.assert_array_equal(arrays.move(device, CPU), VALUES)
    assert isinstance(arrays.move(VALUES, GPU), cupy.ndarray)
    assert arrays.ingest(device) is device
    np.testing.assert_array_equal(arrays.to_numpy(device), VALUES)
    with GPU.current:
        GPU.synchronize()


def test_an_array_on_a_gpu_stays_there(emulated_cuda):
    cupy = emulated_cuda()
    device = cupy.asarray(VALUES)
    for name in ("auto", "cuda"):
        assert arrays.resolve_device(name, device) == GPU
    assert arrays.resolve_device("cpu", device) == CPU


def test_a_cuda_tensor_becomes_a_cupy_array(emulated_cuda, monkeypatch):
    cupy = emulated_cuda()
    taken = []
    monkeypatch.setattr(
        cupy, "from_dlpack", lambda tensor: taken.append(tensor) or cupy.asarray(VALUES), raising=False
    )
    tensor = SimpleNamespace(__dlpack_device__=lambda: (2, 0))
    assert arrays.home_of(arrays.ingest(tensor)) == GPU
    assert taken == [tensor]


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0", "cpu"])
@pytest.mark.parametrize("home", ["host", "gpu"])
def test_results_live_where_the_input_lives(emulated_cuda, device, home):
    cupy = emulated_cuda()
    image = np.random.default_rng(0).normal(size=(30, 33)).astype(np.float32)
    kind = cupy.ndarray if home == "gpu" else np.ndarray
    given = cupy.asarray(image) if home == "gpu" else image
    descriptor = gpuseg.LocalCorrelationMap(3, 3, 49)
    descriptors = descriptor.transform(given, device=device)
    assert type(descriptors.values) is type(descriptors.usable) is kind
    segmentation = gpuseg.segment(given, descriptor=descriptor, random_state=0, device=device)
    for name in ("image", "labels", "certainty", "components", "point_labels", "separability"):
        assert type(getattr(segmentation, name)) is kind, name
    assert type(segmentation.descriptors.values) is kind
    for name in ("explained_variance_ratio", "cluster_centers", "area_fractions"):
        assert type(getattr(segmentation, name)) is np.ndarray, name
    assert segmentation.device == ("cpu" if device == "cpu" else "cuda:0")
    predicted = segmentation.model.predict(given, device=device)
    assert type(predicted.labels) is kind
    np.testing.assert_array_equal(arrays.to_numpy(predicted.labels), arrays.to_numpy(segmentation.labels))


def test_a_mask_may_live_elsewhere_than_its_image(emulated_cuda):
    cupy = emulated_cuda()
    rng = np.random.default_rng(0)
    image, mask = rng.normal(size=(30, 33)), rng.random((30, 33)) < 0.9
    descriptor = gpuseg.LocalCorrelationMap(3, 3, 49)
    wanted = descriptor.transform(image, mask=mask, device="cuda").values
    for here, there in ((cupy.asarray(image), mask), (image, cupy.asarray(mask))):
        got = descriptor.transform(here, mask=there, device="cuda").values
        np.testing.assert_array_equal(arrays.to_numpy(got), wanted)
        labels = gpuseg.segment(here, mask=there, descriptor=descriptor, random_state=0, device="cuda").labels
        assert (arrays.to_numpy(labels)[~mask] == -1).all()


def test_namespaces(space):
    xp = arrays.namespace(space(VALUES))
    assert space.numpy(xp.concat([space(VALUES), space(VALUES)])).shape == (6, 4)


def test_cupy_is_not_imported_for_arrays_of_numpy(monkeypatch, fresh):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)

    def forbidden():
        raise AssertionError("cupy was imported")

    monkeypatch.setattr(arrays, "cupy_module", forbidden)
    assert arrays.home_of(VALUES) == CPU
    assert arrays.ingest(VALUES) is VALUES
    assert arrays.resolve_device("cpu", VALUES) == CPU
    assert arrays.move(VALUES, CPU) is VALUES


def test_the_machine_itself_gives_a_reason(fresh):
    usable, reason = arrays.gpu_status()
    assert reason
    if not usable and importlib.util.find_spec("cupy") is None:
        assert "CuPy cannot be imported (ModuleNotFoundError" in reason
    assert bool(arrays.cuda_devices()) == usable
