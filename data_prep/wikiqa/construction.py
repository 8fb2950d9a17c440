"""The five stages in their order. A stage asks and computes only what its files do not hold yet."""

from collections.abc import Sequence

from configs.errors import DataError
from configs.wikiqa import WikiqaConfig
from configs.wikiqa_dir import WikiqaDir
from data_prep.class_names import ClassList, load_class_list
from data_prep.progress import log_line
from data_prep.registry import open_source
from data_prep.wikiqa.article_stage import ARTICLES, article_stage, texts_of
from data_prep.wikiqa.classes import limited, wiki_classes
from data_prep.wikiqa.filter_stage import FILTER, filter_questions
from data_prep.wikiqa.image_stage import IMAGES, choose_images
from data_prep.wikiqa.question_stage import QUESTIONS, ask_for_questions
from data_prep.wikiqa.result import RESULT, final_stage, write_result
from data_prep.wikiqa.spending import Planned, in_words, planned, total
from data_prep.wikiqa.stage_file import StageFile

STAGES = (ARTICLES, QUESTIONS, FILTER, IMAGES, RESULT)


def construct(
    config: WikiqaConfig, folder: WikiqaDir, *, until: str = RESULT, limit: int | None = None, skip_failed: bool = False
) -> list[StageFile]:
    """Run the stages up to `until` and return what each found.

    `limit` classes, chosen by a hash among those with an article; all without it. `skip_failed` leaves out questions
    without a reply. Raises `DataError` or `RunError` with the next step.
    """
    names = class_names(config)
    classes = wiki_classes(names)
    stages = [article_stage(config.articles, classes, folder.stage(ARTICLES))]
    if until == ARTICLES:
        return stages
    texts = texts_of(stages[0])
    chosen = limited([one for one in classes if one.id in texts], limit, config.seed)
    _announce(planned(config, folder, chosen, texts), until)
    made, questions = ask_for_questions(config, chosen, texts, folder.question_replies, skip_failed=skip_failed)
    _finish(stages, made, folder)
    if until == QUESTIONS:
        return stages
    made, questions = filter_questions(config, questions, folder.filter_replies, skip_failed=skip_failed)
    _finish(stages, made, folder)
    if until == FILTER:
        return stages
    if not questions:
        raise DataError(
            f"no question was kept by the filter; {folder.stage(FILTER)} has the answers: is {config.answering_model} "
            "able to answer them, and filter_max_tokens large enough?"
        )
    kept = {one.class_id for one in questions}
    made, images = choose_images(config, [one for one in chosen if one.id in kept], names.names)
    _finish(stages, made, folder)
    if until == IMAGES:
        return stages
    made, items = final_stage(config, questions, images)
    stages.append(made)
    write_result(folder, config, items, images, stages)
    return stages


def planned_spending(config: WikiqaConfig, folder: WikiqaDir, limit: int | None) -> list[Planned]:
    """The most that the stages may still ask. Nothing is written or sent; a dump that was not read yet is read."""
    classes = wiki_classes(class_names(config))
    texts = texts_of(article_stage(config.articles, classes, folder.stage(ARTICLES), write=False))
    chosen = limited([one for one in classes if one.id in texts], limit, config.seed)
    return planned(config, folder, chosen, texts)


def class_names(config: WikiqaConfig) -> ClassList:
    """The class list of the configuration; by default the classes of the source of images."""
    if config.classes is not None:
        return load_class_list(config.classes)
    names: Sequence[str] = open_source(config.data, config.source).class_names
    if not names:
        raise DataError(f"source {config.source} has no classes; set classes, or take a source that has")
    return ClassList(tuple(names))


def _announce(steps: Sequence[Planned], until: str) -> None:
    """Log the largest spending on all stages up to `until`, where one of them has something to ask."""
    asked = [step for step in steps if until != QUESTIONS or step.step.startswith(QUESTIONS)]
    if total(asked).questions:
        log_line(in_words(asked)[-1])


def _finish(stages: list[StageFile], made: StageFile, folder: WikiqaDir) -> None:
    stages.append(made)
    made.write(folder.stage(made.stage))
