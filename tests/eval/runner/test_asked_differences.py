"""What of a question differs from the training, by the training's record alone."""

import pytest

from configs.data import DataConfig, SourceConfig
from configs.evaluation import EvalConfig
from configs.protocol import ProtocolConfig
from configs.trained import TrainingRecord
from eval.runner.as_trained import differences

STYLES = ("folder", "mistral", "question", "plain", "llava")


def listed(trained: TrainingRecord, **protocol: object) -> list[str]:
    data = DataConfig(sources={"x": SourceConfig(reader="image_folder", path="x")})
    config = EvalConfig(name="look", model="runs/x", source="x", dtype="bf16", protocol=ProtocolConfig(**protocol),
                        data=data)  # fmt: skip
    return [str(found) for found in differences(config, trained)]


def record(template: str, **more: object) -> TrainingRecord:
    return TrainingRecord(where="here", template=template, system_prompt="template", image_mode="export", dtype="bf16",
                          **more)  # fmt: skip


@pytest.mark.parametrize("template", STYLES)
def test_a_familys_own_style_is_the_one_that_it_was_trained_with(template):
    assert listed(record(template), template="family", system_prompt="family") == []
    other = next(name for name in ("question", "mistral") if name != template)
    assert listed(record(template), template=other, system_prompt="template")[0] == (
        f"protocol.template is {other!r}, training had {template!r}"
    )


def test_other_sizes_of_images_than_in_training_are_named():
    trained = record("question", images={"image_size": 364, "max_pixels": 4096})
    assert listed(trained, image_size=364, max_pixels=4096) == []
    assert listed(trained, image_size=224, min_pixels=64) == [
        "protocol.image_size is '224', training had '364'",
        "protocol.min_pixels is '64', training had \"the model's own\"",
    ]
