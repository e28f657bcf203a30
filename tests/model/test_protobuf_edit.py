"""Byte edits of protobuf messages."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import StringStringEntryProto, helper

from onnxtweak.errors import ModelError
from onnxtweak.model.file import protobuf_edit
from tests.support import nets


def test_scan_finds_every_record_of_a_model():
    proto = nets.mlp()
    data = proto.SerializeToString()
    found = list(protobuf_edit.scan(data))
    assert found[0].start == 0 and found[-1].end == len(data)
    assert all(one.end == other.start for one, other in pairwise(found))
    (graph,) = protobuf_edit.fields(found, 7)
    assert data[graph.value : graph.end] == proto.graph.SerializeToString()
    nodes = protobuf_edit.fields(list(protobuf_edit.scan(data, graph.value, graph.end)), 1)
    assert [data[node.value : node.end] for node in nodes] == [
        node.SerializeToString() for node in proto.graph.node
    ]


@given(st.integers(0, 2**63))
def test_varint_is_read_back(number):
    encoded = protobuf_edit.varint(number)
    (field,) = protobuf_edit.scan(b"\x08" + encoded)
    assert field.end == 1 + len(encoded)
    assert len(encoded) == max(1, -(-number.bit_length() // 7))


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",  # no length
        b"\x0a\x05abc",  # longer than the data
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a length of exabytes
        b"\x08\x80\x80",  # a number without an end
        b"\x08" + b"\x80" * 11 + b"\x01",  # a number of more than ten bytes
        b"\x02\x00",  # field number 0
        b"\x0b\x0c",  # a group
        b"\x0e",  # wire type 6
        b"\x0d\x00\x00",  # half a fixed32
    ],
)
def test_malformed_data_is_refused(data):
    with pytest.raises(ModelError, match="damaged protobuf"):
        list(protobuf_edit.scan(data))


@given(st.binary(max_size=60))
def test_scan_of_anything_ends_or_refuses(data):
    try:
        found = list(protobuf_edit.scan(data))
    except ModelError:
        return
    assert sum(field.end - field.start for field in found) == len(data)


def applied(data, edits):
    chunks, back = protobuf_edit.apply(data, edits)
    return b"".join(chunks), back


@given(st.binary(min_size=1, max_size=40), st.data())
def test_edits_are_undone_by_what_apply_returns(data, draw):
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    edits = [
        protobuf_edit.Edit(start, end, draw.draw(st.binary(max_size=5)))
        for start, end in zip(cuts[::2], cuts[1::2], strict=False)
    ]
    edited, back = applied(data, edits)
    assert len(edited) == len(data) + sum(edit.growth for edit in edits)
    assert applied(edited, back)[0] == data


def test_insertions_at_one_place_keep_their_order():
    edited, back = applied(
        b"ab",
        [protobuf_edit.Edit(1, 1, b"1"), protobuf_edit.Edit(1, 1, b"2"), protobuf_edit.Edit(1, 2, b"c")],
    )
    assert edited == b"a12c"
    assert applied(edited, back)[0] == b"ab"


@pytest.mark.parametrize("edits", [[(0, 2), (1, 3)], [(2, 9)], [(-1, 0)], [(3, 2)]])
def test_edits_that_overlap_or_leave_the_file_are_refused(edits):
    with pytest.raises(ModelError):
        protobuf_edit.apply(b"abcd", [protobuf_edit.Edit(start, end, b"") for start, end in edits])


def test_record_and_relength_make_a_readable_message():
    entry = StringStringEntryProto(key="k", value="v")
    assert protobuf_edit.record(1, b"k") + protobuf_edit.record(2, b"v") == entry.SerializeToString()
    outer = helper.make_node("Relu", ["x"], ["y"]).SerializeToString()
    data = protobuf_edit.record(1, outer)
    (field,) = protobuf_edit.scan(data)
    insertion = protobuf_edit.Edit(field.end, field.end, protobuf_edit.record(3, b"n" * 200))
    edited, _ = applied(data, [insertion, protobuf_edit.relength(field, [insertion])])
    (again,) = protobuf_edit.scan(edited)
    assert edited[again.value : again.end] == outer + protobuf_edit.record(3, b"n" * 200)
