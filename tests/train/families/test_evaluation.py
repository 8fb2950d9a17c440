"""Evaluation of every family: greedy batches, class scores by the tree, and probed states equal transformers' own."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForImageTextToText

from configs.errors import ConfigError
from configs.eval_dir import EvalDir
from configs.evaluation import EvalConfig
from configs.model import ChatConfig
from configs.probe import ProbeConfig
from configs.protocol import ProtocolConfig
from data_prep.sample import Turn
from eval.models.class_likelihood.scorer import ClassScorer
from eval.models.generate import TextPredictor
from eval.models.hidden_states import LanguageModelStates
from eval.models.trained_probe import TrainedProbePredictor
from tests.train.families.cases import CASES
from tests.train.families.conftest import TrainedFamily, items
from tests.train.families.processors import Inputs
from train.data.collate import collate
from train.models.linear_probe import StoredProbe, attach_probe, is_probe, probe_of
from train.models.loading import load_model
from train.models.loss_module import LossModule

pytestmark = pytest.mark.slow

CLASSES = ("red", "red blue", "blue photo", "the object", "a b c", "red blue of the photo")
STYLE = ("template", "system_prompt")  # settings of a run's chat that a protocol has too
PLACES = ("mean", "-1", "-3", "0", "7")
NEW_TOKENS = 8


class Evaluated:
    """A family's base with our predictor, transformers' model, and questions about images of several shapes."""

    def __init__(self, trained: TrainedFamily):
        chat = dict(setting.removeprefix("chat.").split("=", 1) for setting in trained.case.settings)
        style = {name: chat.get(name, getattr(ChatConfig(), name)) for name in STYLE}
        self.trained = trained
        self.protocol = ProtocolConfig(**style, max_new_tokens=NEW_TOKENS)
        self.loaded = load_model(str(trained.folder), None, "fp32", "sdpa")
        self.predictor = TextPredictor(self.loaded, self.protocol)
        self.model = AutoModelForImageTextToText.from_pretrained(trained.folder, dtype=torch.float32).eval()
        self.items = [item for item in items(trained.case) if item.image is not None and len(item.exchanges) == 1]
        self.turns = [(Turn("human", f"<image>\n{item.exchanges[0][0]}"),) for item in self.items]
        self.prompts = [
            self.predictor.prompt(turns, item.image) for turns, item in zip(self.turns, self.items, strict=True)
        ]

    def inputs(self, number: int, more: tuple[int, ...] = ()) -> Inputs:
        """What transformers makes of question `number`, with `more` tokens appended."""
        inputs = self.trained.inputs(self.items[number], answered=False)
        ids = inputs["input_ids"]
        for name in [name for name, tensor in inputs.items() if tensor.shape == ids.shape]:
            added = torch.tensor([more if name == "input_ids" else [0] * len(more)], dtype=inputs[name].dtype)
            inputs[name] = torch.cat([inputs[name], added], 1)
        return inputs | {"attention_mask": torch.ones_like(inputs["input_ids"])}


@pytest.fixture(scope="module", params=CASES)
def evaluated(request, family_of_case) -> Evaluated:
    return Evaluated(family_of_case(request.param))


@torch.inference_mode()
def test_greedy_batches_are_those_of_one_question_and_of_generate(evaluated):
    together = [answer.token_ids for answer in evaluated.predictor.predict(evaluated.prompts)]
    for number, (prompt, ours) in enumerate(zip(evaluated.prompts, together, strict=True)):
        inputs = evaluated.inputs(number)
        assert prompt.input_ids == inputs["input_ids"][0].tolist()
        assert evaluated.predictor.predict([prompt])[0].token_ids == ours
        output = evaluated.model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
        assert ours == output[0, len(prompt.input_ids) :].tolist()


@torch.inference_mode()
def test_class_scores_by_the_tree_are_those_of_one_forward_a_class(evaluated):
    scorer = ClassScorer(evaluated.predictor)
    trie = scorer.trie(evaluated.turns[0], CLASSES)
    together = scorer.log_probs(evaluated.prompts, trie)
    for number, prompt in enumerate(evaluated.prompts):
        for name, path in zip(CLASSES, trie.paths, strict=True):
            tokens = [trie.tokens[node] for node in path]
            logits = evaluated.model(**evaluated.inputs(number, tokens)).logits[0].log_softmax(-1)
            start = len(prompt.input_ids) - 1
            expected = [float(logits[start + place, token]) for place, token in enumerate(tokens)]
            assert together[number, path] == pytest.approx(expected, abs=1e-4), name


@torch.inference_mode()
def test_probed_states_are_those_of_the_last_layer(evaluated):
    config = EvalConfig(
        name="states",
        model=str(evaluated.trained.folder),
        source="mixed",
        data=evaluated.trained.plan().config.data,
        protocol=evaluated.protocol,
        probe=ProbeConfig(token_positions=PLACES),
    )
    found = LanguageModelStates(evaluated.loaded, config).states(evaluated.prompts)
    for number, ours in enumerate(found):
        outputs = evaluated.model(**evaluated.inputs(number), output_hidden_states=True)
        states = getattr(outputs, "language_model_outputs", outputs).hidden_states[-1][0]
        expected = torch.stack([states.mean(0) if place == "mean" else states[int(place)] for place in PLACES])
        scale = max(1.0, float(expected.abs().max()))
        assert (torch.as_tensor(ours) - expected).abs().max() <= 1e-5 * scale


def test_a_trained_probe_gives_in_evaluation_what_it_gave_in_training(evaluated, tmp_path):
    trained, folder = evaluated.trained, tmp_path / "exported"
    if evaluated.loaded.family.reads_question:
        with pytest.raises(ConfigError, match=r"depend on the question, which may name the class; set loss.probe to 0"):
            trained.plan("loss.probe=1")
        return
    builder = replace(trained.plan().example_builder, probe=True)
    like = trained.plan().sources.sample(0)
    samples = [replace(item.sample(like), label=number) for number, item in enumerate(evaluated.items)]
    examples = [replace(builder.build(sample, 0), probe_class=sample.label) for sample in samples]
    loaded = load_model(str(trained.folder), None, "fp32", "sdpa")
    attach_probe(loaded.model, loaded.family, len(CLASSES), seed=1)
    probe = probe_of(loaded.model)
    torch.nn.init.normal_(probe.head.weight, std=0.5)
    with torch.no_grad():
        expected = -LossModule(loaded.model, builder.family).eval()(collate(examples, builder.family))[2]
    folder.mkdir()
    weights = {name: p.detach() for name, p in loaded.model.named_parameters() if is_probe(name)}
    StoredProbe.of(weights, list(CLASSES)).write(folder, {})
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    protocol = replace(evaluated.protocol, task="trained_probe", classes=str(tmp_path / "classes.json"))
    predictor = TrainedProbePredictor(replace(evaluated.loaded, folder=folder), protocol, EvalDir(tmp_path / "eval"))
    prompts = [
        predictor.prompt(turns, item.image) for turns, item in zip(evaluated.turns, evaluated.items, strict=True)
    ]
    found = torch.stack([row[number] for number, row in enumerate(predictor.log_probabilities(prompts))])
    assert found.tolist() == pytest.approx(expected.tolist(), abs=2e-5)
    assert len({round(value, 3) for value in found.tolist()}) > 1
