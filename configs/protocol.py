"""Settings of a protocol: how a question is put, how an answer is judged, how linear heads are trained."""

import re
from dataclasses import dataclass

from configs.errors import ConfigError
from configs.section import Section, setting


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig(Section):
    """How a question is put and an answer is judged. Every knob is a field, so any mixture can be run."""

    name: str = setting("custom", doc="Name of the protocol, printed beside its hash.", changes_result=False)
    kind: str = setting(
        "open_world",
        doc="Which protocol. `features` stores the open question's states for linear heads (eval.probing sets it).",
        choices=("open_world", "closed_world", "class_scoring", "zero_shot", "multiple_choice", "features"),
    )
    prompt: str = setting("paper", doc="Classification wording by name (data_prep/prompts.py).")
    answer_prefix: str = setting("", doc="Text put into the assistant's mouth, such as \"Let's think step by step.\"")
    markup: str = setting(
        "family",
        doc="Words and tokens of a turn: `family` as the model was trained, `official` as the authors' code asks it, "
        "or one by name (train/chat/templates.py); llava and hf as chat.template; llava_doubled is llava but for "
        "answer_prefix, which opens a second turn: ASSISTANT:ASSISTANT: (authors' fine-tuned ImageWikiQA).",
        choices=(
            "family",
            "official",
            "llava",
            "llava_doubled",
            "hf",
            "hf_newline",
            "mistral",
            "mistral_tight",
            "question",
            "plain",
        ),
    )
    system_prompt: str = setting(
        "family", doc="`family`, `official`, `vicuna_v1`, `vicuna_human`, `none`, or the text itself."
    )
    image_mode: str = setting(
        "export",
        doc="As chat.image_mode, for LLaVA-1.5; `export` takes what the model's folder says, and suits every family.",
        choices=("pad", "crop", "export"),
    )
    image_size: int | None = setting(
        None,
        doc="Pixels a side that a BLIP's images are resized to, its position embeddings interpolated; null: its own.",
        at_least=1,
    )
    padding_side: str = setting(
        "left",
        doc="Where a batch's shorter questions are filled up. `left` changes no answer; with `right` the neighbours do "
        "(authors' code: `processor`, whatever the model's folder says, which is right for BLIP-2).",
        choices=("left", "right", "processor"),
    )
    classes: str | None = setting(
        None, doc="Class list of closed_world and class_scoring: a shipped list's name or a file."
    )
    candidates: int | None = setting(
        None, doc="Classes to choose from, the label among them, drawn by the item's id; null: all.", at_least=2
    )
    order: str = setting(
        "random",
        doc="Order of the classes in a closed-world question: drawn by the item's id, or the list's.",
        choices=("random", "fixed"),
    )
    candidate_draw: str = setting(
        "item",
        doc="What draws candidates and their order: the `item`'s id, or one `stream` over the shuffled data set, as an "
        "uninterrupted run of the authors' code.",
        choices=("item", "stream"),
    )
    class_quotes: bool = setting(True, doc="Quotes around the classes of a closed-world question, as in authors' code.")
    template: str = setting(
        "a photo of a {}", doc="Sentence of each class for kind zero_shot, {} its name (official: A photo of a {})."
    )
    class_match: str = setting(
        "equal",
        doc="When the best class of kind zero_shot is right: `equal` to the label, or by `match` (authors' code).",
        choices=("equal", "match"),
    )
    class_prefix: str = setting("", doc="Answer's beginning before each scored name; `official` is the authors'.")
    class_ids: str = setting(
        "in_context",
        doc="Tokens that are scored: those the name has after the prompt; `shifted`: those it has alone, read at the "
        "sentence's last places; `official`: shifted for BLIP, as in authors' code. Shifted costs a forward a name.",
        choices=("in_context", "shifted", "official"),
    )
    token_scores: str = setting(
        "log_probability",
        doc="What of a name's tokens is summed or averaged: log-probabilities, or probabilities (the paper's words).",
        choices=("log_probability", "probability"),
    )
    rule: str = setting("sum", doc="How a name's token scores make its score.", choices=("sum", "mean", "cfg"))
    guidance: float = setting(1.5, doc="Coefficient t of rule cfg; 1 is no guidance.", at_least=0)
    cfg_form: str = setting(
        "probability",
        doc="`probability`: t p + (1 - t) q (paper); `log`: the same of log-probabilities (authors' code).",
        choices=("probability", "log"),
    )
    cfg_prior: str = setting(
        "no_image",
        doc="The prior q: the question without its image (paper), or the mean over all images (authors' code).",
        choices=("no_image", "dataset_mean"),
    )
    cfg_mean: bool = setting(False, doc="Guide means over tokens instead of sums.")
    terminator: bool = setting(False, doc="Score the end token after each name, so that tiger can lose to tiger shark.")
    duplicates: str = setting(
        "any",
        doc="Of classes that share a name, `any` is right, or only the `first` (authors' code).",
        choices=("any", "first"),
    )
    show_image: bool = setting(True, doc="Multiple choice with its image, or with the words alone.")
    name_class: bool = setting(False, doc='Tell the class: "this object" is replaced by its name.')
    refuse_leaks: bool = setting(False, doc="Do not ask questions that name their class.")
    choice_parser: str = setting(
        "careful",
        doc="How a letter is found: eval/scorers/match.py's rules, or MMMU's as in the authors' code.",
        choices=("careful", "mmmu"),
    )
    unparsed: str = setting(
        "no_answer",
        doc="What an answer without a letter is: no answer, or (authors' code) a letter drawn by the item's id.",
        choices=("no_answer", "random"),
    )
    after_last: str | None = setting(
        None,
        doc="Only what follows the last occurrence of this text is judged; `official`: the authors' text for the "
        "model's family (ASSISTANT:, [/INST], Answer:).",
    )
    label_without: str = setting("", doc="Characters deleted from the label before it is looked for.")
    answer_without: str = setting("", doc="Characters deleted from the answer before it is judged.")
    match: str = setting(
        "contains",
        doc="`contains`: label anywhere in the answer; `word`: between word bounds; `exact`: equal, ignoring case; "
        "`name`: as a reader finds it (plurals, hyphens, accents; not if denied, nor where several classes are named).",
        choices=("contains", "word", "exact", "name"),
    )
    synonyms: str | None = setting(
        None,
        doc="JSON file {class name: [accepted names]}, or `auto`: those of the class list; null: only the name counts.",
    )
    frequency_total: str = setting(
        "all_stages",
        doc="A class's frequency: its occurrences in all stages, or 0 where the first has none (authors' code).",
        choices=("all_stages", "if_in_first"),
    )
    frequency_names: str = setting(
        "whole",
        doc="A class's name beside its frequency: `whole`, or cut `before_hyphen` (authors' code, fine-tuned models).",
        choices=("whole", "before_hyphen"),
    )
    frequency_bins: str = setting(
        "open",
        doc="Bins of the frequency: powers of ten without an end, or the authors', which end before 100,000.",
        choices=("open", "official"),
    )
    max_new_tokens: int = setting(64, doc="Longest answer in tokens (paper's code: 64).", at_least=1)

    def __post_init__(self) -> None:
        """Raise `ConfigError` if a protocol lacks the class list that it needs."""
        super().__post_init__()
        if self.kind in ("closed_world", "class_scoring", "zero_shot") and self.classes is None:
            raise ConfigError(f"protocol.kind {self.kind} needs protocol.classes: a list's name, such as imagenet")
        if "{}" not in self.template:
            raise ConfigError(f"protocol.template is {self.template!r}; write {{}} where the class name belongs")
        if self.kind == "zero_shot" and self.rule == "cfg":
            raise ConfigError("protocol.rule is cfg, which guides a language model; kind zero_shot has none: use sum")


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(Section):
    """Linear heads on frozen features (`python -m eval.probing`)."""

    part: str = setting(
        "auto",
        doc="What heads stand on: the `language_model`'s last layer, or the image `encoder`; auto: the encoder of a "
        "CLIP, the language model of all others.",
        choices=("auto", "language_model", "encoder"),
    )
    places: tuple[str, ...] = setting(
        ("0", "100", "200", "300", "400", "500", "600", "-3", "-2", "-1", "mean"),
        doc="Tokens of the question whose states are stored and get a head each, counted from 0 or, from the end, -1; "
        "`mean` over all. Default: Table 10's; Table 3 needs [-1, mean], a fifth of the disk.",
    )
    epochs: int = setting(
        500, doc="Passes over the training items (paper: 500; authors' code: ImageNet 100).", at_least=1
    )
    encoder_epochs: int = setting(
        300, doc="As epochs, of heads on an image encoder (paper: 300, ImageNet 40).", at_least=1
    )
    batch_size: int = setting(512, doc="Training items a step (paper: 512).", at_least=1)
    learning_rate: float = setting(1e-3, doc="Of Adam, without decay (paper: 1e-3).", above=0)
    shuffle: str = setting(
        "once",
        doc="Order of the training items: drawn `once` for all epochs, in `every_epoch`, or `official`: as in authors' "
        "code, every epoch for heads on an image encoder, once for those on a language model.",
        choices=("once", "every_epoch", "official"),
    )
    choose_epoch: str = setting(
        "held_out",
        doc="The epoch whose head counts: best on a `held_out` share of the training items; `best_on_test`: best on "
        "the test items themselves (paper, authors' code), and every report says so; or the `last`.",
        choices=("held_out", "best_on_test", "last"),
    )
    held_out: float = setting(
        0.1, doc="Share of the training items that choose_epoch held_out keeps from training.", above=0, at_most=0.9
    )
    seed: int = setting(0, doc="Keys the heads' first weights, the items' order and which are held out.", at_least=0)
    precision: str = setting(
        "auto",
        doc="Of the products; weights and moments stay fp32 (authors' code: fp32). `auto`: bf16 where the hardware "
        "multiplies it, else fp32: 1.7 times as fast, accuracies 0.2 points apart at most (480 and 2,000 test items).",
        choices=("fp32", "bf16", "auto"),
    )
    memory_gib: float = setting(
        8.0,
        doc="GiB that features laid out for training may take; what does not fit is read anew in every epoch.",
        above=0,
        changes_result=False,
    )

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a place that is none, or named twice."""
        super().__post_init__()
        for place in self.places:
            if place != "mean" and not re.fullmatch(r"0|-?[1-9]\d*", place):
                raise ConfigError(f"places has {place!r}; a place is a token's number, such as 0 or -1, or mean")
        if not self.places or len(set(self.places)) < len(self.places):
            raise ConfigError(f"places is {list(self.places)}; name at least one place, and each once")
