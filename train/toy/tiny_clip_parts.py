"""The parts of the tiny CLIP: a tokenizer made from the class names, a model of a few megabytes, and its loss.

B: images of a batch, U: different class names among them, D: size of the shared space.
"""

from collections.abc import Sequence

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, PreTrainedTokenizerFast

from train.toy.byte_level import learn_merges
from train.toy.clip_recipe import ClipRecipe

PAD, START, END = "<pad>", "<|startoftext|>", "<|endoftext|>"
TEMPLATES = ("a photo of a {}", "a photo of the {}", "a picture of a {}", "{}")
"""Sentences an image is paired with; evaluations use the first, as in the paper."""


def build_tokenizer(names: Sequence[str], recipe: ClipRecipe) -> PreTrainedTokenizerFast:
    """Byte-level BPE as CLIP's, lower case, with merges learned from the names in all templates.

    Every byte is a token, so any other text can be tokenized too. The same names give the same tokenizer.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    tokenizer.decoder = ByteLevelDecoder()
    texts = [template.format(name) for name in sorted(set(names)) for template in TEMPLATES]
    learn_merges(tokenizer, texts, recipe.vocabulary, (PAD, START, END))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (PAD, START, END)])
    ends = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
    tokenizer.post_processor = TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        unk_token=END,
        clean_up_tokenization_spaces=False,
        model_max_length=recipe.text_tokens,
        padding_side="right",
    )


def build_model(tokenizer: PreTrainedTokenizerFast, recipe: ClipRecipe) -> CLIPModel:
    """An untrained CLIP: the architecture of the published ones, smaller."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        **_sizes(recipe.text_hidden, recipe.text_layers),
        max_position_embeddings=recipe.text_tokens,
        projection_dim=recipe.shared,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        **_sizes(recipe.vision_hidden, recipe.vision_layers),
        image_size=recipe.image_size,
        patch_size=recipe.patch_size,
        projection_dim=recipe.shared,
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=recipe.shared)
    )


def _sizes(hidden: int, layers: int) -> dict[str, int]:
    """A transformer's sizes, as both towers' configs name them: heads of 32 units."""
    return {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32,
    }


def contrastive_loss(similarities: Tensor, owners: Tensor) -> Tensor:
    """CLIP's symmetric loss where several images of a batch share their text.

    `similarities` (B, U) are scaled cosines, `owners` (B,) the text of each image. Image to text: cross entropy
    over the texts. Text to image: the mean cross entropy over the text's images. With U = B it is CLIP's loss.
    """
    from_images = functional.cross_entropy(similarities, owners)
    own = functional.one_hot(owners, similarities.shape[1]).to(similarities.dtype)  # (B, U)
    shares = torch.log_softmax(similarities, dim=0)
    from_texts = -((shares * own).sum(0) / own.sum(0)).mean()
    return (from_images + from_texts) / 2


def varied(pixels: Tensor, shift: int, draw: torch.Generator) -> Tensor:
    """(B, 3, S, S) uint8, each randomly mirrored and shifted by up to `shift` pixels, with its border repeated."""
    size = pixels.shape[-1]
    padded = functional.pad(pixels.float(), (shift,) * 4, mode="replicate")
    places = torch.randint(0, 2 * shift + 1, (2, len(pixels)), generator=draw)  # (2, B)
    rows, columns = places[:, :, None] + torch.arange(size)  # (B, S) each
    mirrored = torch.rand(len(pixels), generator=draw) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    images = torch.arange(len(pixels))[:, None, None]
    return padded[images, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
