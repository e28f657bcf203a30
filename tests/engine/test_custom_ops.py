"""Libraries of custom operators are refused with a clear error when they cannot be loaded."""

from __future__ import annotations

import pytest

from onnxtweak.cli.main import main
from onnxtweak.demo_files import demo_files
from onnxtweak.engine.session import open_session
from onnxtweak.errors import ModelError, UsageError
from onnxtweak.settings import EngineSettings
from tests.support import adversarial_models


@pytest.mark.parametrize("content", [None, b"not a library"])
def test_what_is_no_library_is_refused(content, tmp_path):
    library = tmp_path / "ops.so"
    if content is not None:
        library.write_bytes(content)
    model = demo_files().model
    engine = EngineSettings(device="cpu", custom_ops=(str(library),))
    with pytest.raises(UsageError, match="cannot load the library of custom operators") as caught:
        open_session(model, model.parent, engine, model)
    assert str(library) in caught.value.where and caught.value.hint


def test_a_model_with_unknown_operators_says_which_option_helps(tmp_path):
    path = adversarial_models.write("a custom domain", tmp_path)
    with pytest.raises(ModelError, match="Warp") as caught:
        open_session(path, tmp_path, EngineSettings(device="cpu"), path)
    assert "--custom-ops" in caught.value.hint


def test_the_option_reaches_the_runtime(tmp_path, capsys):
    files = demo_files()
    arguments = [str(files.model), "-d", f"{files.data}#test", "--custom-ops", str(tmp_path / "none.so")]
    assert main(["evaluate", *arguments]) == 2
    assert "none.so" in capsys.readouterr().err
