"""Names as a prefix tree: what is shared, what has to be forwarded, and the tokens after the prompt."""

from pathlib import Path

import pytest

from configs.errors import DataError
from data_prep.class_names import load_class_list
from data_prep.sample import Turn
from eval.class_scores.trie import ROOT, ClassTrie, answer_tokens
from train.chat.render import ChatRenderer
from train.chat.tokenizer import load_tokenizer

TOKENIZER = Path(__file__).resolve().parents[4] / "shared" / "data" / "llama2_tokenizer"
QUESTION = (Turn("human", "<image>\nWhat type of object is in this photo?"),)
NAMES = ([5, 7], [5, 7, 9], [5, 8], [6])


@pytest.fixture(scope="module")
def llama():
    if not TOKENIZER.exists():
        pytest.skip("needs the LLaMA tokenizer")
    return ChatRenderer(load_tokenizer(TOKENIZER))


def test_a_tree_shares_beginnings_and_keeps_one_end_a_class():
    trie = ClassTrie(NAMES)
    assert trie.tokens == [5, 7, 9, 8, 6]
    assert trie.parents == [ROOT, 0, 1, 0, ROOT]
    assert trie.depths == [1, 2, 3, 2, 1]
    assert trie.sizes == [4, 2, 1, 1, 1]
    assert (trie.inner, trie.ends, trie.depth) == ([0, 1], [1, 2, 3, 4], 3)


def test_equal_names_share_a_path_and_keep_an_entry_each():
    trie = ClassTrie([[3, 4], [5], [3, 4]])
    assert trie.paths == [[0, 1], [2], [0, 1]]


def test_an_end_token_makes_every_end_a_separate_token():
    trie = ClassTrie(NAMES, eos=2)
    assert len(trie.inner) == 5  # every node of the names is followed by something
    assert [trie.tokens[end] for end in trie.ends] == [2, 2, 2, 2]
    assert len(set(trie.ends)) == 4  # "5 7" no longer is the beginning of "5 7 9"


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_groups_hold_every_inner_node_once_and_see_all_that_is_above_them(limit):
    trie = ClassTrie([[a, b, c, d] for a in (1, 2) for b in (3, 4) for c in (5, 6) for d in (7, 8)])
    seen: list[int] = []
    for carried, nodes in trie.groups(limit):
        assert len(nodes) <= limit
        assert set(carried) <= set(seen)
        for node in nodes:
            assert set(trie.ancestors(node)) <= {*carried, *nodes}
        seen += nodes
    assert seen == trie.inner


def test_no_names_and_empty_names_are_refused():
    with pytest.raises(DataError, match="no class names"):
        ClassTrie([])
    with pytest.raises(DataError, match="class 1 has a name without tokens"):
        ClassTrie([[1], []])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "tokens", "nodes", "inner", "depth"),
    [
        ("imagenet", 3253, 2841, 1866, 12),
        ("stanford_cars", 2511, 1191, 995, 22),
        ("flowers102", 386, 369, 267, 7),
        ("caltech101", 256, 239, 141, 5),
    ],
)
def test_the_papers_classes_have_as_many_nodes_as_counted_by_hand(llama, classes, tokens, nodes, inner, depth):
    names = answer_tokens(llama, QUESTION, "", load_class_list(classes).names)
    trie = ClassTrie(names)
    assert sum(map(len, names)) == tokens
    assert (len(trie.tokens), len(trie.inner), trie.depth) == (nodes, inner, depth)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "The photo features a"])
def test_a_names_tokens_are_those_that_training_supervises(llama, prefix):
    names = ("tench", "great white shark", "Granny Smith")
    for name, ids in zip(names, answer_tokens(llama, QUESTION, prefix, names), strict=True):
        turns = (*QUESTION, Turn("gpt", f"{prefix} {name}".strip()))
        assert llama.render(turns).input_ids == [*llama.render_question(QUESTION, prefix), *ids, llama.eos]
        assert llama.tokenizer.decode(ids).strip() == name


def test_a_name_that_merges_with_the_prompt_is_refused(llama):
    with pytest.raises(DataError, match="merges"):
        answer_tokens(llama, QUESTION, "a ", [" tench"])  # three spaces are other tokens than two and one
