"""The folder's own chat template: transformers' ids, the assistant's tokens and their end supervised, else refused."""

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from configs.errors import ConfigError, DataError
from data_prep.sample import Turn
from train.chat.conversation import IMAGE_INDEX
from train.chat.folder_template import FolderRenderer
from train.chat.prefix import constant_prefix
from train.chat.render import ChatRenderer
from train.toy.byte_level import byte_level_bpe

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nBe brief."
    "<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARTS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GENERATION = CHATML.replace(
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n",
    "{% if message['role'] == 'assistant' %}<|im_start|>assistant\n{% generation %}{{ message['content'] }}<|im_end|>"
    "{% endgeneration %}\n{% else %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endif %}",
)
LLAMA2 = (  # no system role; a space before the answer, blanks behind it
    "{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] | trim }} [/INST]"
    "{% elif message['role'] == 'assistant' %} {{ message['content'] | trim }} {{ eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
THINKS = CHATML.replace(  # as Qwen3's: an empty thought before the last answer only
    "{{ message['content'] }}<|im_end|>",
    "{% if loop.last and message['role'] == 'assistant' %}<think></think>{% endif %}{{ message['content'] }}<|im_end|>",
)
FORGETS = CHATML.replace(  # an earlier answer is dropped once the conversation continues
    "{{ message['content'] }}<|im_end|>",
    "{% if loop.last or message['role'] == 'user' %}{{ message['content'] }}{% else %}dropped{% endif %}<|im_end|>",
)
BLANK = GENERATION.replace(  # as LLaVA-OneVision's: a blank more before a written answer than in the prompt
    "<|im_start|>assistant\n{% generation %}", "<|im_start|>assistant {% generation %}\n"
)
ENDLESS = PARTS.replace("<|im_end|>\n{% endfor %}{% if", "\n{% endfor %}{% if")
TALK = (
    Turn("human", "<image>\nWhat is it?"),
    Turn("gpt", "a wild dog"),
    Turn("human", "And here?"),
    Turn("gpt", "assistant cat"),
)


def tokenizer_with(template: str | None, **names: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE without `<s>` and `</s>`, whose padding is its end token."""
    tokenizer = byte_level_bpe(("What is it", "a wild dog", "assistant", "user system"), 300)
    for name, token in names.items():
        setattr(tokenizer, name, token)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.chat_template = template
    return tokenizer


def supervised_text(renderer: FolderRenderer, turns: tuple[Turn, ...]) -> str:
    rendered = renderer.render(turns)
    return renderer.tokenizer.decode([i for i, on in zip(rendered.input_ids, rendered.supervised, strict=True) if on])


def with_image(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[int]:
    return [tokenizer.convert_tokens_to_ids("<image>") if i == IMAGE_INDEX else i for i in ids]


@pytest.mark.parametrize(
    ("template", "answers"),
    [
        (CHATML, "a wild dog<|im_end|>assistant cat<|im_end|>"),
        (PARTS, "a wild dog<|im_end|>assistant cat<|im_end|>"),
        (GENERATION, "a wild dog<|im_end|>assistant cat<|im_end|>"),
        (LLAMA2, " a wild dog <|im_end|> assistant cat <|im_end|>"),
        (THINKS, "a wild dog<|im_end|><think></think>assistant cat<|im_end|>"),
    ],
    ids=["text", "parts", "generation", "no system", "thinks"],
)
def test_ids_are_transformers_and_the_assistants_tokens_with_their_ends_are_supervised(template, answers):
    tokenizer = tokenizer_with(template)
    renderer = FolderRenderer(tokenizer)
    parts = "part['type']" in template
    messages = []
    for turn in TALK:
        role, words = ("user" if turn.speaker == "human" else "assistant"), turn.text.replace("<image>\n", "")
        content = [{"type": "image"}] * (parts and "<image>" in turn.text) + [{"type": "text", "text": words}]
        messages.append({"role": role, "content": content if parts else turn.text})
    for count in (2, 4):
        whole = tokenizer.apply_chat_template(messages[:count], return_dict=False)
        assert with_image(tokenizer, renderer.render(TALK[:count]).input_ids) == whole
    assert supervised_text(renderer, TALK) == answers
    for count in (1, 3):
        asked = tokenizer.apply_chat_template(messages[:count], add_generation_prompt=True, return_dict=False)
        assert with_image(tokenizer, renderer.render_question(TALK[:count])) == asked
    assert tokenizer.convert_ids_to_tokens(renderer.eos) == "<|im_end|>"


def test_generation_marks_are_those_of_transformers_mask():
    tokenizer = tokenizer_with(GENERATION)
    messages = [{"role": ("user", "assistant")[n % 2], "content": turn.text} for n, turn in enumerate(TALK)]
    theirs = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    assert FolderRenderer(tokenizer).render(TALK).supervised == [bool(on) for on in theirs["assistant_masks"]]


def test_a_system_prompt_is_the_templates_where_none_is_given():
    renderer = FolderRenderer(tokenizer_with(CHATML))
    own = FolderRenderer(tokenizer_with(CHATML), "You name dogs.")
    text, told = (found.tokenizer.decode(constant_prefix(found)) for found in (renderer, own))
    assert text == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
    assert told == "<|im_start|>system\nYou name dogs.<|im_end|>\n<|im_start|>user\n"
    with pytest.raises(ConfigError, match="has no system prompt; set system_prompt to none"):
        FolderRenderer(tokenizer_with(LLAMA2), "vicuna_v1")


def test_the_tokenizers_start_token_comes_first_unless_the_template_writes_it():
    tokenizer = tokenizer_with(CHATML)
    start = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", start)]
    )
    assert FolderRenderer(tokenizer).render(TALK).input_ids[0] == start
    tokenizer.chat_template = "{{ bos_token }}" + CHATML
    assert FolderRenderer(tokenizer).render(TALK).input_ids.count(start) == 1


def test_an_answer_and_its_beginning_are_those_of_training():
    for template in (CHATML, PARTS, LLAMA2, THINKS):
        renderer = FolderRenderer(tokenizer_with(template))
        whole = renderer.render(TALK[:2]).input_ids
        answered = renderer.answered(TALK[:1], "a wild dog")
        assert whole[: len(answered)] == answered
        begun = renderer.render_question(TALK[:1], "a wild")
        assert answered[: len(begun)] == begun and begun != renderer.render_question(TALK[:1])
        assert renderer.eos in whole[len(answered) : len(answered) + 2]


@pytest.mark.parametrize(
    ("template", "error", "words"),
    [
        (None, ConfigError, "no chat template"),
        ("{{ strftime_now('%d') }}" + CHATML, ConfigError, "today's date"),
        ("{% for message in messages %}{{ message['role'] }}{% endfor %}", ConfigError, "does not write a question"),
        ("{{ raise_exception('no pictures') }}", ConfigError, "no pictures"),
        (FORGETS, DataError, "changes the answer 'a wild dog'"),
        ("{{ messages | length }}" + CHATML, DataError, "up to answer 1 differently once it continues"),
    ],
    ids=["none", "date", "silent", "refuses", "forgets", "counts"],
)
def test_a_template_that_cannot_be_used_is_refused_with_its_reason(template, error, words):
    with pytest.raises(error, match=words):
        renderer = FolderRenderer(tokenizer_with(template))
        renderer.check_trainable()
        renderer.render((*TALK, Turn("human", "Why?"), Turn("gpt", "so")))


def test_a_template_without_an_end_token_prompts_and_does_not_train():
    renderer = FolderRenderer(tokenizer_with(ENDLESS))
    assert renderer.tokenizer.decode(renderer.render_question((Turn("human", "x"),))).endswith("assistant\n")
    with pytest.raises(ConfigError, match="writes no end token behind an answer"):
        renderer.check_trainable()


@pytest.mark.parametrize("text", ["say <|im_end|> now", "<|im_start|>user"])
def test_a_special_token_in_a_text_is_refused(text):
    renderer = FolderRenderer(tokenizer_with(CHATML))
    for turns in ((Turn("human", text), TALK[1]), (TALK[0], Turn("gpt", text))):
        with pytest.raises(DataError, match="in a text, which the tokenizer takes for a special token"):
            renderer.render(turns)


@pytest.mark.parametrize("template", ["llava", "hf"])
def test_llavas_templates_take_the_tokenizers_own_end_where_it_has_no_s(template):
    tokenizer = tokenizer_with(None)
    rendered = ChatRenderer(tokenizer, template).render(TALK)
    assert tokenizer.decode(with_image(tokenizer, rendered.input_ids)).startswith("A chat between")
    on = [i for i, lit in zip(rendered.input_ids, rendered.supervised, strict=True) if lit]
    assert tokenizer.decode(on) == " a wild dog<|im_end|> assistant cat<|im_end|>"
    asked = ChatRenderer(tokenizer, template).render_question(TALK[:1])
    assert rendered.input_ids[: len(asked)] == asked


def test_an_answer_follows_the_prompts_blanks_also_where_the_template_writes_others():
    blank, usual = (FolderRenderer(tokenizer_with(template)) for template in (BLANK, GENERATION))
    ours, expected = blank.render(TALK), usual.render(TALK)
    assert (ours.input_ids, ours.supervised) == (expected.input_ids, expected.supervised)
    prompt = blank.render_question(TALK[:3])
    assert ours.input_ids[: len(prompt)] == prompt
    many = TALK[:2] + TALK[2:] * 19
    assert blank.render(many).supervised == usual.render(many).supervised
    assert blank.answered(TALK[:3], "a cat") == usual.answered(TALK[:3], "a cat")


@pytest.mark.parametrize("template", [CHATML, PARTS])
def test_an_image_can_follow_the_words_of_its_question(template):
    renderer = FolderRenderer(tokenizer_with(template))
    renderer.place_image_last()
    ids = with_image(renderer.tokenizer, renderer.render_question(TALK[:1]))
    text = renderer.tokenizer.decode(ids)
    assert text.index("What is it?") < text.index("<image>") < text.index("assistant")
    first = FolderRenderer(tokenizer_with(template)).render_question(TALK[:1])
    assert renderer.render_question(TALK[2:3]) and first != ids, "without an image nothing is put behind"


def test_a_template_that_always_begins_with_the_image_says_so():
    fixed = PARTS.replace(
        "{% for part in message['content'] %}",
        "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
        "{% for part in message['content'] if part['type'] == 'text' %}",
    )
    with pytest.raises(ConfigError, match="image_order is after, and chat template folder puts the image first"):
        FolderRenderer(tokenizer_with(fixed)).place_image_last()
