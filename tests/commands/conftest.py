"""Models with a weak class, for the jobs that make it better; made once for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.few_folds import three_folds
from tests.support.weak_class import weak_cnn, weak_mlp


@pytest.fixture(scope="module", autouse=True)
def few_folds() -> Iterator[None]:
    """A command does the same with three folds as with twenty, which the commands on the first pages have."""
    with three_folds():
        yield


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    """A small network of layers and its samples."""
    return weak_mlp(tmp_path_factory.mktemp("mlp"))


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    """A small convolutional network and its samples."""
    return weak_cnn(tmp_path_factory.mktemp("cnn"))
