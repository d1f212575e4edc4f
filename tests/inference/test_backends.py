"""Backends give the network's own answer, on the installed networks and a small one, and call nobody."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bleedmap
from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.datasets.splits import read_split
from bleedmap.errors import SettingsError, WeightsError
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.outline import segment_slices
from bleedmap.inference.weights import WeightsFile, installed, locate
from tiny_network import SIZE


def test_openvino_gives_the_networks_own_answer(tiny: WeightsFile) -> None:
    backend = OpenVinoBackend(tiny, "fp32")
    slices = np.random.default_rng(0).random((3, SIZE, SIZE), np.float32)
    low, high = (np.float16(60 * part) for part in (70 / 120, 110 / 120))
    expected = 1 / (1 + np.exp(-(60 * slices - low))) / (1 + np.exp(-(high - 60 * slices)))
    np.testing.assert_allclose(backend.predict(slices[:, None]).probability, expected, atol=1e-4)
    assert (backend.record.device, backend.record.precision) == ("cpu", "fp32")


def test_a_slice_does_not_depend_on_its_company(unet: WeightsFile) -> None:
    slices = np.random.default_rng(0).random((5, SIZE, SIZE), np.float32)
    backend = OpenVinoBackend(unet)
    alone = backend.predict(slices[3:4, None]).probability
    np.testing.assert_array_equal(backend.predict(slices[:, None]).probability[3:4], alone)
    assert backend.predict(slices[:0, None]).probability.shape == (0, SIZE, SIZE)
    one_by_one = OpenVinoBackend(unet, one_by_one=True)
    np.testing.assert_array_equal(one_by_one.predict(slices[3:4, None]).probability, alone)


def test_after_an_error_the_next_slices_are_computed_as_ever(unet: WeightsFile) -> None:
    """One slice fits, the next does not while the first is under way."""
    slices = np.random.default_rng(0).random((5, 1, SIZE, SIZE), np.float32)
    backend = OpenVinoBackend(unet)
    expected = backend.predict(slices).probability
    for bad in (1, 3):
        torn = [*slices[:bad], slices[bad, :, 1:], *slices[bad + 1 :]]
        with pytest.raises(RuntimeError):
            backend.predict(torn)  # type: ignore[arg-type]
        np.testing.assert_array_equal(backend.predict(slices).probability, expected)


def test_backends_agree(unet: WeightsFile) -> None:
    from bleedmap.inference.torch_backend import TorchBackend

    slices = np.random.default_rng(0).random((10, 1, SIZE, SIZE), np.float32)
    in_torch = TorchBackend(unet).predict(slices).probability
    assert np.ptp(in_torch) > 0.2  # else agreement would say nothing
    np.testing.assert_allclose(OpenVinoBackend(unet, "fp32").predict(slices).probability, in_torch, atol=1e-4)
    np.testing.assert_allclose(OpenVinoBackend(unet, "auto").predict(slices).probability, in_torch, atol=0.02)


@pytest.mark.parametrize("installed_name", [one.name for one in installed()])
def test_backends_agree_on_real_slices(installed_name: str, ct_ich_root: Path) -> None:
    """The installed weights on real slices: the same masks from OpenVINO and from torch."""
    from bleedmap.inference.torch_backend import TorchBackend

    weights, data = locate(installed_name), open_ct_ich(ct_ich_root)
    names = read_split(locate("ct-ich-first").path.with_suffix(".split.json")).test[::60]
    hu = np.stack([data.read_hu(data.slice(name)) for name in names])
    backends = (OpenVinoBackend(weights), TorchBackend(weights))
    one, other = (segment_slices(hu, weights.preprocessing, backend).probability for backend in backends)
    assert one.max() > 0.9
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert ((one >= 0.5) != (other >= 0.5)).sum() <= 2  # of 3.8 million pixels


def test_a_device_that_is_not_there_is_refused(unet: WeightsFile) -> None:
    from bleedmap.inference.torch_backend import TorchBackend

    with pytest.raises(SettingsError, match="'tpu', which torch"):
        TorchBackend(unet, "tpu")


def test_torch_refuses_what_is_not_its_network(tiny: WeightsFile) -> None:
    pytest.importorskip("torch")
    from bleedmap.inference.torch_backend import TorchBackend

    with pytest.raises(WeightsError, match="weights missing"):
        TorchBackend(tiny)


_ALONE = """
import os, socket, sys
def refuse(*_, **__): print("CALLED", flush=True); os._exit(9)
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = socket.getaddrinfo = refuse
import atexit, time, numpy as np
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.weights import locate
backend = OpenVinoBackend(locate(sys.argv[1]))
said = backend.predict(np.full((1, 1, 64, 64), 0.7, np.float32))
print(said.probability.max() > 0.9, sys.modules.get("openvino_telemetry"))
atexit.register(time.sleep, 0.5)  # a sender's thread would have its chance
"""


def test_nobody_is_called(tiny: WeightsFile, tmp_path: Path) -> None:
    """OpenVINO's import reports to its maker, unless hidden; and only outside continuous integration."""
    home = tmp_path / "home"
    home.mkdir()
    keep = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, str(tiny.path)],
        env=keep | {"HOME": str(home)}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "None"]
    assert list(home.iterdir()) == []


def test_openvino_is_imported_in_one_place() -> None:
    """Anywhere else the import would report before it could be kept from doing so."""
    source = Path(str(bleedmap.__file__)).parent
    importing = re.compile(r"^\s*(import|from)\s+openvino\b|import_module\(.openvino", re.MULTILINE)
    found = [path.name for path in source.rglob("*.py") if importing.search(path.read_text(encoding="utf-8"))]
    assert found == ["openvino_runtime.py"]
