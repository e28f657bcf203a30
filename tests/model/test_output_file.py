"""Files of a command appear together or not at all."""

from __future__ import annotations

import os

import pytest

from onnxtweak.errors import OutputError
from onnxtweak.model.file.model_file import read_model
from onnxtweak.model.file.output_file import Delivery
from onnxtweak.model.file.output_paths import check_distinct, check_output, same_file
from tests.model.test_model_file import left_in, with_external_data


def test_nothing_has_its_name_before_the_end(tmp_path):
    with Delivery() as delivery:
        for name in ("a", "b"):
            delivery.add(tmp_path / name, [name.encode()])
        assert not {"a", "b"} & set(left_in(tmp_path))
        delivery.commit()
        assert {"a", "b"} <= set(left_in(tmp_path))
    assert left_in(tmp_path) == ["a", "b"]
    assert [(tmp_path / name).read_text() for name in "ab"] == ["a", "b"]


def test_without_a_commit_nothing_is_left(tmp_path):
    with pytest.raises(KeyboardInterrupt), Delivery() as delivery:
        delivery.add(tmp_path / "a", [b"a"])
        raise KeyboardInterrupt
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("links", [True, False])
def test_a_rename_that_fails_takes_the_others_back(tmp_path, monkeypatch, number, links):
    (tmp_path / "b").write_bytes(b"old")
    (tmp_path / "stale").write_bytes(b"stale")
    done = []
    link, replace = os.link, os.replace

    def failing(how, source, target, **options):
        if os.fspath(target).endswith(("/a", "/b", "/c")) and "part" in os.fspath(source):
            if len(done) == number:
                done.append(target)
                raise OSError(5, "Input/output error")
            done.append(target)
        if how is link and not links:
            raise PermissionError(1, "Operation not permitted")
        return how(source, target, **options)

    with Delivery(force=True) as delivery:
        for name in "abc":
            delivery.add(tmp_path / name, [b"new"])
        monkeypatch.setattr(os, "link", lambda *a, **o: failing(link, *a, **o))
        monkeypatch.setattr(os, "replace", lambda *a, **o: failing(replace, *a, **o))
        with pytest.raises(OutputError, match="Input/output"):
            delivery.commit([tmp_path / "stale"])
        monkeypatch.undo()
    assert left_in(tmp_path) == ["b", "stale"]
    assert (tmp_path / "b").read_bytes() == b"old" and (tmp_path / "stale").read_bytes() == b"stale"


def test_a_stale_file_that_cannot_go_keeps_all_as_it_was(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with Delivery(force=True) as delivery:
        delivery.add(tmp_path / "a", [b"new"])
        with pytest.raises(OutputError):
            delivery.commit([tmp_path / "absent"])
    assert left_in(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"


def test_what_another_process_wrote_meanwhile_stays(tmp_path):
    with Delivery() as delivery:
        delivery.add(tmp_path / "a", [b"a"])
        delivery.add(tmp_path / "b", [b"b"])
        (tmp_path / "b").write_bytes(b"theirs")
        with pytest.raises(OutputError, match="exists"):
            delivery.commit()
    assert left_in(tmp_path) == ["b"] and (tmp_path / "b").read_bytes() == b"theirs"


def test_external_data_waits_with_its_model(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    model = read_model(with_external_data(tmp_path / "here", ("w.bin", "sub/v.bin")))
    out = tmp_path / "there" / "out.onnx"
    with pytest.raises(OutputError, match="folder does not exist"), Delivery() as delivery:
        place, copies = delivery.add_model(model, out, [model.data])
        assert not out.exists() and not any(copy.exists() for copy in copies) and len(copies) == 2
        assert read_model(place).external[0].sha256 == model.external[0].sha256
        delivery.add(tmp_path / "absent" / "t", [b""])
    assert list((tmp_path / "there").iterdir()) == []


def test_the_same_output_twice_is_refused(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    (tmp_path / "one").touch()
    os.link(tmp_path / "one", tmp_path / "two")
    pairs = [("sub/a", "link/a"), ("sub/a", "sub/../sub/a"), ("one", "two"), ("a", "a")]
    for one, two in pairs:
        assert same_file(tmp_path / one, tmp_path / two)
        with pytest.raises(OutputError, match="same file"):
            check_distinct([tmp_path / "other", tmp_path / one, tmp_path / two])
    check_distinct([tmp_path / "sub" / "a", tmp_path / "a"])


def test_devices_and_what_leads_to_them_are_never_replaced(tmp_path):
    target = tmp_path / "captured"
    (tmp_path / "link").symlink_to("/dev/stdout")
    number = os.open(target, os.O_WRONLY | os.O_CREAT)
    try:
        for path in ("/dev/null", f"/proc/self/fd/{number}", f"/dev/fd/{number}", tmp_path / "link"):
            for force in (True, False):
                with pytest.raises(OutputError, match="regular file"):
                    check_output(path, force=force)
    finally:
        os.close(number)
