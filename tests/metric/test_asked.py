"""Words of `--metric`, and tables of costs."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.errors import ModelError, UsageError
from onnxtweak.metric.asked import metric_of, require_metric
from onnxtweak.metric.costs import read_costs

NAMES = ("ant", "bee", "cat")


@pytest.mark.parametrize(
    "words, said, hint",
    [
        ("balnced", "unknown metric 'balnced'", "did you mean balanced?"),
        ("recall@fdr=0.1", "unknown metric", "did you mean recall@fpr=X?"),
        ("auc", "unknown metric 'auc'", "known: overall, balanced"),
        ("f1=2", "unknown metric 'f1=2'", "did you mean f1?"),
        ("recall@fpr", "unknown metric", "did you mean recall@fpr=X?"),
        ("recall@fpr=2", "2 is not between 0 and 1", "a limit is a share, such as 0.01 or 1%"),
        ("recall@fpr=0", "0 is not between 0 and 1", "a limit is a share"),
        ("recall@precision=high", "'high' is not a number", "write it like"),
        ("cost:", "no file of costs is named", "cost:costs.csv"),
    ],
)
def test_words_that_mean_no_metric(words, said, hint):
    with pytest.raises(UsageError, match=said) as caught:
        require_metric(words)
    assert hint in caught.value.hint


def test_a_limit_may_be_written_in_percent():
    for words in ("recall@fpr=1%", "recall@fpr=.01", "recall@fpr=1/100"):
        metric = metric_of(words, NAMES[:2])
        assert metric.name == "recall@fpr=0.01" and metric.promise == "false-positive rate at most 1 %"


def test_a_recall_at_a_limit_needs_two_classes():
    with pytest.raises(ModelError, match="this model has 3"):
        metric_of("recall@fpr=0.01", NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "true,cat,ant,bee\nbee,3,1,0\nant,2,0,1\ncat,0,9,5\n",
        "\ufeff, cat, ant, bee\n\nbee, 3, 1, 0\nant, 2, 0, 1\ncat, 0, 9, 5",
        "0,1,2\n1,0,3\n9,5,0\n",
    ],
)
def test_costs_are_read_by_name_or_in_the_order_of_the_classes(tmp_path, text):
    (tmp_path / "costs.csv").write_text(text, encoding="utf-8")
    expected = [[0, 1, 2], [1, 0, 3], [9, 5, 0]]
    assert read_costs(str(tmp_path / "costs.csv"), NAMES).tolist() == expected
    metric = metric_of(f"cost:{tmp_path / 'costs.csv'}", NAMES)
    assert metric.sign == -1 and np.array_equal(metric.cost, expected)


@pytest.mark.parametrize(
    "text, said, hint",
    [
        (",ant,bee\nant,0,1\nbee,1,0\n", "3 rows of 3 cells; for 3 classes", "rows are true"),
        ("0,1\n1,0\n", "2 rows of 2 cells", "rows are true classes"),
        ("0,1,2\n1,0\n9,5,0\n", "3 rows of 2 or 3 cells", ""),
        (",ant,bee,cut\nant,0,1,2\nbee,1,0,3\ncut,9,5,0\n", "no class 'cut'", "did you mean 'cat'?"),
        (",ant,bee,bee\nant,0,1,2\nbee,1,0,3\ncat,9,5,0\n", "'bee' is named twice", ""),
        (",ant,bee,cat\nant,0,1,2\nbee,1,zero,3\ncat,9,5,0\n", "'zero' is not a number", ""),
        ("0,1,2\n1,inf,3\n9,5,0\n", "not a finite number", ""),
        ("", "0 rows of no cells", ""),
    ],
)
def test_costs_that_do_not_fit(tmp_path, text, said, hint):
    path = tmp_path / "costs.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        read_costs(str(path), NAMES)
    assert hint in caught.value.hint and str(path) in caught.value.where


def test_where_a_cost_is_no_number(tmp_path):
    path = tmp_path / "costs.csv"
    path.write_text(",ant,bee,cat\nant,0,1,2\nbee,1,zero,3\ncat,9,5,0\n")
    with pytest.raises(UsageError) as caught:
        read_costs(str(path), NAMES)
    assert caught.value.where.endswith("row 3, column 3")


def test_costs_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_costs(str(tmp_path / "costs.csv"), NAMES)
