"""Every program of the project under the name it has in `vlm-classify STAGE COMMAND`.

A new program is one line here; its module has a `main()` and makes its parser with `configs.command_line`.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

PROGRAM = "vlm-classify"
COMPLETION = "completion"  # not a stage: prints a shell script


@dataclass(frozen=True)
class Command:
    """`vlm-classify NAME ...` is `python -m MODULE ...`; `about` is its line in the help."""

    name: str
    module: str
    about: str

    @property
    def stage(self) -> str:
        """First word of the name."""
        return self.name.split()[0]

    @property
    def verb(self) -> str:
        """Second word of the name."""
        return self.name.split()[1]


STAGES = {
    "data": "Raw data to shards",
    "train": "Shards to a fine-tuned model",
    "eval": "A model to predictions, scores and reports",
    "launch": "SLURM jobs, the quickstart and the demo",
    "benchmark": "Measure speed, and the loss-spike monitor",
    "toy": "Make small models on a CPU",
}
"""Stages in the order of the help, each with a description."""

TRAIN = Command("train run", "train.finetune", "Fine-tune a model; `train --config FILE` is short for it")

QUICKSTART = Command(
    "launch quickstart",
    "launch.quickstart",
    "Fine-tune on a folder of photographs; short: quickstart FOLDER",
)

COMMANDS = (
    Command("data build", "data_prep.build", "Write the shards of a configuration's sources"),
    Command("data inspect", "data_prep.inspect", "Show samples, classes and dropped records of a shard set"),
    Command("data verify", "data_prep.verify", "Check a shard set against its checksums"),
    Command("data overlap", "data_prep.overlap", "Find training images that are also in a test set"),
    Command("data frequency", "data_prep.frequency", "Count how often training texts mention each class"),
    Command("data caption", "data_prep.caption", "Captions that name the class, by a model behind an API"),
    Command("data imagewikiqa", "data_prep.imagewikiqa", "Build ImageWikiQA from articles, by a model behind an API"),
    Command("data synonyms", "data_prep.wordnet_synonyms", "Compare the synonyms of a class list with WordNet"),
    TRAIN,
    Command("train inspect", "train.tools.inspect", "Show samples as tokens, with the training targets marked"),
    Command("train recipes", "train.recipes", "Compare training recipes setting by setting"),
    Command("train order", "train.tools.order", "Print which samples each step reads"),
    Command("train postmortem", "train.tools.postmortem", "Loss curves, events and flagged samples of a run"),
    Command("train export", "train.export", "Write a checkpoint as a model folder of transformers"),
    Command(
        "train render", "train.tools.render_conversations", "Convert conversations to token ids and training targets"
    ),
    Command("eval run", "eval.run", "Evaluate a model and write its report"),
    Command("eval choose", "eval.choose", "Export the checkpoint with the best accuracy"),
    Command("eval grade", "eval.grade", "Grade stored answers a second time, next to the protocol's score"),
    Command("eval judge-agreement", "eval.judge_agreement", "Measure how far graders agree with a person's labels"),
    Command("eval demo-judge", "eval.demo_judge", "Serve a judge without an API, for the demo's graded answers"),
    Command("eval reproduce", "eval.reproduce", "Run the paper's experiments and compare with its numbers"),
    Command("eval probing", "eval.probing", "Train linear probes on hidden states or image features"),
    Command("eval knn", "eval.knn", "Classify by the nearest neighbours among states or image features"),
    Command("eval class-scoring", "eval.class_scoring", "Score every class name for one image"),
    Command("eval guidance", "eval.guidance", "Sweep classifier-free guidance over stored class scores"),
    Command("eval similar-classes", "eval.similar_classes", "Hard candidates: the classes a CLIP finds most alike"),
    Command("eval robustness", "eval.robustness", "How much a score depends on wording, order, batch and seed"),
    Command("eval compare", "eval.compare", "Several models and evaluations in one table"),
    Command("eval paired", "eval.paired", "Test whether two runs differ on the same items"),
    Command("eval scoreboard", "eval.scoreboard", "Compare the paper's numbers with those of your runs"),
    Command("eval protocols", "eval.protocols", "Compare evaluation protocols setting by setting"),
    Command("launch preflight", "launch.preflight", "Check a run before it is submitted"),
    Command("launch prefetch", "launch.prefetch", "Fetch the models of configs for nodes without a network"),
    Command("launch submit", "launch.submit", "Submit shards, training and evaluations to SLURM"),
    Command("launch sweep", "launch.sweep", "Train several settings with several seeds and compare them"),
    Command("launch watch", "launch.watch", "Show how a run is doing"),
    Command("launch follow", "launch.follow", "Evaluate the checkpoints of a training as they appear"),
    Command("launch dashboard", "launch.dashboard", "Create or update the W&B dashboard of a project"),
    Command("launch reproduce", "launch.reproduce", "Submit the paper's experiments to SLURM"),
    QUICKSTART,
    Command("launch demo", "launch.demo", "Run the complete pipeline on a small synthetic world"),
    Command("benchmark shards", "data_prep.benchmarks.shards", "Writing and reading shards, against webdataset"),
    Command("benchmark training", "train.benchmarks.training", "Images per second of training"),
    Command("benchmark order", "train.benchmarks.order", "Cost of the sample order, padding saved by it"),
    Command("benchmark loss-shares", "train.benchmarks.loss_shares", "Share of each source in the loss, by reduction"),
    Command("benchmark pixels", "train.benchmarks.pixels", "Image decoding and resizing, against transformers"),
    Command("benchmark checkpoints", "train.benchmarks.checkpoints", "How long a checkpoint stops training"),
    Command("benchmark optimizer", "train.benchmarks.optimizer", "Launches of an optimizer step, against DeepSpeed's"),
    Command("benchmark lora", "train.benchmarks.lora", "A decoder layer with LoRA, against peft's"),
    Command("benchmark spikes", "train.benchmarks.spikes", "What the loss-spike monitor detects"),
    Command("benchmark generation", "eval.benchmarks.generation", "Greedy generation, against transformers"),
    Command("benchmark class-scoring", "eval.benchmarks.class_scoring", "Class scoring, against the authors' loop"),
    Command("benchmark image-rates", "eval.benchmarks.image_rates", "Images per second of an evaluation"),
    Command("benchmark cpu", "eval.benchmarks.cpu", "All figures that need no GPU, each with its goal"),
    Command("benchmark gpu", "eval.benchmarks.gpu", "All figures of one GPU within a budget of seconds"),
    Command(
        "benchmark probe-heads", "eval.benchmarks.probe_heads", "Training of linear probes, against the authors' loop"
    ),
    Command(
        "toy chat-server", "data_prep.toy_world.chat_server", "A stand-in for a model behind an API, on this machine"
    ),
    Command("toy articles", "data_prep.toy_world.articles", "Write an article on each class of the demo world"),
    Command("toy base", "train.toy.tiny_base", "Train the demo's base model"),
    Command("toy clip", "train.toy.tiny_clip", "Train a small CLIP on a shard set"),
    Command("toy llava", "train.toy.tiny_llava", "Join a CLIP and a language model to a LLaVA"),
)


def find(words: Sequence[str]) -> Command | None:
    """The command that `words` begin with; `train --config ...` is `train run`, `quickstart` is `launch quickstart`.

    >>> find(["eval", "run", "--dry-run"]).module
    'eval.run'
    """
    if words[:1] == [TRAIN.stage] and len(words) > 1 and words[1].startswith("-") and words[1] not in ("-h", "--help"):
        return TRAIN
    if words[:1] == [QUICKSTART.verb]:
        return QUICKSTART
    return next((command for command in COMMANDS if command.name.split() == list(words[:2])), None)


def arguments_after(command: Command, words: Sequence[str]) -> list[str]:
    """What follows the name of the command in `words`."""
    return list(words[2:] if list(words[:2]) == command.name.split() else words[1:])


def suggestions(words: Sequence[str]) -> list[str]:
    """Names near to what was typed, best first; none if nothing is near.

    >>> suggestions(["eval", "rnu"]), suggestions(["scoreboard"])
    (['eval run'], ['eval scoreboard'])
    """
    if words[0] in STAGES:
        verbs = {command.verb: command.name for command in COMMANDS if command.stage == words[0]}
        return [verbs[verb] for verb in difflib.get_close_matches(words[1], verbs)]
    stages = difflib.get_close_matches(words[0], [*STAGES, COMPLETION], cutoff=0.7)
    near = difflib.get_close_matches(words[0], {command.verb for command in COMMANDS}, cutoff=0.7)
    return [*stages, *(command.name for verb in near for command in COMMANDS if command.verb == verb)]
