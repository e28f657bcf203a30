"""`revert`, `diff` and `verify` on the command line, on the digits that come with onnxtweak."""

from __future__ import annotations

import json

import onnx
import pytest

from onnxtweak.cli.main import main
from onnxtweak.demo_files import demo_files


@pytest.fixture(scope="module")
def tweaked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tweaked")
    assert main(["demo", "-o", str(folder), "-q"]) == 0
    return folder / "tweaked.onnx"


def test_revert_gives_the_base_back(tweaked, tmp_path, capsys):
    assert main(["revert", str(tweaked), "-o", str(tmp_path / "base.onnx")]) == 0
    assert (tmp_path / "base.onnx").read_bytes() == demo_files().model.read_bytes()
    assert "has the recorded sha256" in " ".join(capsys.readouterr().out.split())


def test_all_and_steps_exclude_each_other(tweaked, tmp_path, capsys):
    assert main(["revert", str(tweaked), "-o", str(tmp_path / "b.onnx"), "--all", "--steps", "1"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_more_steps_than_tweaks_are_refused(tweaked, tmp_path, capsys):
    assert main(["revert", str(tweaked), "-o", str(tmp_path / "b.onnx"), "--steps", "2"]) == 2
    assert "one tweak inside" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["text", "json", "markdown"])
def test_diff_names_every_difference(tweaked, form, capsys):
    assert main(["diff", str(demo_files().model), str(tweaked), "-f", form]) == 0
    out = capsys.readouterr().out
    assert "graph.node" in out and "unharmed" in out
    if form == "json":
        found = json.loads(out)
        assert found["command"] == "diff"
        assert all(difference["expected"] for difference in found["differences"])


def test_a_strange_difference_ends_with_three(tweaked, tmp_path, capsys):
    proto = onnx.load(tweaked)
    proto.producer_name = "somebody else"
    (tmp_path / "edited.onnx").write_bytes(proto.SerializeToString())
    assert main(["diff", str(demo_files().model), str(tmp_path / "edited.onnx"), "-f", "json"]) == 3
    out, err = capsys.readouterr()
    strange = [d for d in json.loads(out)["differences"] if not d["expected"]]
    assert [d["where"] for d in strange] == ["producer_name"]
    assert "no tweak accounts for" in err
    assert main(["verify", str(tmp_path / "edited.onnx")]) == 3
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["text", "json", "markdown"])
def test_verify_from_the_file_alone_and_with_samples(tweaked, form, capsys):
    assert main(["verify", str(tweaked), "-f", form]) == 0
    alone = capsys.readouterr().out
    files = demo_files()
    arguments = ["--base", str(files.model), "-d", f"{files.data}#test", "-f", form]
    assert main(["verify", str(tweaked), *arguments]) == 0
    full = capsys.readouterr().out
    assert "simulation" in full and "simulation" not in alone
    if form == "json":
        assert json.loads(alone)["before"] is None
        found = json.loads(full)
        assert found["after"]["overall"] > found["before"]["overall"]
        assert all(check["passed"] for check in found["checks"])


def test_verify_of_an_untweaked_file_says_so(capsys):
    assert main(["verify", str(demo_files().model)]) == 2
    assert "no tweak inside" in capsys.readouterr().err
