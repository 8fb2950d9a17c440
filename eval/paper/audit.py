"""Differences between the paper and the authors' released code, each with the setting that chooses between them.

Source: github.com/yuhui-zh15/VLMClassifier. A setting is named as in an evaluation's or a training's YAML; a difference
without a setting gives the reason. `python -m eval.protocols` prints the table next to the protocols.
"""

from eval.paper.difference import Difference
from eval.paper.evaluation_differences import EVALUATION
from eval.paper.training_differences import TRAINING


def _chosen(prefix: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names)


AUDIT = (
    Difference(
        "D1",
        "LoRA trained on LLaVA is merged into Vicuna's language model before evaluation",
        reason="a model, not a protocol: python -m train.export RUN --lora-onto FOLDER builds it",
        paper="fine-tunes LLaVA with LoRA (B.5)",
        default="LoRA stays on the model it was trained on",
    ),
    Difference(
        "D2",
        "base and fine-tuned LLaVA go through two pipelines: other tokens, pixels, precision, wording and matching",
        ("dtype", *_chosen("protocol", "prompt", "template", "system_prompt", "image_mode", "match", "max_new_tokens")),
        paper="one protocol for all models (Section 2.3)",
        default="one pipeline; a protocol names the rest",
    ),
    Difference(
        "D3",
        "guidance by the mean over the test images, in log space, with sums, coefficient chosen on the test items",
        _chosen("protocol", "guidance", "cfg_form", "cfg_prior", "cfg_mean"),
        paper="3.1: t p(class | image, prompt) + (1 - t) p(class | prompt)",
        default="as the paper under paper; t is chosen on one half of the items, reported on the other",
    ),
    Difference(
        "D4",
        "the log-probabilities of a name's tokens are summed or averaged; the paper's text says probabilities",
        _chosen("protocol", "token_scores", "rule"),
        paper="3.1: probabilities of tokens, averaged or summed",
        default="log-probabilities under every protocol",
    ),
    Difference(
        "D5",
        "a text is put before each class name that is scored",
        ("protocol.class_prefix",),
        paper="names none",
        default="none; official: the authors'",
    ),
    Difference(
        "D6",
        "BLIP-2's class names are tokenized alone and read at positions of the sentence that may not match",
        ("protocol.class_token_ids",),
        paper="3.1: p(class name | image, prompt)",
        default="the name's own ids in context; official: the authors'",
    ),
    Difference(
        "D7",
        "the loop over names needs a key-value cache that is not modified in place, as in transformers of early 2024",
        reason="fails or scores wrongly in today's transformers; eval.benchmarks.class_scoring restores the cache",
        paper="does not say",
        default="one exact pass over the tree of names",
    ),
    Difference(
        "D8",
        "fine-tuned BLIP-2 goes through a third pipeline: 364 pixels, 'a photo of', punctuation deleted from labels",
        (
            *_chosen("protocol", "image_size", "prompt", "template", "delete_from_label", "delete_from_answer"),
            *("chat.template", "chat.image_size", "optim.warmup_steps", "train.global_batch"),
        ),
        "trained on random crops, mirrored or not, in batches of 32 on 4 GPUs; warm-up ends with the first epoch",
        paper="B.5: 'Question: ... Answer:', batch 64, 1,000 warm-up steps",
        default="recipe paper_blip2: as the paper, without random crops; protocol official_finetuned_blip is theirs",
    ),
    Difference(
        "D9",
        "an image that does not decode is trained on as a black square",
        ("data.decode_check", "data.max_drop_fraction"),
        "black squares are not supported: such records are dropped and listed, up to a limit",
        paper="does not say",
        default="dropped, listed, and an error above a limit",
    ),
    Difference(
        "D10",
        "fine-tuned ImageWikiQA answers open a second turn: ASSISTANT:ASSISTANT:",
        _chosen("protocol", "template", "answer_prefix"),
        paper="4.3: one question, one answer",
        default="one turn; official_finetuned: theirs",
    ),
    Difference(
        "D11",
        "ImageWikiQA as released has no question_id, and gives the class name in 54 of 2,000 questions",
        ("protocol.refuse_leaks",),
        "a question's id is its number in the file",
        paper="4.2: class names are replaced by 'this object'",
        default="all are asked; clean: those that name their class are counted as failed",
    ),
    Difference(
        "D12",
        "choices are read by MMMU's parser, and sampled at random where it finds none; API runs resume by image path",
        _chosen("protocol", "choice_parser", "unparsed"),
        "runs resume by item here: resuming by path drops questions that share an image",
        paper="does not say",
        default="careful rules, nothing is drawn; official: theirs",
    ),
    Difference(
        "D13",
        "substring matches count, synonyms do not, and of two classes with one name only the first is right",
        _chosen("protocol", "match", "synonyms", "duplicates", "class_match"),
        paper="2.3: the label is included in the answer; A.3: synonyms add 1-3 %",
        default="contains; clean: names as a reader finds them, synonyms accepted",
    ),
    Difference(
        "D14",
        "what follows the last delimiter of an answer is scored, and BLIP-2's batches of 8 are padded on the right",
        ("protocol.answer_after", "protocol.padding_side", "batch_size"),
        paper="2.3: the generation",
        default="the whole answer, padded on the left; official: theirs",
    ),
    Difference(
        "D15",
        "50 epochs for ImageNet too; 128 samples a step, captions 256; checkpoints of 100 epochs are evaluated",
        ("train.epochs", "train.global_batch"),
        "learning rates, warm-up and LoRA's rank and alpha of the scripts are the paper's",
        paper="B.4, B.5: batch 64, 50 epochs (ImageNet: 1)",
        default="the paper's in the presets",
    ),
    Difference(
        "D16",
        "the mix of ImageNet and LLaVA is filtered by rules that are not released",
        ("train.sources",),
        paper="C.2: LLaVA-665K and ImageNet, concatenated",
        default="concatenated",
    ),
    Difference(
        "D17",
        "linear heads report their best epoch on the test items, and see the training items in one fixed order",
        _chosen("probe", "choose_epoch", "epochs", "encoder_epochs", "shuffle", "precision"),
        paper="B.4: 500 epochs, best on the validation set",
        default="best on held-out training items; paper, official: on the test items",
    ),
    Difference(
        "D18",
        "EVA's rows use another EVA-CLIP (g-14-plus) than BLIP-2's tower",
        ("model",),
        paper="A.1: EVA-ViT-G/14, BLIP-2's encoder",
        default="BLIP-2's encoder is read from BLIP-2; the other by model: open_clip:...",
    ),
    Difference(
        "D19",
        "API rows evaluate 100 items by default, and repeat every successful request three times",
        ("limit", "api.attempts"),
        "an answered question is not sent again: a second answer costs money and does not change the result",
        paper="does not say how many items",
        default="limit null: all items; imagenet_api: 1,000",
    ),
    Difference(
        "D20",
        "Caltech-101's 101 folders are 100 names; quotes around the list, and a capital in CLIP's sentence",
        _chosen("protocol", "classes", "candidates", "class_quotes", "class_sentence"),
        paper="A.2: 101 classes; 2.3: no quotes; 'a photo of a'",
        default="100 names; paper: no quotes",
    ),
    Difference(
        "D21",
        "class frequencies: names cut at hyphens; 0 if absent in pretraining; bins below 100,000, means a bit low",
        (
            "frequency_file",
            *_chosen("protocol", "frequency_count", "frequency_total", "frequency_names", "frequency_bins"),
        ),
        paper="B.6: tokenized sentences, frequency of each class",
        default="names as written in all stages; clean: plurals too",
    ),
    Difference(
        "D22",
        "candidates come from one random stream, which restarts when a run is resumed",
        ("protocol.candidate_draw", "protocol.order"),
        "a resumed stream depends on where the run was killed",
        paper="3.1: random classes, the label among them",
        default="drawn by the item's id; official: the stream of a run that was never interrupted",
    ),
    Difference(
        "D23",
        "three environments, with transformers from 4.33 to 4.40",
        reason="environment difference, not configurable: constraints.txt pins the versions used here",
        paper="does not say",
        default="one environment",
    ),
    *TRAINING,
    *EVALUATION,
)


def numbers_of(setting: str) -> str:
    """Numbers of the differences that `setting` controls, such as "D2 D13"."""
    return " ".join(difference.number for difference in AUDIT if setting in difference.settings)
