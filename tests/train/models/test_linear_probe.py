"""A linear probe trained with the model: its token, loss and gradients, against transformers' own forward pass."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForImageTextToText

from configs.errors import ConfigError, DataError
from data_prep.sample import Turn
from train.chat.conversation import TokenizedConversation
from train.chat.probe_position import insert_probe
from train.data.collate import collate, pack
from train.data.probe_classes import ProbeClasses
from train.loss import local_denominator, set_loss_weights
from train.models.linear_probe import StoredProbe, attach_probe, is_probe, probe_of
from train.models.loading import load_model
from train.models.loss_module import LossModule
from train.models.param_groups import choose_trainable, count_parts, parameter_groups, trained_modules
from train.models.target_states import ForwardOptions
from train.plan import make_plan
from train.probe_loss import local_probe_denominator, set_probe_weights

WEIGHT = 0.7


@pytest.fixture(scope="module")
def plan(training_setup):
    return make_plan(training_setup.config("probed", f"loss.probe={WEIGHT}"), 1, "cpu")


def examples_of(plan):
    """Pictures with a class and conversations without one, in turn."""
    with_class = plan.sources.labels() >= 0
    pictures, others = np.flatnonzero(with_class).tolist(), np.flatnonzero(~with_class).tolist()
    chosen = [pictures[0], others[0], pictures[-1], pictures[3], others[1]]
    return [plan.training_batches().examples[position] for position in chosen]


def probed_model(plan, mode):
    """The model, with a probe whose head is not zero, so that the token and the model get a gradient from it."""
    loaded = load_model(str(plan.folder), None, "fp32", "sdpa")
    choose_trainable(loaded.model, plan.family, replace(plan.config.model, mode=mode), plan.config.optim)
    attach_probe(loaded.model, plan.family, len(plan.probe_classes.names), seed=3)
    torch.manual_seed(1)
    torch.nn.init.normal_(probe_of(loaded.model).head.weight, std=0.3)
    torch.nn.init.normal_(probe_of(loaded.model).head.bias, std=0.3)
    return loaded.model


def our_loss_and_gradients(plan, model, batches):
    module = LossModule(model, plan.family, ForwardOptions(plan.example_builder.prefix)).eval()
    denominator, classes = local_denominator(batches, "token"), local_probe_denominator(batches)
    total, by_class = 0.0, []
    for batch in batches:
        set_loss_weights(batch, "token", denominator, 1.0)
        set_probe_weights(batch, WEIGHT, classes, 1.0)
        loss, _, probed = module(batch)
        loss.backward()
        total += loss.item()
        by_class += probed.tolist()
    return total, by_class, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def plain_loss_and_gradients(plan, ours, examples, mode):
    """One conversation at a time through transformers' modules; the token is put between two halves of embeddings."""
    theirs = AutoModelForImageTextToText.from_pretrained(plan.folder, dtype=torch.float32).eval()
    choose_trainable(theirs, plan.family, replace(plan.config.model, mode=mode), plan.config.optim)
    probe = probe_of(ours)
    token, weight, bias = (
        t.detach().clone().requires_grad_() for t in (probe.token.vector, probe.head.weight, probe.head.bias)
    )
    words, by_class = [], []
    for example in examples:
        own, on = list(example.input_ids), list(example.supervised)
        if example.probe is not None:
            del own[example.probe], on[example.probe]
        ids = torch.tensor([own])
        embeddings = theirs.get_input_embeddings()(ids)
        if example.image is not None:
            pixels = plan.family.normalized(plan.family.batch_images([example.image]).tensors["pixels"], torch.float32)
            features = theirs.model.get_image_features(pixels).pooler_output
            places = (ids == plan.family.image_token_id)[..., None].expand_as(embeddings)
            embeddings = embeddings.masked_scatter(places, torch.cat(list(features)))
        targets = torch.where(torch.tensor([on]), ids, -100)
        if example.probe is not None:
            at = example.probe
            embeddings = torch.cat([embeddings[:, :at], token[None, None], embeddings[:, at:]], 1)
            targets = torch.cat([targets[:, :at], torch.tensor([[-100]]), targets[:, at:]], 1)
        states = theirs.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        words.append((F.cross_entropy(theirs.lm_head(states[0, :-1]), targets[0, 1:], reduction="sum"), sum(on[1:])))
        if example.probe is not None:
            by_class.append(F.cross_entropy(weight @ states[0, at] + bias, torch.tensor(example.probe_class)))
    loss = sum(part for part, _ in words) / sum(n for _, n in words) + WEIGHT * torch.stack(by_class).mean()
    loss.backward()
    found = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    names = ("token.vector", "head.weight", "head.bias")
    found |= {f"linear_probe.{name}": t.grad for name, t in zip(names, (token, weight, bias), strict=True)}
    return loss.item(), [one.item() for one in by_class], found


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["projector", "full"])
def test_loss_and_gradients_are_those_of_plain_transformers_for_every_way_to_batch(plan, mode):
    examples = examples_of(plan)
    ours = probed_model(plan, mode)
    expected, classes, gradients = plain_loss_and_gradients(plan, ours, examples, mode)
    padding = plan.example_builder.padding()
    for join, parts in ((collate, [examples]), (collate, [examples[:1], examples[1:2], examples[2:]]),
                        (pack, [examples[:3], examples[3:], [padding]])):  # fmt: skip
        ours.zero_grad()
        batches = [join(part, plan.family, plan.example_builder.prefix) for part in parts]
        loss, by_class, found = our_loss_and_gradients(plan, ours, batches)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert [one for one in by_class if one] == pytest.approx(classes, rel=1e-5)
        assert found.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert gradient.abs().max() > 0, name
            assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-9, name


