"""Settings of a model: its base, its trainable parameters, and its chat template."""

import re
from dataclasses import dataclass

from configs.errors import ConfigError
from configs.section import Section, setting

SCOPES = ("language", "projector", "vision")
"""Parts of a model that LoRA may adapt."""
ATTENTION = "attention"
"""`model.selective`: the attention projections of the language model."""
TRAINING_TEMPLATES = ("llava", "hf", "folder", "mistral", "question", "plain")


@dataclass(frozen=True, kw_only=True)
class LoraConfig(Section):
    """LoRA on linear layers, of the language model by default (paper, Section 4.2: rank 128, alpha 256)."""

    rank: int = setting(128, doc="Rank of the update matrices.", at_least=1)
    alpha: float = setting(256.0, doc="The update is scaled by alpha / rank (rsLoRA: alpha / sqrt(rank)).", above=0)
    dropout: float = setting(0.05, doc="Dropout on the input of the update (LLaVA: 0.05).", at_least=0, at_most=0.99)
    targets: tuple[str, ...] | None = setting(
        None,
        doc="Linear layers, by the last part of their name, inside the scope only; null: all of attention and MLP"
        " (q_proj, k_proj, v_proj, and what the model calls the others), and all of the projector.",
    )
    scope: tuple[str, ...] = setting(
        ("language",),
        doc="Parts that LoRA adapts: any of language, projector, vision. A projector that is not among them trains"
        " whole; one that is keeps its weights.",
    )
    variant: str = setting(
        "lora",
        doc="`rslora`: scaled by alpha / sqrt(rank). `dora`: a trained magnitude for each output (ZeRO 0 to 2)."
        " `pissa`: begins with the largest singular values of each weight, which the frozen weight then lacks.",
        choices=("lora", "rslora", "dora", "pissa"),
    )

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a scope without parts, with an unknown one, or with one named twice."""
        super().__post_init__()
        unknown = [part for part in self.scope if part not in SCOPES]
        if unknown or not self.scope or len(set(self.scope)) < len(self.scope):
            raise ConfigError(
                f"lora.scope is [{', '.join(self.scope)}]; name one or more of {', '.join(SCOPES)}, each once"
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """Which model is trained, and which parameters."""

    base: str = setting(doc="Folder or hub id of a LLaVA-1.5-style model.", changes_result=False)
    revision: str | None = setting(None, doc="Revision of a hub id; pin it for reproducibility.")
    dtype: str = setting("bf16", doc="Precision of weights and activations.", choices=("bf16", "fp32"))
    mode: str = setting(
        "projector",
        doc="Trainable parameters: projector only, projector + LoRA, those that `model.selective` names, or all.",
        choices=("projector", "lora", "selective", "full"),
    )
    lora: LoraConfig = setting(LoraConfig, doc="Used by mode `lora`; the projector trains too.")
    selective: str = setting(
        ATTENTION,
        doc="Used by mode `selective`: what trains, and nothing else. A regular expression, found anywhere in a"
        " parameter's name (so module names work), or `attention`: the attention projections of the language model.",
        changes_result=lambda model: model.mode == "selective",
    )
    attention: str = setting(
        "auto",
        doc="Attention kernel; auto takes flash_attention_2 if installed and on a GPU, else sdpa.",
        choices=("auto", "sdpa", "flash_attention_2", "flex_attention", "eager"),
        changes_result=False,
    )
    skip_unneeded_compute: bool = setting(
        True,
        doc="Skip work that changes neither the loss nor a gradient: the last decoder layer runs at target positions"
        " only, and a frozen language model computes the keys of the system prompt once. Equal up to rounding."
        " Decoders of type Llama, Mistral and Qwen2, a sliding window not"
        " shorter than chat.max_length, with the kernel sdpa.",
    )
    kernels: str = setting(
        "auto",
        doc="How the small operations of a layer run: `compile` fuses them by torch.compile, `liger` by Liger's kernels"
        " (a GPU; decoders of type Llama, Mistral and Qwen2 with `skip_unneeded_compute`), `none` runs them one by one."
        " auto: `compile` on a GPU; `liger` there with ZeRO 3 or `train.deterministic`, if installed; else `none`. A"
        " checkpoint records which.",
        choices=("auto", "none", "compile", "liger"),
    )
    activation_checkpointing: bool | str = setting(
        "auto",
        doc="Recompute activations in the backward pass: `true` those of whole layers (least memory, ~1.4x the work);"
        " `selective` what follows each layer's attention; `auto` the least that fits the GPU's memory.",
        changes_result=False,
    )

    def __post_init__(self) -> None:
        """Raise `ConfigError` for another kind of activation checkpointing, and for a pattern that is none."""
        super().__post_init__()
        if self.activation_checkpointing not in (True, False, "auto", "selective"):
            raise ConfigError(
                f"activation_checkpointing is {self.activation_checkpointing!r}; choose auto, selective, true or false"
            )
        try:
            re.compile(self.selective)
        except re.error as error:
            raise ConfigError(
                f"selective is {self.selective!r}, which is no regular expression ({error}); give one over parameter"
                f" names, or {ATTENTION}"
            ) from error

    @property
    def trained_as(self) -> str:
        """The mode; for another LoRA than the paper's its variant and scope, such as `dora on language, vision`."""
        if self.mode != "lora" or (self.lora.variant, self.lora.scope) == ("lora", ("language",)):
            return self.mode
        return f"{self.lora.variant} on {', '.join(self.lora.scope)}"


