"""What every test can ask for."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from threadpoolctl import threadpool_limits

from tests.support.coarse_searches import coarse_searches
from tests.support.few_folds import three_folds
from tests.support.short_trainings import short_trainings

# Processes share the cores. More threads of linear algebra than a process has cores wait for one another,
# spinning: some fits take twice the time. NumPy is loaded here; programs that tests start read the variables.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if _WORKER:
    _SHARE = max((os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]), 1)
    threadpool_limits(_SHARE, user_api="blas")
    for _library in ("OPENBLAS", "OMP", "MKL"):
        os.environ.setdefault(f"{_library}_NUM_THREADS", str(_SHARE))

# A busy machine makes no test fail, and no run differs from the last.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")

ROOT = Path(__file__).resolve().parents[1]
COMMANDS_RUN_IN = {"api", "cli", "commands", "report", "stages"}  # folders of tests


# Of two processes that collect, one begins at the end: what one has compiled, the other reads when they meet.
_FROM_THE_END = int(_WORKER.removeprefix("gw") or 0) % 2 == 1


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    if _FROM_THE_END and isinstance(collector, pytest.Directory):
        report.result.reverse()
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _WORKER:  # all processes have to have the same order
        items.sort(key=lambda item: item.path)


def pytest_collection_finish() -> None:
    """Thousands of tests stay until the end: looking for garbage among them takes a fifth of a second.

    And what tests make is seldom garbage: looking for it takes a fiftieth of their time.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="module", autouse=True)
def what_stays_is_looked_at_once() -> Iterator[None]:
    """And so does what a file's tests have loaded, and what pytest keeps of them.

    Dask's clusters, for one, look for garbage before they start: at the end of a run, for half a second each.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and models beside the project; tests that need them are skipped where there are none."""
    folder = (ROOT / ".." / "shared").resolve()
    if not folder.is_dir():
        pytest.skip("no folder of shared data beside the project")
    return folder


@pytest.fixture(scope="session", autouse=True)
def latency_in_few_turns() -> Iterator[None]:
    """Latency is measured by every job with evidence, which takes longer than the job of a small model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnxtweak.engine.latency._MOST", 20)
        yield


@pytest.fixture(scope="module", autouse=True)
def few_folds_and_steps(request: pytest.FixtureRequest) -> Iterator[None]:
    """A command does the same with three folds as with twenty, which the commands on the first pages have.

    And with hidden layers that are trained for a moment: a test of what they learn trains them longer. And
    with penalties and biases that are searched for in few steps.
    """
    if request.path.parent.name not in COMMANDS_RUN_IN:
        yield
        return
    with three_folds(), short_trainings(), coarse_searches():
        yield
