"""Settings of a protocol: the question, and how an answer is scored."""

from dataclasses import dataclass
from typing import Any

from configs.errors import ConfigError
from configs.section import Section, setting

TRAINED = "trained"
"""The value of a setting that an evaluation takes from the training of its model (`configs.trained`)."""
PUBLISHED_DEFAULTS: dict[str, Any] = {
    "prompt": "paper",
    "template": "family",
    "system_prompt": "family",
    "image_mode": "export",
}
"""What `trained` means for a model as published."""
LISTED = ("closed_world", "class_likelihood", "zero_shot", "trained_probe")
"""Tasks whose questions or scores use all names of protocol.classes."""
UNCLASSED = ("multiple_choice", "vqa", "yes_no", "graded")
"""Tasks whose answers are letters or free text, which are not compared with class names."""
FILE_DRAWS = ("similar_class", "similar_image", "siblings")
"""Values of candidate_draw that take the candidates from protocol.candidate_file."""


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig(Section):
    """How a question is asked and its answer scored. Every choice is a field, so all combinations can be run."""

    name: str = setting("custom", doc="Name of the protocol, printed with its hash.", changes_result=False)
    task: str = setting(
        "open_world",
        doc="Task by name: open_world, closed_world, class_likelihood, zero_shot, trained_probe, multiple_choice, vqa, "
        "yes_no, graded, or one added to eval/tasks/registry.py. (hidden_states stores the open question's states; "
        "eval.probing sets it.)",
    )
    prompt: str = setting(
        TRAINED,
        doc="Classification prompt: `trained`, the question that the model was trained with (published models: paper); "
        "by name (data_prep/prompts.py); or the text itself.",
    )
    answer_prefix: str = setting("", doc='Text the answer begins with, such as "Let\'s think step by step."')
    prefix_position: str = setting(
        "official",
        doc="Whether answer_prefix begins the `answer` or ends the `question`; `official`, as in the authors' code: it "
        "ends a BLIP's question and begins the answer of all others. With an API it always ends the question.",
        choices=("answer", "question", "official"),
    )
    template: str = setting(
        TRAINED,
        doc="Chat template: `trained` as in the run that trained the model (published models: `family`), `family` as "
        "the published family was trained, `official` as in the authors' code, or one by name "
        "(train/chat/templates.py); llava, hf and folder as chat.template; llava_doubled is llava except that "
        "answer_prefix opens a second turn: ASSISTANT:ASSISTANT: (authors' fine-tuned ImageWikiQA).",
        choices=(
            TRAINED,
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
            "folder",
        ),
    )
    system_prompt: str = setting(
        TRAINED,
        doc="`trained` (published models: `family`), `family`, `official`, `template` as chat.system_prompt, "
        "`vicuna_v1`, `vicuna_human`, `none`, or the text itself.",
    )
    image_mode: str = setting(
        TRAINED,
        doc="As chat.image_mode, for LLaVA-1.5; `export` is the mode stored in the model's folder, for every family; "
        "`trained` too, as an export stores the mode of its training.",
        choices=(TRAINED, "pad", "crop", "export"),
    )
    image_order: str = setting(
        "before",
        doc="The image is put `before` the text of its question, as models are trained, or `after` it; templates that "
        "always begin with the image (BLIP's, chat.template folder) refuse. APIs: api.image_position.",
        choices=("before", "after"),
    )
    image_size: int | None = setting(
        None,
        doc="Side in pixels of a BLIP's resized images, position embeddings interpolated; null: the model's own.",
        at_least=1,
        at_most=4096,
    )
    min_pixels: int | None = setting(
        None, doc="As chat.min_pixels, for Qwen-VL; an export stores those of its training.", at_least=1
    )
    max_pixels: int | None = setting(
        None, doc="As chat.max_pixels, for Qwen-VL; an export stores those of its training.", at_least=1
    )
    padding_side: str = setting(
        "left",
        doc="Side on which shorter questions of a batch are padded. `left` changes no answer; with `right` an answer "
        "depends on its batch (authors' code: `processor`, the side stored in the model's folder; BLIP-2: right). "
        "Qwen-VL: left only.",
        choices=("left", "right", "processor"),
    )
    classes: str | None = setting(
        None,
        doc="Class list of closed_world, class_likelihood, zero_shot and trained_probe, and of open_world's synonyms: "
        "a shipped list's name, a file, or a folder of shards.",
    )
    unknown_classes: str = setting(
        "refuse",
        doc="Items whose class is not in `classes`, or not in the training source of a linear probe: `refuse` the "
        "evaluation before its first question and name them, or `leave_out` these items and count them.",
        choices=("refuse", "leave_out"),
        changes_result=False,
    )
    candidates: int | None = setting(
        None, doc="Classes to choose from, including the label, sampled by the item's id; null: all.", at_least=2
    )
    order: str = setting(
        "random",
        doc="Order of the classes in a closed-world question: `random` by the item's id, or `fixed` as in the list.",
        choices=("random", "fixed"),
    )
    candidate_draw: str = setting(
        "item",
        doc="How candidates are drawn: at random by the `item`'s id; from one random `stream` over the shuffled data, "
        "as in an uninterrupted run of the authors' code; or the classes that a CLIP finds most alike, by the item's "
        "class (`similar_class`) or by its image (`similar_image`), or at random among the `siblings` of its class in "
        "a tree of names, as candidate_file says.",
        choices=("item", "stream", *FILE_DRAWS),
    )
    candidate_file: str | None = setting(
        None,
        doc="File of candidate_draw similar_class, similar_image or siblings, written by python -m "
        "eval.similar_classes.",
    )
    seed: int = setting(
        0,
        doc="Seed of what a protocol draws: candidates, their order, and letters for answers without one. The authors' "
        "stream begins with 1234 + seed.",
        at_least=0,
    )
    item_draw: str = setting(
        "id",
        doc="Items that `limit` chooses: by a hash of their `id`, or the first of the `stream`, the authors' shuffled "
        "data (of a source that has their items in their order).",
        choices=("id", "stream"),
    )
    likelihood_items: int | None = setting(
        None,
        doc="Items of task class_likelihood where `limit` is null (authors' code: 1,000); null: all.",
        at_least=1,
        changes_result=False,
    )
    class_quotes: bool = setting(True, doc="Quotes around the classes of a closed-world question, as in authors' code.")
    class_sentence: str = setting(
        "a photo of a {}", doc="Sentence of each class for task zero_shot, {} its name (official: A photo of a {})."
    )
    class_match: str = setting(
        "equal",
        doc="When the best class of task zero_shot is right: `equal` to the label, or by `match` (authors' code).",
        choices=("equal", "match"),
    )
    class_prefix: str = setting(
        "", doc="Text between prompt and scored class name; `official`: the authors' for the model."
    )
    class_token_ids: str = setting(
        "in_context",
        doc="Token ids that are scored: the name's ids after the prompt; `misaligned`: its ids when tokenized alone, "
        "read at the sentence's last positions (one forward pass per name); `official`: misaligned for BLIP.",
        choices=("in_context", "misaligned", "official"),
    )
    token_scores: str = setting(
        "log_probability",
        doc="Token scores summed or averaged: log-probabilities, or probabilities (the paper, read literally).",
        choices=("log_probability", "probability"),
    )
    rule: str = setting(
        "sum",
        doc="How token scores become a name's score: `sum`, `mean`, or `cfg` (classifier-free guidance).",
        choices=("sum", "mean", "cfg"),
    )
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
    temperature: float | None = setting(
        None,
        doc="Temperature of the softmax over class scores that makes a confidence (calibration and abstention in the "
        "report; no answer depends on it); null: 1 for log-likelihoods, a CLIP's own for its cosines, none for scores "
        "that are no logarithms.",
        above=0,
    )
    score_eos: bool = setting(
        False, doc="Score the end token after each name, so that `tiger` does not win as a prefix of `tiger shark`."
    )
    duplicates: str = setting(
        "any",
        doc="Of classes that share a name, `any` is right, or only the `first` (authors' code).",
        choices=("any", "first"),
    )
    show_image: bool = setting(True, doc="Show the image of a multiple-choice question; false: text only.")
    choice_prompt: str = setting(
        "stored",
        doc="A multiple-choice question as `stored`, or in the wording by which GPT-4 was asked to `filter` them "
        "(paper, Figure 9). The paper's GPT-4 rows with the class name and without the image used this text-only "
        "prompt.",
        choices=("stored", "filter"),
    )
    filter_indent: bool = setting(
        False, doc="Four spaces before each line of choice_prompt filter but the first (authors' code)."
    )
    reveal_class: bool = setting(False, doc="Name the class in a multiple-choice question (Table 5, w/ GT Class).")
    reveal_class_style: str = setting(
        "official",
        doc='How reveal_class names it: `official`, the authors\' sentences: in place of "this object", else of '
        '"This object" (Weighing scale), else of "these objects" (weighing scales), in the question and '
        'not in its options; `everywhere`: for every "this object", also in options.',
        choices=("official", "everywhere"),
    )
    refuse_leaks: bool = setting(False, doc="Fail questions that contain their class name.")
    choice_parser: str = setting(
        "careful",
        doc="Scorer of multiple choice: `careful` (rules in data_prep/chosen_option.py), `mmmu` (authors' code), "
        "`first_character` (authors' code where choice_prompt is filter), or one added to eval/scorers/registry.py.",
    )
    question_suffix: str = setting(
        "",
        doc="Line after the question of tasks vqa and yes_no (LLaVA's: Answer the question "
        "using a single word or phrase.).",
    )
    ocr_tokens: bool = setting(
        False, doc='A line "Reference OCR token: ..." after a question of task vqa whose item has such tokens (LLaVA).'
    )
    vqa_scorer: str = setting(
        "vqa_llava",
        doc="Scorer of task vqa: `vqa_llava`, VQA accuracy with the normalization of LLaVA's and M4C's code; `vqa`, "
        "that of the VQA challenge's code; or one added to eval/scorers/registry.py.",
    )
    yes_no_scorer: str = setting(
        "pope",
        doc="How an answer of task yes_no is read: `pope`, the rule of POPE's and LLaVA's code (no if its first "
        "sentence has the word no or not, else yes); `yes_no`, by the words yes and no, no answer without them.",
        choices=("pope", "yes_no"),
    )
    unparsed: str = setting(
        "no_answer",
        doc="An answer without a letter counts as no answer, or (authors' code) as a random letter, by the item's id.",
        choices=("no_answer", "random"),
    )
    answer_after: str | None = setting(
        None,
        doc="Only what follows the last occurrence of this text is scored; `official`: the answer delimiter of the "
        "model's family in the authors' code (ASSISTANT:, [/INST], Answer:).",
    )
    scored_part: str = setting(
        "generated",
        doc="Part of the answer that is scored: what the model `generated`, or that `with_prefix`: behind the "
        "answer_prefix, as authors score LLaVA's decoded output (its words count in rules by length).",
        choices=("generated", "with_prefix"),
    )
    delete_from_label: str = setting("", doc="Characters deleted from the label before matching.")
    delete_from_answer: str = setting("", doc="Characters deleted from the answer before it is scored.")
    match: str = setting(
        "contains",
        doc="Scorer of open questions: `contains` (label anywhere in the answer), `word` (as whole words), `exact` "
        "(the whole answer), `name` (whole words, also in the plural or with other hyphens and accents; wrong if the "
        "answer negates the name or names several classes), or one added to eval/scorers/registry.py.",
    )
    synonyms: str | None = setting(
        None,
        doc="JSON file {class name: [accepted names]}, or `auto`: those of the class list; null: only the class name.",
    )
    labels: str | None = setting(
        None,
        doc="JSON file with the classes that are right for each image, in place of its source's label: ImageNet-ReaL's "
        "real.json, or {item id: [class names, keys or indices of `classes`]}. Images with an empty list are left out "
        "of the accuracy and counted. Questions and candidates are still those of the source's label.",
    )
    labels_missing: str = setting(
        "refuse",
        doc="Items that the file `labels` does not have: `refuse` to score, `keep` the source's label, or `leave_out` "
        "and count them.",
        choices=("refuse", "keep", "leave_out"),
    )
    frequency_count: str = setting(
        "plain",
        doc="Occurrences of a class name in training text that count (data_prep/frequency.py): `plain`, `inflected` "
        "(in the plural too, without its brackets) or `official` (authors' code). Histograms of shards have no rule.",
        choices=("plain", "inflected", "official"),
    )
    frequency_total: str = setting(
        "all_stages",
        doc="A class's frequency: its occurrences in all stages, or 0 where the first has none (authors' code).",
        choices=("all_stages", "if_in_first"),
    )
    frequency_names: str = setting(
        "whole",
        doc="Class name for its frequency: `whole`, or cut `before_hyphen` (authors' code, fine-tuned models).",
        choices=("whole", "before_hyphen"),
    )
    frequency_bins: str = setting(
        "open",
        doc="Bins of the frequency: powers of ten without an end, or the authors', which end before 100,000 and whose "
        "means are divided by the number of classes + 0.001.",
        choices=("open", "official"),
    )
    max_new_tokens: int = setting(64, doc="Longest answer in tokens (paper's code: 64).", at_least=1)

    def __post_init__(self) -> None:
        """Raise `ConfigError` if a protocol lacks the class list that it needs."""
        super().__post_init__()
        if self.task in LISTED and self.classes is None:
            raise ConfigError(f"protocol.task {self.task} needs protocol.classes: a list's name, such as imagenet")
        if self.labels is not None and self.task in UNCLASSED:
            raise ConfigError(
                f"protocol.labels has the classes of images, and task {self.task} is not scored by classes; remove it"
            )
        if "{}" not in self.class_sentence:
            raise ConfigError(
                f"protocol.class_sentence is {self.class_sentence!r}; write {{}} where the class name belongs"
            )
        self._check_candidates()
        if self.task == "zero_shot" and self.rule == "cfg":
            raise ConfigError("protocol.rule is cfg, which guides a language model; task zero_shot has none: use sum")
        if self.task == "trained_probe" and self.rule == "cfg":
            raise ConfigError("protocol.rule is cfg, which guides class names; task trained_probe has none: use sum")

    def _check_candidates(self) -> None:
        """Raise `ConfigError` if candidate_draw and candidate_file do not fit each other."""
        named = self.candidate_draw in FILE_DRAWS
        if named and self.candidate_file is None:
            raise ConfigError(
                f"protocol.candidate_draw is {self.candidate_draw} and protocol.candidate_file is not set; write a "
                "file with python -m eval.similar_classes and name it"
            )
        if named and self.candidates is None:
            raise ConfigError(
                f"protocol.candidate_draw is {self.candidate_draw} and protocol.candidates is null, which takes all "
                "classes; set the number of candidates"
            )
        if self.candidate_file is not None and not named:
            raise ConfigError(
                f"protocol.candidate_file is {self.candidate_file} and protocol.candidate_draw {self.candidate_draw} "
                f"does not use it; set candidate_draw to {' or '.join(FILE_DRAWS)}, or candidate_file to null"
            )
