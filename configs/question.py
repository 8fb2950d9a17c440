"""Settings of a protocol that decide what a model is asked and answers; how it is scored: `configs.scoring`."""

from dataclasses import dataclass

from configs.section import Section, setting

TRAINED = "trained"
"""The value of a setting that an evaluation takes from the training of its model (`configs.trained`)."""
FILE_DRAWS = ("similar_class", "similar_image", "siblings")
"""Values of candidate_draw that take the candidates from protocol.candidate_file."""


@dataclass(frozen=True, kw_only=True)
class QuestionSettings(Section):
    """How a question is asked: its task, words, image, classes and candidates."""

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
    class_prefix: str = setting(
        "", doc="Text between prompt and scored class name; `official`: the authors' for the model."
    )
    class_token_ids: str = setting(
        "in_context",
        doc="Token ids that are scored: the name's ids after the prompt; `misaligned`: its ids when tokenized alone, "
        "read at the sentence's last positions (one forward pass per name); `official`: misaligned for BLIP.",
        choices=("in_context", "misaligned", "official"),
    )
    score_eos: bool = setting(
        False, doc="Score the end token after each name, so that `tiger` does not win as a prefix of `tiger shark`."
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
    question_suffix: str = setting(
        "",
        doc="Line after the question of tasks vqa and yes_no (LLaVA's: Answer the question "
        "using a single word or phrase.).",
    )
    ocr_tokens: bool = setting(
        False, doc='A line "Reference OCR token: ..." after a question of task vqa whose item has such tokens (LLaVA).'
    )
    max_new_tokens: int = setting(64, doc="Longest answer in tokens (paper's code: 64).", at_least=1)
