"""The last step of the tiny base: letters, so that words from outside its world can be spelled.

A user's class "airplane" would otherwise be one `<unk>` like every other. Words the world knows stay one token each;
any other is cut into letters, `a ##i ##r ##p …` (WordPiece). The language model has never seen the letters: their
embeddings start beside that of `<unk>`, which training has taught it never to say, so nothing it knows changes.
Projector-only training cannot teach it to spell; LoRA can.
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
