"""Stage 4 of the tiny base: tokens for letters, so that words outside its vocabulary can be spelled.

Without them a user's class "airplane" would be `<unk>`, like every other unknown word. Known words stay one token each;
other words are split into letters, `a ##i ##r ##p …` (WordPiece). The language model was not trained on the letters.
Their embeddings start close to that of `<unk>`, which it has learnt never to generate, so its answers do not change.
Training only the projector cannot teach it to spell; LoRA can.
"""

import string

import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordPiece
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

CONTINUES = "##"
CHARACTERS = string.ascii_letters + string.digits + "_"
SPREAD = 0.02  # standard deviation of a letter's embedding around that of <unk>


def teach_letters(model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
    """Add the letters to the tokenizer and to the model's embeddings, in place; the same seed gives the same bytes."""
    words = tokenizer.get_vocab()
    letters = [piece for piece in (*CHARACTERS, *(CONTINUES + c for c in CHARACTERS)) if piece not in words]
    vocabulary = words | {piece: len(words) + number for number, piece in enumerate(letters)}
    backend = tokenizer.backend_tokenizer
    backend.model = WordPiece(vocabulary, unk_token="<unk>", continuing_subword_prefix=CONTINUES)
    backend.decoder = decoders.WordPiece(prefix=CONTINUES, cleanup=False)
    assert isinstance(backend, Tokenizer)
    model.resize_token_embeddings(len(vocabulary), mean_resizing=False)
    table = model.get_input_embeddings().weight.data
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(letters), table.shape[1], generator=generator) * SPREAD
    table[len(words) :] = table[tokenizer.unk_token_id] + noise
