"""open_clip as an optional extra: refused in a line without it, and put to use through its published calls."""

import sys
from types import SimpleNamespace

import pytest
import torch

from configs.errors import ConfigError
from eval.models.open_clip import OpenClipEvalModel
from eval.run import main


def test_without_the_package_one_line_says_what_to_install(write_config, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    (tmp_path / "names.txt").write_text("tench\nwild dog\ncat\n")
    protocol = {"task": "zero_shot", "classes": str(tmp_path / "names.txt")}
    with pytest.raises(SystemExit):
        main(["--config", str(write_config(model="open_clip:EVA01-g-14/laion400m_s11b_b41k", protocol=protocol))])
    assert "pip install 'vlm-classify[eva]'" in capsys.readouterr().err


def test_weights_must_be_named():
    with pytest.raises(ConfigError, match="open_clip:ARCHITECTURE/WEIGHTS"):
        OpenClipEvalModel("open_clip:EVA01-g-14", "fp32", "cpu")


class Stub(torch.nn.Module):
    """What open_clip's models offer: `encode_image` and `encode_text`, not normalized."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(3) * 5)
        self.logit_scale = torch.nn.Parameter(torch.tensor(100.0).log())

    def encode_image(self, images):
        return images.mean((2, 3)) @ self.weight

    def encode_text(self, tokens):
        return torch.nn.functional.one_hot(tokens[:, 0], 3).float() @ self.weight


def test_the_nearest_sentence_wins(monkeypatch, write_config, tmp_path, picture):
    seen = []

    def create(architecture, *, pretrained, device, precision):
        seen.append((architecture, pretrained))
        return Stub(), lambda image: torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, 4, 4)

    words = ["a photo of a tench", "a photo of a wild dog", "a photo of a cat"]
    tokenizer = lambda texts: torch.tensor([[words.index(text)] for text in texts])  # noqa: E731
    module = SimpleNamespace(create_model_from_pretrained=create, get_tokenizer=lambda name: tokenizer)
    monkeypatch.setitem(sys.modules, "open_clip", module)
    (tmp_path / "names.txt").write_text("tench\nwild dog\ncat\n")
    protocol = {"task": "zero_shot", "classes": str(tmp_path / "names.txt")}
    main(["--config", str(write_config(model="open_clip:EVA01-g-14/some_weights", protocol=protocol))])
    assert seen == [("EVA01-g-14", "some_weights")]
    lines = (tmp_path / "answers" / "predictions-00000.jsonl").read_text().splitlines()
    assert len(lines) == 15
    assert all('"answer": "cat"' in line for line in lines)