def test_the_token_is_behind_the_image_and_changes_nothing_else_of_a_conversation(plan, training_setup):
    plain = make_plan(training_setup.config("plain"), 1, "cpu")
    image = plan.family.image_token_id
    for position in range(len(plan.sources)):
        ours, before = (some.training_batches().examples[position] for some in (plan, plain))
        if ours.probe is None:
            assert plan.sources.record(position).label is None or ours.image is None
            assert (ours.input_ids, ours.supervised) == (before.input_ids, before.supervised)
            continue
        at = ours.probe
        assert ours.input_ids[:at] + ours.input_ids[at + 1 :] == before.input_ids
        assert ours.supervised[:at] + ours.supervised[at + 1 :] == before.supervised
        assert ours.input_ids[at - 1] == image
        assert image not in ours.input_ids[at:]
        assert not any(ours.supervised[: at + 2])
        assert plan.probe_classes.names[ours.probe_class] == plan.sources.record(position).label_name
    assert before.probe is None
    assert plain.probe_classes is None


def test_an_image_behind_an_earlier_answer_has_no_token_which_would_see_the_class(plan):
    builder, number = plan.example_builder, int(np.flatnonzero(plan.sources.labels() >= 0)[0])
    sample = plan.sources.record(number)
    first, later = (
        (Turn("human", "<image>\nWhat is it?"), Turn("gpt", "a dog")),
        (Turn("human", "And?"), Turn("gpt", "it")),
    )
    for turns, probed in ((first + later, True), ((Turn("human", "Name it."), first[1], *first), False)):
        asked = replace(sample, turns=turns)
        assert (builder.tokens(asked, has_image=True).probe is not None) == probed


def test_a_probe_is_a_part_with_its_rate_that_begins_undecided(plan):
    loaded = load_model(str(plan.folder), None, "fp32", "sdpa")
    choose_trainable(loaded.model, plan.family, plan.config.model, plan.config.optim)
    attach_probe(loaded.model, plan.family, len(plan.probe_classes.names), seed=3)
    rows = {row.part: row for row in count_parts(loaded.model, plan.family, plan.config.optim)}
    size, classes = int(plan.family.text_config.hidden_size), len(plan.probe_classes.names)
    assert (rows["probe"].total, rows["probe"].trainable) == (size + classes * (size + 1),) * 2
    assert rows["probe"].learning_rate == 1e-3
    groups = parameter_groups(loaded.model, plan.family, plan.config.optim)
    assert {group["name"] for group in groups} == {"projector", "probe"}
    assert f"linear layer of {classes} classes" in trained_modules(loaded.model, plan.family, plan.config.model)
    module = LossModule(loaded.model, plan.family).eval()
    batch = collate(examples_of(plan)[:1], plan.family)
    assert module(batch)[2].tolist() == pytest.approx([np.log(classes)], rel=1e-5)


