"""The page of a guidance sweep: every measured accuracy, and what was not measured."""

from eval.reports.guidance_page import guidance_page

PART = {"guidance": 1.5, "accuracy": {"value": 0.3, "low": 0.2, "high": 0.4, "count": 30, "n": 100}}
SWEPT = {"form": "log", "prior": "no_image", "mean": False, "tokens": "name", "swept_on_test": PART, "held_out": PART}


def text_of(forms: dict) -> str:
    values = {"name": "g", "model": "m", "label": "model", "source": "pets", "items": 100, "forms": forms}
    page = guidance_page(values)
    assert page.html().startswith("<!DOCTYPE html>")
    return page.markdown()


def test_each_form_has_both_methods_with_interval_and_selected_t():
    text = text_of({"clean": SWEPT, "official": SWEPT})
    assert text.count("| 30.0 % | 20.0 to 40.0 % | 100 | 1.5 |") == 4
    assert "log, prior no image, sums" in text
    assert "too few" not in text


def test_a_form_without_another_half_says_so():
    text = text_of({"clean": SWEPT | {"held_out": None}})
    assert "clean: too few items for t chosen on the other half" in text
    assert text.count("| 30.0 % |") == 1


def test_a_sweep_without_any_accuracy_has_a_page():
    assert "Too few items to select t" in text_of({"clean": SWEPT | {"held_out": None, "swept_on_test": None}})
