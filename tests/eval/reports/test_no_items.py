"""No items are no number: nowhere 0.0 %."""

from eval.metrics.accuracy import Rate
from eval.reports.formatting import headline, interval, percent, points
from eval.reports.summary import result_line


def test_a_rate_of_no_items_has_no_value_and_prints_a_dash():
    rate = Rate(0, 0).to_json()
    assert rate == {"value": None, "low": None, "high": None, "count": 0, "n": 0}
    assert (percent(rate["value"]), interval(rate), points(None)) == ("–", "–", "–")
    assert percent(Rate(0, 3).to_json()["value"]) == "0.0 %", "none right of some is a number"


def test_the_line_of_an_evaluation_without_answers_has_no_percentage():
    nothing = Rate(0, 0).to_json()
    report = {
        "name": "open_world",
        "label": "export",
        "items": {"failed": 4, "missing": 0},
        "accuracy": nothing,
        "no_answer": nothing,
        "paper": None,
    }
    assert result_line(report) == "open_world export: no accuracy, as no item was answered, 4 failed"
    assert headline(report | {"protocol": {"task": "open_world"}}) == "no item answered"
