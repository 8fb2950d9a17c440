"""What planning a run refuses before a model is loaded."""

import numpy as np
import pytest

from configs.errors import DataError
from train.data.sources import SourceSet
from train.plan import make_plan


def test_a_projector_run_without_any_image_is_refused(training_setup, monkeypatch):
    monkeypatch.setattr(SourceSet, "with_image", lambda self: np.zeros(len(self), dtype=bool))
    with pytest.raises(DataError, match=r"no sample of .* has an image, so nothing would be trained"):
        make_plan(training_setup.config("textual", "model.mode=projector"), 1, "cpu")
    make_plan(training_setup.config("textual_lora", "model.mode=lora"), 1, "cpu")