def test_what_cannot_have_a_probe_is_refused_with_the_next_step():
    class Texts:
        names, starts, sizes = ("talk",), (0, 2), (2,)
        labels = staticmethod(lambda: np.array([3, -1]))
        with_image = staticmethod(lambda: np.array([False, True]))
        class_names = staticmethod(lambda: [("a", "b", "c", "d")])

    with pytest.raises(ConfigError, match=r"no sample of talk has both an image and a class; add a source"):
        ProbeClasses.of(Texts())
    conversation = TokenizedConversation([1, 9, 9, 5, 2], [False, False, False, True, True])
    assert insert_probe(conversation, 9, 0, 5) == TokenizedConversation([1, 9, 9, 0, 5], [False] * 4 + [True], 3)
    with pytest.raises(DataError, match=r"max_length 4 has no room for the token of loss.probe .*3;"):
        insert_probe(conversation, 9, 0, 4)


def test_classes_of_one_name_in_several_sources_are_one_class():
    class Sources:
        names, starts, sizes = ("one", "texts", "two"), (0, 2, 4, 5), (2, 2, 1)
        labels = staticmethod(lambda: np.array([1, 0, 0, 0, 1]))
        with_image = staticmethod(lambda: np.array([True, True, False, False, True]))
        class_names = staticmethod(lambda: [("crane", "cat", "crane"), ("never",), ("dog", "cat")])

    found = ProbeClasses.of(Sources())
    assert found.names == ("crane", "cat", "dog")
    assert [found.number(0, label) for label in (0, 1, 2)] == [0, 1, 0]
    assert (found.number(2, 1), found.number(2, None), found.number(2, -1)) == (1, -1, -1)


def test_samples_count_in_the_probes_loss_by_the_weight_of_their_class(plan):
    examples = [
        replace(example, weight=weight) for example, weight in zip(examples_of(plan), (2, 5, 1, 1, 5), strict=True)
    ]
    batch = collate(examples, plan.family)
    denominator = local_probe_denominator([batch])
    assert denominator == 4
    set_probe_weights(batch, WEIGHT, denominator, 2.0)
    assert batch.probe_weights.tolist() == pytest.approx([WEIGHT, 0, WEIGHT / 2, WEIGHT / 2, 0])


def test_a_stored_probe_is_read_as_it_was_written_and_refused_if_its_files_differ(tmp_path):
    weights = {
        "linear_probe.token.vector": torch.randn(4),
        "linear_probe.head.weight": torch.randn(2, 4),
        "linear_probe.head.bias": torch.randn(2),
    }
    assert all(map(is_probe, weights))
    with pytest.raises(ConfigError, match=r"has no linear probe .*; train with loss.probe above 0"):
        StoredProbe.read(tmp_path)
    StoredProbe.of(weights, ["cat", "dog"]).write(tmp_path, {"weight": 1.0})
    found = StoredProbe.read(tmp_path)
    assert found.classes == ("cat", "dog")
    assert torch.equal(found.weight, weights["linear_probe.head.weight"])
    (tmp_path / "linear_probe.json").write_text('{"classes": ["cat"]}')
    with pytest.raises(ConfigError, match="has 1 classes and a head of shape"):
        StoredProbe.read(tmp_path)
    (tmp_path / "linear_probe.safetensors").write_bytes(b"half")
    with pytest.raises(ConfigError, match="cannot be read"):
        StoredProbe.read(tmp_path)
