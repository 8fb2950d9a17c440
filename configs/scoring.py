"""Settings of a protocol that no stored answer depends on: how answers and the stored scores of names are scored."""

from dataclasses import dataclass

from configs.section import Section, setting


@dataclass(frozen=True, kw_only=True)
class ClassScoring(Section):
    """How the log-probabilities of the tokens of class names become one score a class."""

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


@dataclass(frozen=True, kw_only=True)
class AnswerScoring(Section):
    """What of an answer is compared with which names, by which rule; and how classes are counted by frequency."""

    class_match: str = setting(
        "equal",
        doc="When the best class of task zero_shot is right: `equal` to the label, or by `match` (authors' code).",
        choices=("equal", "match"),
    )
    duplicates: str = setting(
        "any",
        doc="Of classes that share a name, `any` is right, or only the `first` (authors' code).",
        choices=("any", "first"),
    )
    choice_parser: str = setting(
        "careful",
        doc="Scorer of multiple choice: `careful` (rules in data_prep/chosen_option.py), `mmmu` (authors' code), "
        "`first_character` (authors' code where choice_prompt is filter), or one added to eval/scorers/registry.py.",
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