@dataclass(frozen=True, kw_only=True)
class ChatConfig(Section):
    """How a conversation becomes tokens and an image becomes pixels."""

    template: str = setting(
        "llava",
        doc="`llava` gives LLaVA's own token ids, `hf` those of transformers' processor; `folder` takes the chat "
        "template of the model's folder (chat_template.jinja). `mistral` ([INST] … [/INST]) is LLaVA-NeXT's with "
        "Mistral; `question` (Question: … Answer:) and `plain` are BLIP-2's and InstructBLIP's.",
        choices=TRAINING_TEMPLATES,
    )
    system_prompt: str = setting(
        "template",
        doc="`vicuna_v1`, `none`, or the text itself; it opens every conversation. `template`: vicuna_v1 for the "
        "templates llava and hf, none for others (a folder's template may write its own).",
    )
    max_length: int = setting(
        2048, doc="Longest sequence in tokens, image tokens included; the rest is cut.", at_least=8
    )
    image_mode: str = setting(
        "pad",
        doc="LLaVA-1.5: `pad` to a square with the mean colour (its training), or centre-`crop`. `export`: as the image"
        " processor of the model's folder says, the only mode of other families.",
        choices=("pad", "crop", "export"),
    )
    image_size: int | None = setting(
        None,
        doc="BLIP-2, InstructBLIP: side in pixels to which images are resized, position embeddings interpolated; an"
        " export has it as its own. null: the model's own.",
        at_least=1,
        at_most=4096,
    )
    min_pixels: int | None = setting(
        None,
        doc="Qwen-VL: an image of fewer pixels is made larger; null: as the image processor of the folder says.",
        at_least=1,
    )
    max_pixels: int | None = setting(
        None,
        doc="Qwen-VL: an image of more pixels is made smaller; 28 x 28 (Qwen3-VL: 32 x 32) of them are a token. null:"
        " as the image processor of the folder says.",
        at_least=1,
    )
    pixels: str = setting(
        "exact",
        doc="`exact`: byte for byte transformers' PIL processor; `fast`: within 2 of 255, in half the time."
        " Evaluations are always exact.",
        choices=("exact", "fast"),
    )
    no_target_tokens: str = setting(
        "error",
        doc="A sample without target tokens: `error`, or `drop` it and count it.",
        choices=("error", "drop"),
    )
