"""Loading and running models, and the errors when that fails."""

import gc
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxtweak.engine import session as sessions
from onnxtweak.engine.machine.memory_plan import PassContext, cut_taps, plan_batches
from onnxtweak.engine.measure import measure, probe_feeds
from onnxtweak.engine.session import Port, open_session, session_of
from onnxtweak.errors import DataError, MachineError, ModelError, UsageError
from onnxtweak.model.file.model_file import read_model
from onnxtweak.settings import EngineSettings
from onnxtweak.theta.state import bytes_per_neuron
from onnxtweak.types import Tap
from tests.model.test_model_file import with_external_data
from tests.support.nets import cnn3, mlp

CPU = EngineSettings(device="cpu")


@pytest.fixture
def saved(tmp_path):
    def save(proto):
        path = tmp_path / "model.onnx"
        path.write_bytes(proto.SerializeToString())
        return read_model(path)

    return save


def test_outputs_are_written_into_the_given_buffers(tmp_path):
    session = open_session(mlp(), tmp_path, CPU, "mlp")
    x = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    room = np.full((9, 4), np.nan, np.float32)
    session.run_into({"input": x}, {"logits": room[2:8]})
    np.testing.assert_array_equal(room[2:8], session.run({"input": x})[0])
    assert np.isnan(room[:2]).all() and np.isnan(room[8:]).all()


def test_it_tells_which_provider_got_the_nodes(tmp_path):
    session = open_session(cnn3(), tmp_path, CPU, "cnn")
    assert set(session.providers()) == {"CPUExecutionProvider"} and session.device == "cpu"


def test_a_file_keeps_the_sessions_of_its_small_models_while_it_is_held(saved, tmp_path, monkeypatch):
    file, proto = saved(mlp()), mlp()
    session = session_of(file, proto, CPU)
    assert session_of(file, proto.SerializeToString(), CPU) is session
    others = [
        session_of(file, mlp(classes=3), CPU),
        session_of(file, proto, EngineSettings(device="cpu", threads=1)),
        session_of(read_model(file.path), proto, CPU),
        session_of(file, proto, CPU, values=sessions._KEPT_VALUES + 1),
    ]
    with ThreadPoolExecutor(1) as pool:
        others.append(pool.submit(session_of, file, proto, CPU).result())
    assert session not in others and session_of(file, proto, CPU) is session
    monkeypatch.setattr(sessions, "_KEPT_BYTES", 100)
    assert session_of(file, proto, CPU) is not session
    gone = weakref.ref(session)
    del session, others, file
    gc.collect()
    assert gone() is None


def test_where_weights_are_in_other_files_no_session_is_kept(tmp_path):
    file = read_model(with_external_data(tmp_path, ("w.bin",), "model.onnx"))
    assert session_of(file, file.data, CPU) is not session_of(file, file.data, CPU)


def test_of_many_models_of_a_file_the_sessions_not_used_for_longest_are_given_up(saved, monkeypatch):
    monkeypatch.setattr(sessions, "_KEPT_SESSIONS", 2)
    file, protos = saved(mlp()), [mlp(classes=classes) for classes in (2, 3, 4)]
    first, second = (session_of(file, proto, CPU) for proto in protos[:2])
    assert session_of(file, protos[0], CPU) is first
    session_of(file, protos[2], CPU)
    assert session_of(file, protos[0], CPU) is first and session_of(file, protos[1], CPU) is not second


def test_threads_side_by_side_keep_no_more_sessions(saved, monkeypatch):
    file, opened = saved(mlp()), SimpleNamespace(device="cpu")
    monkeypatch.setattr(sessions, "open_session", lambda *_, **__: opened)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            turns = [pool.submit(session_of, file, b"%d" % (turn % 11), CPU) for turn in range(2000)]
        assert all(turn.result() is opened for turn in turns)
    finally:
        sys.setswitchinterval(usual)
    assert len(sessions._KEPT[file]) == sessions._KEPT_SESSIONS


def test_memory_is_returned_to_the_system_before_a_pass_where_that_or_the_model_is_large(saved, monkeypatch):
    freed, file = [], saved(mlp())
    monkeypatch.setattr(sessions, "malloc_trim", lambda: freed.append(1))
    session_of(file, file.data, CPU, values=1, samples=sessions._KEPT_VALUES)
    assert not freed
    session_of(file, file.data, CPU, values=2, samples=sessions._KEPT_VALUES)
    monkeypatch.setattr(sessions, "_KEPT_BYTES", 100)
    session_of(file, file.data, CPU, values=1)
    assert len(freed) == 2
    session_of(file, file.data, CPU)  # a look
    assert len(freed) == 2


def test_samples_the_model_rejects_are_a_data_error(tmp_path):
    session = open_session(mlp(), tmp_path, CPU, "some model")
    with pytest.raises(DataError, match="cannot run") as caught:
        session.run({"input": np.zeros((2, 5), np.float32)})
    assert caught.value.where == "some model"


def test_a_model_the_runtime_rejects_is_a_model_error(tmp_path):
    proto = mlp()
    proto.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match="cannot load"):
        open_session(proto, tmp_path, CPU, "model")


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="a CUDA runtime is here")
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_asking_for_a_gpu_and_getting_none_is_an_error(tmp_path, device):
    with pytest.raises(MachineError) as caught:
        open_session(mlp(), tmp_path, EngineSettings(device=device), "model")
    assert caught.value.exit_code == 4 and caught.value.hint


