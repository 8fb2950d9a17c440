"""Differences between the paper and the authors' released code, each with the setting that chooses between them.

Source: github.com/yuhui-zh15/VLMClassifier. A setting is named as in an evaluation's or a training's YAML; a difference
without a setting gives the reason. `python -m eval.protocols` prints the table next to the protocols.
"""

from eval.paper.difference import Difference
from eval.paper.training_differences import TRAINING


def _chosen(prefix: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names)


AUDIT = (
    Difference(
        "D1",
        "LoRA trained on LLaVA is merged into Vicuna's language model before evaluation",
        reason="a model, not a protocol: python -m train.export RUN --lora-onto FOLDER builds it",
    ),
    Difference(
        "D2",
        "base and fine-tuned LLaVA go through two pipelines: other tokens, pixels, precision, wording and matching",
        ("dtype", *_chosen("protocol", "prompt", "template", "system_prompt", "image_mode", "match", "max_new_tokens")),
    ),
    Difference(
        "D3",
        "guidance by the mean over the test images, in log space, with sums, coefficient chosen on the test items",
        _chosen("protocol", "guidance", "cfg_form", "cfg_prior", "cfg_mean"),
    ),
    Difference(
        "D4",
        "the log-probabilities of a name's tokens are summed or averaged; the paper's text says probabilities",
        _chosen("protocol", "token_scores", "rule"),
    ),
    Difference("D5", "a text is put before each class name that is scored", ("protocol.class_prefix",)),
    Difference(
        "D6",
        "BLIP-2's class names are tokenized alone and read at positions of the sentence that may not match",
        ("protocol.class_ids",),
    ),
    Difference(
        "D7",
        "the loop over names needs a key-value cache that is not modified in place, as in transformers of early 2024",
        reason="fails or scores wrongly in today's transformers; eval.benchmarks.class_scoring restores the cache",
    ),
    Difference(
        "D8",
        "fine-tuned BLIP-2 goes through a third pipeline: 364 pixels, 'a photo of', punctuation deleted from labels",
        _chosen("protocol", "image_size", "prompt", "template", "label_without", "answer_without"),
    ),
    Difference(
        "D9",
        "an image that does not decode is trained on as a black square",
        ("data.decode_check", "data.max_drop_fraction"),
        "black squares are not supported: such records are dropped and listed, up to a limit",
    ),
    Difference(
        "D10",
        "fine-tuned ImageWikiQA answers open a second turn: ASSISTANT:ASSISTANT:",
        _chosen("protocol", "template", "answer_prefix"),
    ),
    Difference(
        "D11",
        "ImageWikiQA as released has no question_id, and gives the class name in 54 of 2,000 questions",
        ("protocol.refuse_leaks",),
        "a question's id is its number in the file",
    ),
    Difference(
        "D12",
        "choices are read by MMMU's parser, and sampled at random where it finds none; API runs resume by image path",
        _chosen("protocol", "choice_parser", "unparsed"),
        "runs resume by item here: resuming by path drops questions that share an image",
    ),
    Difference(
        "D13",
        "substring matches count, synonyms do not, and of two classes with one name only the first is right",
        _chosen("protocol", "match", "synonyms", "duplicates", "class_match"),
    ),
    Difference(
        "D14",
        "what follows the last delimiter of an answer is scored, and BLIP-2's batches of 8 are padded on the right",
        ("protocol.after_last", "protocol.padding_side", "batch_size"),
    ),
    Difference(
        "D15",
        "epochs, global batch sizes and learning rates of the scripts differ from the paper's",
        ("train.epochs", "train.global_batch", "optim.lr_projector", "optim.lr_language"),
    ),
    Difference("D16", "the mix of ImageNet and LLaVA is filtered by rules that are not released", ("train.sources",)),
    Difference(
        "D17",
        "linear heads report their best epoch on the test items, and see the training items in one fixed order",
        _chosen("probe", "choose_epoch", "epochs", "encoder_epochs", "shuffle", "precision"),
    ),
    Difference("D18", "EVA's rows use another EVA-CLIP (g-14-plus) than BLIP-2's tower", ("model",)),
    Difference(
        "D19",
        "API rows evaluate 100 items by default, and repeat every successful request three times",
        ("limit", "api.attempts"),
        "an answered question is not sent again: a second answer costs money and does not change the result",
    ),
    Difference(
        "D20",
        "Caltech-101's 101 folders are 100 names; quotes around the list, and a capital in CLIP's sentence",
        _chosen("protocol", "classes", "candidates", "class_quotes", "class_sentence"),
    ),
    Difference(
        "D21",
        "class frequencies: names as written, cut at hyphens; 0 if absent in pretraining; bins below 100,000",
        (
            "frequency_file",
            *_chosen("protocol", "frequency_count", "frequency_total", "frequency_names", "frequency_bins"),
        ),
    ),
    Difference(
        "D22",
        "candidates come from one random stream, which restarts when a run is resumed",
        ("protocol.candidate_draw", "protocol.order"),
        "a resumed stream depends on where the run was killed",
    ),
    Difference(
        "D23",
        "three environments, with transformers from 4.33 to 4.40",
        reason="environment difference, not configurable: constraints.txt pins the versions used here",
    ),
    *TRAINING,
    Difference(
        "D40",
        "LLaVA's ImageWikiQA answers are scored with their answer prefix, which counts in the parser's length rule",
        ("protocol.scored_part",),
    ),
    Difference(
        "D41",
        "ImageWikiQA answers have up to 1,024 tokens, reasoned answers elsewhere 512; the paper gives no length",
        ("protocol.max_new_tokens",),
    ),
    Difference(
        "D42",
        '"This object" is the class with a capital, "these objects" its plural, in the question and not in the options',
        _chosen("protocol", "name_class", "name_form"),
    ),
    Difference(
        "D43",
        "GPT-4 with the class and without the image: the filter of the questions, text alone, lines indented",
        _chosen("protocol", "choice_prompt", "filter_indent", "choice_parser", "show_image"),
    ),
    Difference(
        "D44",
        "API calls set no temperature, and a length for Claude alone (1,024), to which the image goes before the text",
        ("api.temperature", "api.answer_limit", "api.image_position"),
    ),
    Difference(
        "D45",
        "'step by step' ends BLIP's question and begins LLaVA's answer",
        _chosen("protocol", "answer_prefix", "prefix_position"),
    ),
    Difference(
        "D46",
        "ImageNet's linear heads on a language model are trained for 100 epochs; the paper says 500",
        _chosen("probe", "schedule", "official_epochs"),
    ),
    Difference(
        "D47",
        "Table 10 (no script): position 600 exists only behind a system prompt; B.4's question has 597 tokens",
        ("protocol.system_prompt", "probe.token_positions"),
    ),
    Difference(
        "D48",
        "class names are scored for the first 1,000 items of the shuffled data, API calls are made for its first 100",
        (*_chosen("protocol", "item_draw", "likelihood_items"), "limit"),
    ),
)


def numbers_of(setting: str) -> str:
    """Numbers of the differences that `setting` controls, such as "D2 D13"."""
    return " ".join(difference.number for difference in AUDIT if setting in difference.settings)
