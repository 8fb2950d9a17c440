"""Differences between the paper and the authors' code in questions, answers and scores, beyond those of the first list.

Sources: the paper's Sections 2 to 4, Appendices A to C; github.com/yuhui-zh15/VLMClassifier, folders main_results,
inference_analysis, feature_analysis, imagewikiqa, training_analysis.
"""

from eval.paper.difference import Difference

QUESTIONS = (
    Difference(
        "D32",
        "LLaVA's ImageWikiQA answers are scored with their answer prefix, which counts in the parser's length rule",
        ("protocol.scored_part",),
        paper="does not say",
        default="what the model generates; official: with the prefix",
    ),
    Difference(
        "D33",
        "ImageWikiQA answers have up to 1,024 tokens, reasoned answers elsewhere 512",
        ("protocol.max_new_tokens",),
        "less where the model has too few positions for question and answer",
        paper="gives no length",
        default="as the code",
    ),
    Difference(
        "D34",
        '"This object" is the class with a capital, "these objects" its plural, in the question and not in the options',
        ("protocol.reveal_class", "protocol.reveal_class_style"),
        paper="4.2, Table 5: the class name is provided",
        default="as the code; clean: every 'this object'",
    ),
    Difference(
        "D35",
        "GPT-4 with the class and without the image: the filter of the questions, text alone, lines indented",
        ("protocol.choice_prompt", "protocol.filter_indent", "protocol.choice_parser", "protocol.show_image"),
        paper="Figure 9 has the words, without the indentation",
        default="for a model behind an API Figure 9's words; official: indented, the first character is the answer",
    ),
    Difference(
        "D37",
        "'step by step' ends BLIP's question and begins LLaVA's answer",
        ("protocol.answer_prefix", "protocol.prefix_position"),
        paper="3.1: at the end of the prompt",
        default="as the code; clean: it begins every model's answer",
    ),
    Difference(
        "D41",
        "ImageWikiQA's generator draws 10 images a question; fine-tuned models answer imagenetqa.jsonl, not released",
        reason="how 2,000 were chosen is not released; those released have 26.3 % for their most frequent letter, "
        "and one question up to 15 times",
        paper="C.1: at most 3 images a question; Table 5: 25.9 % for the most frequent letter",
        default="the released questions; data_prep.imagewikiqa: as the paper",
    ),
    Difference(
        "D42",
        "drawn letters come from one random stream over the answers of all models, in the order of their files",
        ("protocol.unparsed",),
        "a stream over all models' answers cannot be repeated for one model",
        paper="does not say",
        default="no letter is drawn; official: one by the item's id",
    ),
    Difference(
        "D43",
        "public models are asked with all 998 names of ImageNet, more than their positions",
        ("protocol.candidates",),
        "a question that exceeds the model's positions is a failed item, with its length",
        paper="Table 1: N/A",
        default="the row is evaluated where it fits, and there is no number of the paper next to it",
    ),
    Difference(
        "D44",
        "LLaVA comes from llava-hf's copies of the weights, GPT-4 and Gemini under names without a version",
        ("model",),
        paper="Table 6: liuhaotian's weights; gpt-4-turbo-2024-04-09, gemini-1.0-pro-vision-001",
        default="llava-hf's copies, and the dated names of Table 6",
    ),
    Difference(
        "D45",
        "no script accepts synonyms (Table 8)",
        ("protocol.synonyms",),
        paper="A.3: the names of a list of ImageNet's synsets",
        default="the synset's names in WordNet, in row `synonyms` and under clean",
    ),
)

REQUESTS_AND_ITEMS = (
    Difference(
        "D36",
        "API calls set no temperature, and a length for Claude alone (1,024), to which the image goes before the text",
        ("api.temperature", "api.answer_limit", "api.image_position"),
        paper="does not say",
        default="as the code under paper and official; clean: temperature 0, protocol.max_new_tokens",
    ),
    Difference(
        "D40",
        "class names are scored for the first 1,000 items of the shuffled data, API calls are made for its first 100",
        ("protocol.item_draw", "protocol.likelihood_items", "limit"),
        paper="B.3: 1,000 examples, sampled at random",
        default="all items; official: theirs where the source has their order",
    ),
    Difference(
        "D46",
        "candidates of API calls are drawn from one random stream by 16 threads, in the order in which they come to it",
        ("protocol.candidate_draw",),
        "an order of threads cannot be repeated",
        paper="does not say",
        default="by the item's id; official: the stream as one thread draws from it",
    ),
)

PROBES = (
    Difference(
        "D38",
        "ImageNet's linear heads on a language model are trained for 100 epochs",
        ("probe.schedule", "probe.official_epochs"),
        paper="B.4: 500 epochs for every data set",
        default="500; official: 100 for ImageNet",
    ),
    Difference(
        "D39",
        "there is no script for Table 10",
        ("protocol.system_prompt", "probe.token_positions"),
        "B.4's question has 597 tokens: position 600 exists only behind a system prompt",
        paper="Table 10 has a number for position 600",
        default="row `positions` has Vicuna's system prompt",
    ),
    Difference(
        "D47",
        "CLIP runs in fp16, as its package loads it on a GPU; hidden states are stored in bf16",
        ("dtype", "probe.precision"),
        "stored states are fp16 here, which has three more bits of mantissa",
        paper="does not say",
        default="CLIP in fp32; language models in bf16",
    ),
)

EVALUATION = tuple(
    sorted((*QUESTIONS, *REQUESTS_AND_ITEMS, *PROBES), key=lambda difference: int(difference.number.removeprefix("D")))
)