def test_hidden_tensors_are_measured_by_running_a_sample(saved):
    model = saved(cnn3(size=16))
    feeds = {"input": np.ones((3, 3, 16, 16), np.float32)}
    found = measure(model, "logits", ["relu1", "pool3", "flat"], feeds, CPU)
    assert found == {
        "relu1": ("float32", (32, 16, 16)),
        "pool3": ("float32", (64, 2, 2)),
        "flat": ("float32", (256,)),
        "logits": ("float32", (10,)),
    }


def test_inputs_of_unknown_size_cannot_be_made_up():
    with pytest.raises(ModelError, match="how large its input is"):
        probe_feeds([Port("x", "float32", (None, 3, None, None))], "model")


def test_batches_shrink_with_the_memory_and_respect_a_fixed_batch():
    assert plan_batches(1000, 500, None, EngineSettings()).batch == 256
    assert plan_batches(1000, 32_768, None, EngineSettings()).batch == 24  # by the cache
    small = plan_batches(100_000, 100, None, EngineSettings(memory=16 * 2**20))
    assert small.batch == small.rows == 5  # an eighth of the memory
    fixed = plan_batches(1000, 500, 8, EngineSettings())
    assert fixed.fixed and fixed.batch == 8 and fixed.rows % 8 == 0
    asked = plan_batches(1000, 500, None, EngineSettings(batch=7))
    assert asked.batch == 7 and asked.rows % 7 == 0


def test_neurons_are_cut_into_as_few_blocks_as_their_state_allows():
    taps = [Tap(str(k), "Relu", (100,)) for k in range(6)]
    each = bytes_per_neuron(2)
    blocks = cut_taps(taps, each, EngineSettings(memory=int(250 * each * 8) + 2))
    assert [sum(map(len, block)) for block in blocks] == [250, 250, 100]
    assert [(s.tap.name, s.start, s.stop, s.number) for s in blocks[1]] == [
        ("2", 50, 100, 250),
        ("3", 0, 100, 300),
        ("4", 0, 100, 400),
    ]
    assert len(cut_taps(taps, each, EngineSettings())) == 1
    wide = [Tap("v", "Relu", (100,)), Tap("w", "Relu", (9000,))]
    cuts = [s.start for block in cut_taps(wide, 1, EngineSettings(memory=4 * 6200)) for s in block]
    assert cuts == [0, 0, 2048, 5120, 8192]  # whole tiles where a block has several
    assert len(cut_taps(taps, each, EngineSettings(), most=100 * each)) == 6  # on a small GPU
    with pytest.raises(UsageError, match="a single neuron"):
        cut_taps(taps, 1024 * each, EngineSettings(memory=1024))
    with pytest.raises(UsageError, match="400 passes over the samples"):
        cut_taps([Tap("w", "Relu", (400,))], 128, EngineSettings(memory=1024))
    large = cut_taps([Tap("w", "Relu", (2**20,))], 1024, EngineSettings(memory=2**30))
    assert len(large[0][0]) == (1024 - 256) * 2**20 // 2 // 1024  # half of what Python leaves


def test_folds_of_large_samples_are_small_where_their_memory_would_be_used_once():
    rows = [
        plan_batches(3_000_000, 1000, 1, EngineSettings(memory=2**35), PassContext(samples=n)).rows
        for n in (64, 1000, 9000)
    ]
    assert rows == [32, 62, 128]
    assert plan_batches(3_000_000, 1000, 1, EngineSettings(memory=2**35)).rows == 128
    assert plan_batches(45_056, 1000, 1, EngineSettings(), PassContext(samples=64)).rows == 256


def test_all_passes_over_parts_of_the_neurons_take_the_same_batches():
    one = plan_batches(4_000_000, 1000, None, EngineSettings())
    part = plan_batches(40_000, 1000, None, EngineSettings(), PassContext(other_values=3_960_000))
    assert part.batch == one.batch and part.rows >= one.rows


def test_the_runtime_s_own_log_says_nothing(capfd):
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], name="\x1b[31mevil")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    shape = numpy_helper.from_array(np.array([2, 3]), "shape")
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], [shape])
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = open_session(model, Path(), EngineSettings(device="cpu"), "m")
    with pytest.raises(DataError, match="evil"):
        session.run({"x": np.zeros(5, np.float32)})
    assert capfd.readouterr() == ("", "")


def test_a_kept_session_holds_on_to_no_memory_of_its_runs(saved):
    file, proto = saved(mlp()), mlp()
    session = session_of(file, proto, CPU)
    assert session_of(file, proto, CPU) is session
    assert not session.handle.get_session_options().enable_cpu_mem_arena


def test_a_pass_over_large_samples_returns_memory_at_once_and_shows_the_same(saved):
    file, proto = saved(cnn3()), cnn3()
    stored, returning = (
        session_of(file, proto, CPU, values, 1000) for values in (sessions._RETURNS, sessions._RETURNS + 1)
    )
    given = [session.handle.get_session_options().enable_cpu_mem_arena for session in (stored, returning)]
    assert given == [True, False]
    x = np.random.default_rng(0).normal(size=(3, *stored.inputs[0].shape[1:])).astype(np.float32)
    both = (session.run({session.inputs[0].name: x})[0] for session in (stored, returning))
    assert np.array_equal(*both)
