"""The public functions: the command line's words, and doctests that run."""

from __future__ import annotations

import doctest
import inspect as python
import subprocess
import sys

import pytest

import onnxtweak
from onnxtweak import api
from onnxtweak.cli.main import program
from onnxtweak.errors import UsageError
from tests.support.weak import TARGET, weak_mlp


def test_examples_in_the_docstrings_run():
    found = doctest.testmod(api, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert found.attempted >= 8 and found.failed == 0


@pytest.mark.parametrize("name", onnxtweak.__all__)
def test_every_name_is_a_command_and_explained(name):
    assert name in program.commands
    function = getattr(onnxtweak, name)
    assert function.__module__ == "onnxtweak.api" and python.getdoc(function)


def test_the_package_itself_is_light(root):
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "import onnxtweak; dir(onnxtweak); print('numpy' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="no attribute 'jion'"):
        onnxtweak.jion  # noqa: B018


def test_from_join_to_revert(tmp_path):
    model, data = weak_mlp(tmp_path)
    output, tweak, page = (tmp_path / name for name in ("o.onnx", "t.safetensors", "r.html"))
    files = {"output": output, "tweak": tweak, "report": page}
    made = onnxtweak.join(model, data=data, target=TARGET, count=5, max_overall_drop="1/2", **files)
    assert made.choice.n == (5,) and page.is_file()
    assert onnxtweak.diff(model, output).checks
    assert onnxtweak.apply(model, tweak, tmp_path / "again.onnx").output.sha256 == made.output.sha256
    onnxtweak.revert(output, tmp_path / "base.onnx")
    assert (tmp_path / "base.onnx").read_bytes() == model.read_bytes()


@pytest.mark.parametrize(
    ("options", "what", "hint"),
    [
        ({"max_overal_drop": 1}, "unknown option `max_overal_drop`", "`max_overall_drop`"),
        ({"count": "many"}, "'many' is not a whole number", ""),
        ({"data": None}, "`data` is missing", ""),
        ({"penalty": 2}, "unknown option `penalty`", "known"),
    ],
)
def test_options_are_strict(options, what, hint):
    with pytest.raises(UsageError) as raised:
        onnxtweak.join("m.onnx", **{"data": "d.npz", "target": 1, **options})
    assert what in raised.value.what and hint in raised.value.hint
