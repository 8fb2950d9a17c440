"""Class names scored by the ids and at the positions of the authors' code for BLIP: a bug, kept to be measured.

The authors run "Question: ... Answer: A tench" through the model, but gather the ids that "tench" has when tokenized
alone. A byte-level tokenizer gives a name without its leading space other ids, and often another number of them, so
that the sentence's last positions are read for ids that are not there:

    sentence       ... Answer :  A  ▁guinea ▁pig          the name in context: 2 tokens
    alone                     gu inea ▁pig                alone: 3 tokens
    read at             after :, after A, after ▁guinea   the last 3 positions, the end not counted

Which positions are read depends on the name's length, so names share no prefix tree: each has its own forward, `GROUP`
at a time. With a tokenizer that gives a name the same ids in both cases (SentencePiece) the scores are the usual ones.
Tensor shapes: `G` names, `P` tokens of the prompt, `T` of prompt and longest name, `H` hidden size, `V` vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch

from configs.errors import ConfigError
from data_prep.sample import Turn
from eval.class_scores.rules import Floats, Rule
from eval.class_scores.trie import answer_tokens
from eval.models.cpu_matmul import fast_products
from eval.models.decoder_input import DecoderInput
from eval.models.generate import Prompt, TextPredictor

GROUP = 32  # names forwarded at a time behind one prompt


class MisalignedNames:
    """Names after `turns`, by the ids they have when tokenized alone."""

    def __init__(self, predictor: TextPredictor, turns: tuple[Turn, ...], names: tuple[str, ...], score_eos: bool):
        """Tokenize the names, in context and alone. Raises `ConfigError` with `score_eos`."""
        if score_eos:
            raise ConfigError("protocol.class_token_ids misaligned scores no end token; set protocol.score_eos=false")
        self.predictor = predictor
        self.inside = answer_tokens(predictor.renderer, turns, predictor.answer_prefix, names)
        tokenizer = predictor.renderer.tokenizer
        self.alone = [list(tokenizer(name, add_special_tokens=False, verbose=False)["input_ids"]) for name in names]
        self.lengths = tuple(map(len, self.alone))

    @torch.inference_mode()
    def sums(self, prompts: Sequence[Prompt], rules: Sequence[Rule]) -> list[Floats]:
        """For each rule (images, names): what it sums of the log-probabilities of the names' ids."""
        results = [np.zeros((len(prompts), len(self.alone))) for _ in rules]
        for row, prompt in enumerate(prompts):
            inputs = self.predictor.inputs(*self.predictor.padded([prompt]), [prompt])
            for start in range(0, len(self.alone), GROUP):
                for index, values in enumerate(self._group(inputs, start), start=start):
                    for result, rule in zip(results, rules, strict=True):
                        result[row, index] = rule.of_tokens(values).sum()
        return results

    def _group(self, prompt: DecoderInput, start: int) -> list[Floats]:
        """The log-probabilities of the ids of `GROUP` names from `start` on, behind the single `prompt` of P tokens."""
        inside, alone = self.inside[start : start + GROUP], self.alone[start : start + GROUP]
        language_model = self.predictor.text_decoder
        longest = max(map(len, inside))
        tokens = torch.tensor(
            [[*name, *name[-1:] * (longest - len(name))] for name in inside], device=prompt.states.device
        )
        whole = prompt.continued(language_model.words(tokens))
        with fast_products(prompt.states):
            states = language_model.decoder(use_cache=False, **whole).last_hidden_state
        found = []
        for row, (own, ids) in enumerate(zip(inside, alone, strict=True)):
            end = prompt.states.shape[1] + len(own)
            logits = (
                language_model.head(states[row, end - len(ids) - 1 : end - 1]).float().log_softmax(-1)
            )  # (len(ids), V)
            chosen = logits.gather(1, torch.tensor(ids, device=logits.device)[:, None])[:, 0]
            values: Floats = chosen.double().cpu().numpy()
            found.append(values)
        return found
