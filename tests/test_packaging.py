"""What is installed: the demo is found in a checkout and in a wheel, and no runtime is forced on anyone."""

from __future__ import annotations

import tomllib

import pytest

from onnxtweak import demo_files
from onnxtweak.errors import MachineError


def test_a_checkout_has_the_demo(root):
    files = demo_files.demo_files()
    assert files.model.parent == files.data.parent
    assert files.model.read_bytes() == (root / "models" / "digits_cnn3.onnx").read_bytes()


def test_an_installed_wheel_has_the_demo(tmp_path, monkeypatch):
    carried = tmp_path / "onnxtweak" / "_demo"
    carried.mkdir(parents=True)
    for name in ("digits_cnn3.onnx", "digits.npz"):
        (carried / name).write_bytes(b"")
    monkeypatch.setattr(demo_files, "__file__", str(tmp_path / "onnxtweak" / "demo_files.py"))
    assert demo_files.demo_files() == demo_files.DemoFiles(
        carried / "digits_cnn3.onnx", carried / "digits.npz"
    )


def test_a_broken_installation_is_the_machines_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_files, "__file__", str(tmp_path / "onnxtweak" / "demo_files.py"))
    with pytest.raises(MachineError, match="demo's model and data are missing"):
        demo_files.demo_files()


def test_what_the_wheel_takes_along_exists(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    forced = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert {"onnxtweak/_demo/digits_cnn3.onnx", "onnxtweak/_demo/digits.npz"} <= set(forced.values())
    assert [source for source in forced if not (root / source).is_file()] == []


def test_types_are_shipped(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["onnxtweak"]
    assert (root / "onnxtweak" / "py.typed").is_file()


def test_a_runtime_is_an_extra_never_a_dependency(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not any(name.startswith("onnxruntime") for name in project["dependencies"])
    assert {"cpu", "gpu", "dask", "dev"} <= set(project["optional-dependencies"])
