"""Log-probabilities of all class names as answers of one model: the prompt once, then the prefix tree of the names.

    scorer = ClassScorer(predictor)
    trie = scorer.trie(turns, names)
    log_probs = scorer.log_probs([predictor.prompt(turns, image)], trie)      # (images, nodes)
    scores = class_scores(trie, Rule("mean"), log_probs)                      # (images, classes)

Tensor shapes: `B` prompts.
"""

from collections.abc import Sequence

import torch

from configs.errors import DataError
from data_prep.sample import Turn, without_image
from eval.class_scores.rules import Floats, Rule
from eval.class_scores.trie import ClassTrie, answer_tokens
from eval.models.class_likelihood.search import BestClass
from eval.models.class_likelihood.slots import Prefix
from eval.models.class_likelihood.tree_forward import TreeForward
from eval.models.class_likelihood.tree_scorer import SEARCH_ROOM, TreeScorer
from eval.models.generate import Prompt, TextPredictor


class ClassScorer:
    """Scores class names as answers of one model under one protocol."""

    def __init__(self, predictor: TextPredictor, *, score_eos: bool = False):
        """Score names with the end token behind each if `score_eos`.

        Raises `ConfigError` for an attention kernel or a model that the tree does not fit.
        """
        self.predictor, self.score_eos = predictor, score_eos
        language_model = predictor.text_decoder
        self.scorer = TreeScorer(
            TreeForward(
                language_model.decoder,
                language_model.head,
                language_model.words,
                language_model.config,
                image_token=predictor.family.image_token_id,
                parts=language_model.parts,
            )
        )
        self._tries: dict[object, ClassTrie] = {}
        self._priors: dict[object, tuple[ClassTrie, Floats]] = {}
        self._prompt_tokens = 0

    @property
    def tokens_forwarded(self) -> int:
        """Tokens that went through the language model so far: prompts, their common beginning once, and inner nodes."""
        return self._prompt_tokens + self.scorer.tokens_forwarded

    def trie(self, turns: tuple[Turn, ...], names: tuple[str, ...]) -> ClassTrie:
        """The tree of `names` as answers to `turns`; the last one is kept, as most protocols ask all the same."""
        key = (turns, names)
        if key not in self._tries:
            renderer = self.predictor.renderer
            tokens = answer_tokens(renderer, turns, self.predictor.answer_prefix, names)
            self._tries = {key: ClassTrie(tokens, renderer.eos if self.score_eos else None)}
        return self._tries[key]

    def log_probs(self, prompts: Sequence[Prompt], trie: ClassTrie) -> Floats:
        """(B, nodes): each node's log-probability after the prompt and everything above it."""
        return self.scorer.log_probs(self._prefill(prompts, trie, self.scorer.group), trie)

    def top1(
        self, prompts: Sequence[Prompt], trie: ClassTrie, rule: Rule, prior: Floats | None = None
    ) -> list[BestClass]:
        """The best class of every prompt, the same as the arg-max over all."""
        return self.scorer.top1(self._prefill(prompts, trie, SEARCH_ROOM), trie, rule, prior)

    def prior_without_image(self, turns: tuple[Turn, ...], trie: ClassTrie) -> Floats:
        """(nodes,): log-probabilities of the names after the question alone; one more pass for all images."""
        if turns not in self._priors or self._priors[turns][0] is not trie:
            alone = self.predictor.prompt(without_image(turns), None)
            self._priors = {turns: (trie, self.log_probs([alone], trie)[0])}
        return self._priors[turns][1]

    @torch.inference_mode()
    def _prefill(self, prompts: Sequence[Prompt], trie: ClassTrie, nodes: int) -> Prefix:
        """Run the prompts, with room for `nodes` at a time. Raises `DataError` where a name does not fit behind one."""
        longest = max(len(prompt.input_ids) for prompt in prompts)
        if longest + trie.depth > self.predictor.max_length:
            raise DataError(
                f"a question of {longest} tokens and a name of {trie.depth} exceed the model's "
                f"{self.predictor.max_length} positions; shorten the question"
            )
        window = self.scorer.tree.window
        if window is not None and trie.depth > window:
            raise DataError(f"a name of {trie.depth} tokens does not fit into the sliding window of {window}")
        ids, mask = self.predictor.padded(prompts)
        room = min(nodes, len(trie.inner)) + trie.depth
        own = [prompt.input_ids for prompt in prompts]
        prefix = self.scorer.tree.prefill(self.predictor.inputs(ids, mask, prompts), room, own)
        self._prompt_tokens += prefix.tokens
        return prefix
