"""Providers by name: each one's rules, enforced by a server on this machine, are kept by the settings of its preset."""

import base64
import io
import json
from functools import partial
from pathlib import Path

import pytest
from chat_api_server import completion, failure
from PIL import Image

from configs.api import ApiConfig
from configs.api_providers import PROVIDERS
from configs.captions import CaptionConfig
from configs.errors import ConfigError, RunError
from configs.evaluation import EvalConfig
from configs.load import load_config
from configs.wikiqa import WikiqaConfig
from data_prep.api.client import ApiClient, Endpoint, retry_delay
from data_prep.api.messages import ImagePart, Message
from data_prep.api.question_file import AskedModel, Question, ask_questions
from data_prep.api.replies import QuestionError

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
KEYS = {"openai": "OPENAI_API_KEY", "gemini": "GEMINI_API_KEY", "claude": "ANTHROPIC_API_KEY"}
ADDRESSES = {"openai": "OPENAI_BASE_URL", "gemini": "GEMINI_BASE_URL", "claude": "ANTHROPIC_BASE_URL"}
LINKS = {
    "openai": "https://api.openai.com/v1/chat/completions",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
    "claude": "https://api.anthropic.com/v1/chat/completions",
}


def settings_of(tmp_path, *overrides):
    file = tmp_path / "captions.yaml"
    values = {"source": "a", "model": "m", "output": "o.jsonl", "data": {"sources": {"a": {"reader": "toy_world"}}}}
    file.write_text(json.dumps(values))
    return load_config(CaptionConfig, file, overrides)


def parts(request):
    return [part for m in request["messages"] if isinstance(m["content"], list) for part in m["content"]]


def bytes_of(part):
    return base64.b64decode(part["image_url"]["url"].partition("base64,")[2])


def reasoning_openai(request):
    """Like gpt-5: the old field and a temperature are refused."""
    if "max_tokens" in request:
        return failure(400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                       "'max_completion_tokens' instead.")  # fmt: skip
    if request.get("temperature", 1) != 1:
        return failure(
            400, "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1)"
        )
    return completion("a cat")


