"""The tiny base's tokenizer, and conversations as token ids.

One token per word or punctuation mark; spaces and newlines separate them and are dropped. So a fragment has
the same ids alone and inside a longer text, and decoding joins words with one space.

    "USER: What does vel kano eat?" -> ["USER:", "What", "does", "vel", "kano", "eat", "?"]
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from data_prep.sample import IMAGE_PLACEHOLDER, Turn
from data_prep.toy_world.facts import ALL_FACTS, COLOURS, LETTERS, SHAPES, TEXTURES, toy_classes
from data_prep.toy_world.reader import WORDINGS
from train.chat.conversation import IGNORE_INDEX, TokenizedConversation, expand_image
from train.chat.render import ChatRenderer

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", IMAGE_PLACEHOLDER)
USER, ASSISTANT = "USER:", "ASSISTANT:"
PIECES = r"USER:|ASSISTANT:|\w+|[^\w\s]"

# Words that do not occur in the world's texts but may occur in questions about it.
SPARE_WORDS = (
    "Be concise . Answer with the option's letter from given choices directly . Choose a single category from "
    "[ ] ( ) , ; : - ' \" ! / Yes No yes no not and or an it its there image picture photo class name these those "
    "1 2 3 4 5 6 7 8 9 0 E F G H Let us think step by"
)
PHRASES = (
    "What is this ? What is the name of this object ? Describe the object . this is a . Which option is ? "
    "What colour texture shape is the object ? Choose A, B, C, or D."
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """One conversation of T tokens; every list has length T, and -100 marks positions without a target.

    `labels[t]` is the token after position t, if it belongs to an answer. The other two are targets of auxiliary losses
    of the lower layers. `notes[t]` is the word that the hidden state at t should encode: at a question's "?" and at the
    `ASSISTANT:` after it the value asked for, or the first word of the name; at that word the second; at an option its
    letter. `points[t]` is the position of the right option, at the `ASSISTANT:` before its letter.
    """

    ids: list[int]
    labels: list[int]
    notes: list[int]
    points: list[int]


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The word-level tokenizer of the world `seed`: ids 0 to 4 are special, the words follow in alphabetical order."""
    split = Split(Regex(PIECES), behavior="removed", invert=True)
    texts = [USER, ASSISTANT, SPARE_WORDS, PHRASES, *WORDINGS, *COLOURS, *TEXTURES, *SHAPES]
    texts += [*LETTERS, *(toy_class.name for toy_class in toy_classes(seed))]
    for fact in ALL_FACTS.values():
        texts += [fact.question.format(thing="this object"), *fact.values]
    words = sorted({piece for text in texts for piece, _ in split.pre_tokenize_str(text)})
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=[IMAGE_PLACEHOLDER],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
        padding_side="left",  # as llava-hf's folders say
    )


def tokenize(
    tokenizer: PreTrainedTokenizerFast,
    turns: Iterable[Turn],
    *,
    image_tokens: int,
    recall: Sequence[str] | None = None,
) -> Tokens:
    """`<s>USER: question ASSISTANT: answer</s>USER: ...`, rendered as every conversation is (`train.chat.render`).

    Supervised are the answers and the `</s>` after each. A conversation that ends with a question ends with the
    `ASSISTANT:` after it. `<image>` becomes `image_tokens` ids. `recall` has one word per question ("" for none).
    """
    turns = list(turns)
    conversation = _rendered(tokenizer, turns, image_tokens)
    ids, targets = conversation.input_ids, conversation.supervised
    length = len(ids)
    labels = [ids[i + 1] if i + 1 < length and targets[i + 1] else IGNORE_INDEX for i in range(length)]
    tokens = Tokens(ids, labels, [IGNORE_INDEX] * length, [IGNORE_INDEX] * length)
    options: dict[int, int] = {}  # the position of each option of the latest list
    start = 1
    for number, turn in enumerate(turns):
        end = start
        while end < length and targets[end] == (turn.speaker == "gpt"):
            end += 1
        word = recall[number // 2] if recall else ""
        if turn.speaker == "gpt":
            if word and end - start == 3:  # a name: its first word is followed by the second
                tokens.notes[start] = ids[start + 1]
        else:
            options = _note_options(tokenizer, tokens, range(start, end), options, turn.text)
            if word:
                value = tokenizer.convert_tokens_to_ids(word)
                question_mark = tokenizer.convert_tokens_to_ids("?")
                tokens.notes[ids.index(question_mark, start)] = tokens.notes[end - 1] = value
                if turns[number + 1].text in LETTERS:
                    tokens.points[end - 1] = options[value]
        start = end
    return tokens


def _rendered(tokenizer: PreTrainedTokenizerFast, turns: Sequence[Turn], image_tokens: int) -> TokenizedConversation:
    """The conversation's ids and targets with its image expanded; after a last question without an end token."""
    open_question = turns[-1].speaker == "human"
    answered = (*turns, Turn("gpt", "")) if open_question else tuple(turns)
    rendered = ChatRenderer(tokenizer, "hf", "none").render(answered)
    if open_question:
        del rendered.input_ids[-1], rendered.supervised[-1]
    image_id = tokenizer.convert_tokens_to_ids(IMAGE_PLACEHOLDER)
    return expand_image(rendered, [image_id] * image_tokens, sys.maxsize)


def _note_options(
    tokenizer: PreTrainedTokenizerFast, tokens: Tokens, question: range, options: dict[int, int], text: str
) -> dict[int, int]:
    """Set the note of each option, "B . moss", to its letter, at "moss"; return the positions of the last options."""
    letters, full_stop = set(tokenizer.convert_tokens_to_ids(list(LETTERS))), tokenizer.convert_tokens_to_ids(".")
    for position in question[:-3]:
        letter = tokens.ids[position]
        if letter in letters and tokens.ids[position + 1] == full_stop:
            tokens.notes[position + 2] = letter
            options = {} if text.count("\nA. ") and letter == min(letters) else options
            options[tokens.ids[position + 2]] = position + 2
    return options
