"""A model folder without its tokenizer is named, with the model that it came from."""

import json

import pytest

from configs.errors import ConfigError
from train.chat.tokenizer import load_tokenizer


def test_a_folder_without_tokenizer_files_says_what_to_copy_and_from_where(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava", "_name_or_path": "owner/model"}))
    with pytest.raises(ConfigError, match=r"has no tokenizer \(tokenizer.json, .*copy tokenizer.* from, owner/model"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"_name_or_path": null}'])
def test_half_a_configuration_names_no_origin(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"from the model that it was trained from$"):
        load_tokenizer(tmp_path)