def gemini(request):
    """Errors are a list; GIF is refused; an unknown role is refused."""

    def refuse(message):
        return (
            400,
            {},
            json.dumps([{"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}]).encode(),
        )

    if any(m["role"] not in ("system", "user", "assistant") for m in request["messages"]):
        return refuse("Please use a valid role")
    if any("image/gif" in part["image_url"]["url"] for part in parts(request) if part["type"] == "image_url"):
        return refuse("Unsupported MIME type: image/gif")
    if [part["type"] for part in parts(request)] != ["image_url", "text"]:
        return refuse("not the recommended order")
    return completion("a cat")


def claude(request):
    """Large images and empty contents are refused; without a limit the answer is short."""
    if "max_tokens" not in request:
        return failure(400, "max_tokens: Field required")
    images = [Image.open(io.BytesIO(bytes_of(part))) for part in parts(request) if part["type"] == "image_url"]
    if any(max(image.size) > 1568 for image in images):
        return failure(400, "image dimensions exceed max allowed size")
    if [part["type"] for part in parts(request)] != ["image_url", "text"]:
        return failure(400, "not the recommended order")
    return completion("a cat")


RULES = {"openai": reasoning_openai, "gemini": gemini, "claude": claude}


def large_gif():
    buffer = io.BytesIO()
    Image.new("RGB", (2000, 500), (9, 200, 40)).save(buffer, "GIF")
    return buffer.getvalue()


@pytest.mark.parametrize("name", RULES)
def test_a_providers_rules_are_kept_by_its_preset_alone(chat_api, tmp_path, monkeypatch, name):
    server = chat_api(RULES[name])
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setenv(ADDRESSES[name], server.url)
    monkeypatch.setenv(KEYS[name], f"key-of-{name}")
    reasoning = ["api.temperature=null"] if name == "openai" else []
    config, _ = settings_of(tmp_path, f"api.provider={name}", *reasoning)
    shown = ImagePart.of_reader(large_gif)
    question = Question("a", (Message("system", "Be brief."), Message("user", "What is it?", (shown,))))
    found = ask_questions(tmp_path / "r.jsonl", [question], AskedModel("m", config.api, 9), name="test")
    assert (found.failures, found.replies["a"].text) == ({}, "a cat")
    assert server.headers[0]["Authorization"] == f"Bearer key-of-{name}"


@pytest.mark.parametrize("name", LINKS)
def test_the_address_is_the_providers_and_the_key_must_be_set(name, tmp_path):
    config, origins = settings_of(tmp_path, f"api.provider={name}")
    endpoint = Endpoint.of(config.api, {KEYS[name]: "secret", "OPENAI_BASE_URL": "http://elsewhere/v1"}
                           if name != "openai" else {KEYS[name]: "secret"})  # fmt: skip
    assert endpoint.url == LINKS[name]
    with pytest.raises(ConfigError, match=f"{KEYS[name]} is not set; set it to your key of {name}"):
        Endpoint.of(config.api, {})
    assert Endpoint.of(config.api, {ADDRESSES[name]: "http://localhost:1/v1"}).key is None
    assert {origin for key, origin in origins.items() if key.startswith("api.") and "--set" not in origin} >= {
        f"provider {name}"
    }


def test_the_files_own_settings_and_those_of_the_command_line_override_the_providers(tmp_path):
    config, origins = settings_of(tmp_path, "api.image_position=after", "api.provider=claude")
    assert (config.api.image_position, config.api.image_side) == ("after", 1568)
    assert origins["api.image_side"] == "provider claude"
    later, _ = settings_of(tmp_path, "api.provider=claude", "api.provider=openai")
    assert (later.api.length_field, later.api.image_side) == ("max_completion_tokens", None)
    assert settings_of(tmp_path)[0].api == ApiConfig()


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("api.provider=anthropic", "api.provider is 'anthropic'; choose one of: plain, openai, gemini, claude"),
        ("api.system_role=tool", "choose one of: system, developer, user"),
        ("api.image_side=0", "image_side is 0; it must be at least 1"),
    ],
)
def test_a_provider_that_does_not_exist_and_values_it_does_not_have_are_refused(tmp_path, override, complaint):
    with pytest.raises(ConfigError, match=complaint):
        settings_of(tmp_path, override)
    with pytest.raises(ConfigError, match=r"temperature is 1\.5; for claude it must be at most 1"):
        settings_of(tmp_path, "api.provider=claude", "api.temperature=1.5")
    assert settings_of(tmp_path, "api.provider=openai", "api.temperature=1.5")[0].api.temperature == 1.5


@pytest.mark.parametrize(
    ("role", "sent"),
    [
        ("system", [("system", "Be brief."), ("user", "What?")]),
        ("developer", [("developer", "Be brief."), ("user", "What?")]),
        ("user", [("user", "Be brief.\n\nWhat?")]),
    ],
)
def test_a_system_prompt_has_the_role_that_the_server_knows(chat_api, tmp_path, role, sent):
    server = chat_api(completion("yes"))
    question = Question("a", (Message("system", "Be brief."), Message("user", "What?")))
    path = tmp_path / "r.jsonl"
    ask_questions(path, [question], AskedModel("m", ApiConfig(system_role=role), 9), name="test")
    assert [(m["role"], m["content"]) for m in server.requests[0]["messages"]] == sent
    ask_questions(path, [question], AskedModel("m", ApiConfig(), 9), name="test")
    assert len(server.requests) == (1 if role == "system" else 2), "another role is another request"


def test_the_effort_of_reasoning_is_sent_where_it_is_set_and_its_refusal_names_the_setting(chat_api, tmp_path):
    server = chat_api(completion("yes"), failure(400, "Unrecognized request argument supplied: reasoning_effort"))
    question = Question("a", (Message("user", "What?"),))
    ask_questions(tmp_path / "r.jsonl", [question], AskedModel("m", ApiConfig(), 9), name="test")
    assert "reasoning_effort" not in server.requests[0]
    with pytest.raises(RunError, match=r"add --set api\.reasoning_effort=null"):
        ask_questions(tmp_path / "r.jsonl", [question], AskedModel("m", ApiConfig(reasoning_effort="low"), 9), name="t")
    assert server.requests[1]["reasoning_effort"] == "low"


def test_googles_errors_are_a_list_and_hold_the_seconds_to_wait(chat_api, monkeypatch):
    error = {"code": 429, "message": "Resource has been exhausted", "details": [{"retryDelay": "28s"}]}
    server = chat_api((429, {}, json.dumps([{"error": error}]).encode()), completion("yes"))
    client = ApiClient(ApiConfig(), Endpoint.of(ApiConfig()))
    waits = []
    monkeypatch.setattr(client, "_wait", waits.append)
    client.ask(b"{}")
    assert 27 < waits[-1] <= 28
    assert len(server.requests) == 2
    assert retry_delay("no JSON") is None
    server.replies = [(400, {}, json.dumps([{"error": {"message": "Invalid image"}}]).encode())]
    with pytest.raises(QuestionError, match="status 400: Invalid image"):
        client.ask(b"{}")


@pytest.mark.parametrize(
    "message", ["API key not valid. Please pass a valid API key.", "Your credit balance is too low to access the API."]
)
def test_an_account_that_is_refused_with_status_400_ends_the_program(chat_api, message):
    chat_api((400, {}, json.dumps([{"error": {"code": 400, "message": message}}]).encode()))
    with pytest.raises(RunError, match="refuses every question"):
        ApiClient(ApiConfig(), Endpoint.of(ApiConfig())).ask(b"{}")


def test_an_image_above_the_side_is_shrunk_in_its_format_and_others_are_sent_as_stored(chat_api, tmp_path, picture):
    server = chat_api(completion("yes"))
    images = [picture(1, size=(400, 200)), picture(1, size=(90, 100)), picture(1, size=(400, 200), kind="PNG")]
    shown = [ImagePart.of_reader(partial(bytes, image)) for image in images]
    asked = [Question(str(number), (Message("user", "What?", (part,)),)) for number, part in enumerate(shown)]
    api = ApiConfig(image_side=100, concurrency=1)
    ask_questions(tmp_path / "r.jsonl", asked, AskedModel("m", api, 9), name="test")
    sent = [bytes_of(parts(request)[1]) for request in server.requests]
    assert sent[1] == images[1]
    assert [(Image.open(io.BytesIO(data)).size, Image.open(io.BytesIO(data)).format) for data in sent[::2]] == [
        ((100, 50), "JPEG"),
        ((100, 50), "PNG"),
    ]


def test_every_provider_is_a_choice_and_plain_changes_nothing():
    assert [*PROVIDERS] == ["plain", *KEYS]
    assert not PROVIDERS["plain"].settings


def test_the_key_of_the_judges_provider_is_that_of_its_own_section():
    """The key of the evaluated model's provider must not be sent to the judge's."""
    chosen = ["grading.api.provider=claude", "api.provider=gemini"]
    config, origins = load_config(EvalConfig, CONFIGS / "eval" / "mm_vet.yaml", chosen)
    assert (config.grading.api.key_env, config.api.key_env) == (KEYS["claude"], KEYS["gemini"])
    assert origins["grading.api.key_env"] == "provider claude"
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY is not set"):
        Endpoint.of(config.grading.api, {"OPENAI_API_KEY": "secret"})
    with pytest.raises(ConfigError, match=r"grading\.api\.provider is 'llama'; choose one of: plain, openai"):
        load_config(EvalConfig, CONFIGS / "eval" / "mm_vet.yaml", ["grading.api.provider=llama"])


@pytest.mark.parametrize(
    ("schema", "file", "setting", "limit"),
    [
        (CaptionConfig, "captions/demo.yaml", "api.answer_limit", "max_tokens"),
        (WikiqaConfig, "wikiqa/demo.yaml", "api.answer_limit", "max_tokens or filter_max_tokens"),
        (EvalConfig, "eval/mm_vet.yaml", "grading.api.answer_limit", "grading.judge_tokens"),
    ],
)
def test_the_limit_of_an_evaluations_answers_is_refused_where_it_has_no_effect(schema, file, setting, limit):
    with pytest.raises(ConfigError, match=f"{setting} is 'official', which only evaluations have.*as {limit} is the"):
        load_config(schema, CONFIGS / file, [f"{setting}=official"])
