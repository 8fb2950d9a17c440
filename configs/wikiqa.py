"""Settings of the construction of ImageWikiQA (`data_prep.imagewikiqa`)."""

from dataclasses import dataclass

from configs.api import ApiConfig, refuse_answer_limit
from configs.data import DataConfig, check_sources_exist
from configs.errors import ConfigError
from configs.section import Section, setting


@dataclass(frozen=True, kw_only=True)
class ArticlesConfig(Section):
    """Where the article of each class is read."""

    path: str = setting(
        doc="Folder with one text a class (named by key or class name), or a Wikipedia dump: MediaWiki's XML, or JSON "
        "lines with title and text, as WikiExtractor writes them; gzip and bzip2 are unpacked.",
        changes_result=False,
    )
    form: str = setting(
        "auto",
        doc="Form of path; auto: by the names and first bytes of its files.",
        choices=("auto", "folder", "jsonl", "xml"),
    )
    titles: str | None = setting(
        None,
        doc="JSON file of {class key or name: title, or list of titles} in the dump; default: the class name, then the "
        "class list's synonyms, where no other class has them.",
        changes_result=False,
    )
    characters: int = setting(
        24_000, doc="Longest article in characters; a longer one is cut after a paragraph or sentence.", at_least=200
    )


@dataclass(frozen=True, kw_only=True)
class WikiqaConfig(Section):
    """Multiple-choice questions about images, made from articles as in Appendix C.1."""

    output: str = setting(doc="Folder of the files of all stages.", changes_result=False)
    source: str = setting(doc="The source of data.sources that the images are taken from; it has classes.")
    classes: str | None = setting(
        None,
        doc="Class list with keys and synonyms: a shipped one (imagenet) or a file; default: the classes of source.",
    )
    articles: ArticlesConfig = setting(doc="Where the articles are read.")
    model: str = setting(doc="The server's name of the model that writes the questions.")
    filter_model: str | None = setting(
        None, doc="The model that answers them with and without the class name; default: model."
    )
    max_tokens: int = setting(2048, doc="Longest reply with questions, in tokens.", at_least=1)
    filter_max_tokens: int = setting(
        16, doc="Longest answer to a question, in tokens; more for a model that reasons.", at_least=1
    )
    questions_per_class: int = setting(5, doc="Questions that are asked for (paper: 5).", at_least=1)
    images_per_class: int = setting(3, doc="Images of a class (paper: 3).", at_least=1)
    repeats: int = setting(3, doc="Most occurrences of a question's wording in the result (paper: 3).", at_least=1)
    total: int = setting(2000, doc="Most questions in the result (paper: 2,000).", at_least=1)
    refuse_leaks: bool = setting(
        False, doc="Leave out questions that name their class in question or choices, before the filter."
    )
    seed: int = setting(0, doc="Seed of the images, the questions, their order and letters.", at_least=0)
    data: DataConfig = setting(DataConfig, doc="Raw sources.")
    api: ApiConfig = setting(ApiConfig, doc="Requests to the models.")

    def __post_init__(self) -> None:
        """Raise `ConfigError` for an unknown source, an empty name of a model, or another limit of replies."""
        super().__post_init__()
        refuse_answer_limit(self.api, "max_tokens or filter_max_tokens")
        check_sources_exist((self.source,), self.data.sources)
        for name in (self.model, self.answering_model):
            if not name.removeprefix("api:").strip():
                raise ConfigError("model and filter_model are names of models on the server, such as gpt-4o")

    @property
    def answering_model(self) -> str:
        """The model of the filter."""
        return self.model if self.filter_model is None else self.filter_model
