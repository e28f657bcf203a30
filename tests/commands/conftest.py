"""Models with a weak class, for the jobs that make it better; made once for each file of tests."""

from __future__ import annotations

import pytest

from tests.support.weak_class import weak_cnn, weak_mlp


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    """A small network of layers and its samples."""
    return weak_mlp(tmp_path_factory.mktemp("mlp"))


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    """A small convolutional network and its samples."""
    return weak_cnn(tmp_path_factory.mktemp("cnn"))
