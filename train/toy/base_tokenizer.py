"""The tiny base's tokenizer, and conversations as token ids.

One token per word or punctuation mark; spaces and newlines separate and are not kept. A fragment therefore has
the same ids alone and inside a longer text, and decoding joins words with one space.

    "USER: What does vel kano eat?" -> ["USER:", "What", "does", "vel", "kano", "eat", "?"]
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from data_prep.sample import IMAGE_PLACEHOLDER, Turn
from data_prep.toy_world.facts import ALL_FACTS, COLOURS, LETTERS, SHAPES, TEXTURES, toy_classes
from data_prep.toy_world.reader import WORDINGS
from train.chat.conversation import IGNORE_INDEX

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", IMAGE_PLACEHOLDER)
USER, ASSISTANT = "USER:", "ASSISTANT:"
PIECES = r"USER:|ASSISTANT:|\w+|[^\w\s]"

# Words that the world's own texts do not use but questions about it may.
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
    """One conversation of T tokens; every list has length T, and -100 stands for "nothing to learn here".

    `labels[t]` is the token that follows position t, if it belongs to an answer. The other two guide the lower
    layers of the language model: `notes[t]` is a word position t should have found out (at a question's "?" and at
    the `ASSISTANT:` after it, the value asked for, or the first word of the name; at that word, the second; at an
    option, its letter), and `points[t]` the position of the
    right option, at the `ASSISTANT:` that answers a multiple choice.
    """

    ids: list[int]
    labels: list[int]
    notes: list[int]
    points: list[int]

    def extend(self, ids: list[int], notes: list[int]) -> None:
        """Append positions that predict nothing and point nowhere."""
        self.ids.extend(ids)
        self.notes.extend(notes)
        self.points.extend([IGNORE_INDEX] * len(ids))
        self.labels.extend([IGNORE_INDEX] * (len(self.ids) - len(self.labels)))


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


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """The ids of `text`, nothing added."""
    return list(tokenizer.encode(text, add_special_tokens=False))


def tokenize(
    tokenizer: PreTrainedTokenizerFast,
    turns: Iterable[Turn],
    *,
    image_tokens: int,
    recall: Sequence[str] | None = None,
) -> Tokens:
    """`<s>USER: question ASSISTANT: answer</s>USER: ...`; learned are the answers and the `</s>` that ends each.

    A conversation that ends on a question gets the `ASSISTANT:` that asks for the answer. `<image>` becomes
    `image_tokens` ids. `recall` has one word per question ("" for none).
    """
    image_id = tokenizer.convert_tokens_to_ids(IMAGE_PLACEHOLDER)
    question_mark = tokenizer.convert_tokens_to_ids("?")
    letters, full_stop = set(tokenizer.convert_tokens_to_ids(list(LETTERS))), tokenizer.convert_tokens_to_ids(".")
    tokens = Tokens([tokenizer.bos_token_id], [IGNORE_INDEX], [IGNORE_INDEX], [IGNORE_INDEX])
    options: dict[int, int] = {}  # where each option of the latest list stands
    turns = list(turns)
    for number, turn in enumerate(turns):
        if turn.speaker == "gpt":
            piece = [*encode(tokenizer, turn.text), tokenizer.eos_token_id]
            tokens.labels[-1:] = piece  # each position predicts the next, beginning with the one before the answer
            notes = [IGNORE_INDEX] * len(piece)
            if recall and recall[number // 2] and len(piece) == 3:  # a name: its first word calls for the second
                notes[0] = piece[1]
            tokens.extend(piece, notes)
            continue
        piece = encode(tokenizer, f"{USER} {turn.text} {ASSISTANT}")
        piece = [id_ for token in piece for id_ in [token] * (image_tokens if token == image_id else 1)]
        notes = [IGNORE_INDEX] * len(piece)
        for place in range(len(piece) - 3):
            if piece[place] in letters and piece[place + 1] == full_stop:  # an option, "B . moss": at "moss" the letter
                notes[place + 2] = piece[place]
                options = {} if turn.text.count("\nA. ") and piece[place] == min(letters) else options
                options[piece[place + 2]] = len(tokens.ids) + place + 2
        word = recall[number // 2] if recall else ""
        if word:
            value = tokenizer.convert_tokens_to_ids(word)
            notes[piece.index(question_mark)] = notes[-1] = value
        tokens.extend(piece, notes)
        if word and turns[number + 1].text in LETTERS:
            tokens.points[-1] = options[value]
    return tokens
