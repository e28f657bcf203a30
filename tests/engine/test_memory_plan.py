"""How much of `--memory` does the model take, and how much is left for the rest?"""

import numpy as np
import onnx
import pytest

from onnxtweak.engine.machine.memory_plan import (
    PassContext,
    TapSlice,
    cut_taps,
    model_room,
    not_held,
    plan_batches,
    state_room,
    survivor_room,
    table_room,
    too_little,
)
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings
from onnxtweak.stages.open_job import prepare
from onnxtweak.types import Tap, silent
from tests.support.nets import mlp

MiB = 2**20
GIB = EngineSettings(memory=1024 * MiB)


def test_weights_are_counted_as_often_as_they_are_copied_and_maps_once_a_sample():
    assert model_room(10 * MiB, 0, 0, 1, None, GIB) == 50 * MiB
    assert model_room(0, 10 * MiB, 0, 1, None, GIB) == 20 * MiB  # mapped by the runtime, not read by us
    assert model_room(0, 0, 1000, 32_768, None, GIB) == 4 * 1000 * 24  # the batch that fits the cache
    assert model_room(0, 0, 1000, 32_768, 2, GIB) == 4 * 1000 * 2
    assert model_room(0, 0, 1000, 1, None, EngineSettings(batch=7)) == 4 * 1000 * 7


def test_a_large_model_leaves_less_for_everything_else():
    reserved = 256 * MiB
    assert table_room(GIB.memory) == 768 * MiB and table_room(GIB.memory, reserved) == 512 * MiB
    assert state_room(GIB.memory, reserved) == 256 * MiB
    taps = [Tap("w", "Relu", (2**20,))]
    blocks = cut_taps(taps, 1024, GIB, reserved_bytes=reserved)
    assert len(blocks[0][0]) == 2**18 and len(cut_taps(taps, 1024, GIB)[0][0]) == 3 * 2**17
    block = (TapSlice(taps[0], 0, 2**20, 0),)
    assert survivor_room(block, GIB, reserved)[0] * 12 == pytest.approx(64 * MiB, abs=12)
    values = MiB  # 4 MiB a sample
    alone = plan_batches(values, values // 4, None, GIB)
    beside = plan_batches(values, values // 4, None, GIB, PassContext(reserved_bytes=reserved))
    assert (alone.rows, beside.rows) == (24, 16) and alone.batch == beside.batch == 4
    assert plan_batches(values, 100, 1, GIB, PassContext(reserved_bytes=reserved)).rows == 16


def test_what_the_model_takes_does_not_change_the_batch():
    """Another batch may be computed in another order."""
    for reserved in (0, 200 * MiB, 5000 * MiB):
        assert plan_batches(45_000, 32_768, None, GIB, PassContext(reserved_bytes=reserved)).batch == 24


def test_something_is_left_where_the_model_takes_all():
    assert table_room(GIB.memory, 4096 * MiB) == 256 * MiB
    assert plan_batches(10**9, 100, None, GIB, PassContext(reserved_bytes=4096 * MiB)).rows >= 1


def test_arrays_that_are_held_all_the_same_are_said_with_what_they_take():
    assert not_held("learning", 768 * MiB, 1024 * MiB, 0) is None
    said = not_held("learning", 769 * MiB, 1024 * MiB, 0)
    assert said is not None and "about 769 MiB in memory, 1,025 MiB with all the rest" in said


def test_too_little_memory_is_said_with_what_would_do():
    assert too_little(1024 * MiB, 512 * MiB) is None
    said = too_little(1024 * MiB, 513 * MiB)
    assert "1,024 MiB may be exceeded" in said and "about 769 MiB" in said and "at least 1,025 MiB" in said
    assert too_little(1026 * MiB, 513 * MiB) is None


def _job(folder, memory, **weights):
    onnx.save(mlp(), folder / "model.onnx", **weights)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 8)).astype(np.float32), np.arange(64) % 4
    np.savez_compressed(folder / "data.npz", x=x, y=y)
    data = DataSettings((str(folder / "data.npz"),))
    settings = EngineSettings(device="cpu", backend="numpy", memory=memory)
    return prepare(str(folder / "model.onnx"), data, settings, TapSettings(), silent)


def test_a_job_knows_what_its_model_and_its_samples_take(tmp_path):
    job = _job(tmp_path, 4096 * MiB)
    subject = job.subject
    size = (tmp_path / "model.onnx").stat().st_size
    held = 64 * 8 * 4
    assert subject.maps >= subject.largest > 1
    assert job.splits.fit.dataset.bytes_in_memory == held  # once, though both views are of it
    assert job.engine.reserved_bytes == 5 * size + 4 * subject.maps * 256 + held
    assert not any("--memory" in note for note in job.splits.notes)


def test_weights_beside_the_model_count_too(tmp_path):
    inside, beside = tmp_path / "inside", tmp_path / "beside"
    inside.mkdir(), beside.mkdir()
    one = _job(inside, 4096 * MiB)
    two = _job(beside, 4096 * MiB, save_as_external_data=True, location="weights", size_threshold=0)
    file, weights = (beside / "model.onnx").stat().st_size, (beside / "weights").stat().st_size
    maps = 4 * two.subject.maps * 256
    assert two.engine.reserved_bytes == 5 * file + 2 * weights + maps + 64 * 8 * 4
    assert two.engine.reserved_bytes != one.engine.reserved_bytes


def test_a_job_says_that_its_memory_will_not_do(tmp_path):
    (said,) = (note for note in _job(tmp_path, 128 * MiB).splits.notes if "--memory" in note)
    assert said.startswith("--memory 128 MiB may be exceeded") and "allow at least" in said
