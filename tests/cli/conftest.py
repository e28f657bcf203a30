"""A set of commands that remembers what it was asked for and does nothing."""

from __future__ import annotations

import sys
import types

import pytest

import onnxtweak
from tests.support import results


class FakeCommands(types.ModuleType):
    """Stands in for `onnxtweak.commands`. asked : the last job and its keyword arguments.

    answer : what the next call returns, or raises where it is an exception.
    """

    def __init__(self):
        super().__init__("onnxtweak.commands")
        self.asked: tuple[str, dict] | None = None
        self.answer: object = None

    def _job(self, name, usual):
        def job(**keywords):
            self.asked = name, keywords
            answer = usual() if self.answer is None else self.answer
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return job

    @property
    def settings(self) -> dict:
        return self.asked[1]


@pytest.fixture
def commands(monkeypatch) -> FakeCommands:
    fake = FakeCommands()
    usual = {
        "demo": results.a_result,
        "join": results.a_result,
        "retrain": lambda: results.a_result(command="retrain"),
        "augment": lambda: results.a_result(command="augment"),
        "fit": lambda: results.a_result(command="fit"),
        "compare": results.a_comparison,
        "inspect": results.an_inspection,
        "evaluate": results.an_evaluation,
        "apply": results.an_applied,
        "dump": results.a_dump,
        "score": results.a_score,
        "report": results.a_report_page,
        "init": results.a_recipe_written,
        "run": results.a_run,
        "plan": results.a_plan,
        "doctor": results.a_diagnosis,
    }
    for name, answer in usual.items():
        setattr(fake, name, fake._job(name, answer))
    monkeypatch.setitem(sys.modules, "onnxtweak.commands", fake)
    monkeypatch.setattr(onnxtweak, "commands", fake, raising=False)
    return fake
