"""Differences between the paper and the authors' code in training; the recipes `paper` and `official` choose.

Sources: the paper's Appendix B.5; github.com/yuhui-zh15/VLMClassifier, training_analysis/llava; LLaVA's trainer.
"""

from eval.paper.difference import Difference

TRAINING = (
    Difference(
        "D24",
        "gradients are not clipped: the DeepSpeed file has no gradient_clipping; max_grad_norm is not applied",
        ("optim.clip_norm",),
        "transformers 4.37 fills in `auto` only, accelerate's clipping does nothing under DeepSpeed, DeepSpeed 0.12's "
        "default is 0",
        paper="B.5 names no clipping; LoRA's losses spike (Figure 5)",
        default="recipe paper: no clipping; clean: norm 1.0",
    ),
    Difference(
        "D25",
        "trained with 'in the photo?' behind Vicuna's system prompt",
        ("data.prompt", "chat.system_prompt"),
        paper="B.5: 'in this photo?', the template written without a system prompt",
        default="recipe paper: as the paper; the held-out loss uses the training prompt",
    ),
    Difference(
        "D26",
        "the incomplete last batch of an epoch is trained on, filled up with the epoch's first samples on several GPUs",
        ("train.last_batch",),
        paper="counts epochs; says nothing of the last batch",
        default="recipe paper: trained on, no sample twice; official: filled up; clean: dropped",
    ),
    Difference(
        "D27",
        "the loss is the mean over the target tokens of each forward, averaged over ranks and accumulation",
        ("loss.reduction",),
        "what a class name weighs next to a conversation then depends on what shares its forward",
        paper="does not say",
        default="recipes paper and clean: mean over the target tokens of the global batch",
    ),
    Difference(
        "D28",
        "samples with and without an image are in batches of their own, grouped by their number of words",
        ("train.batching",),
        "group_by_modality_length; equal to LLaVA's sampler for the same lengths and seed",
        paper="concatenates ImageNet and LLaVA-665K; says nothing of batches",
        default="recipes paper and clean: all sources shuffled together",
    ),
    Difference(
        "D29",
        "captions, their questions and their evaluation are not released; batches of 64 on each GPU",
        ("data.sources", "protocol.prompt", "train.global_batch"),
        paper="3.3: asked 'Generate a caption for the image.'; right if the caption contains the class name",
        default="presets *_captions: the paper's question in training and evaluation, batch 64",
    ),
    Difference(
        "D30",
        "fine-tuned LLaVA is the last checkpoint (save_total_limit 1); BLIP-2 is its best epoch on the test items",
        ("checkpoint.keep", "checkpoint.patience"),
        "the export names the items that its checkpoint was chosen on",
        paper="B.5: 'we report the best performance on the validation set'",
        default="recipe paper: lowest held-out loss (captions: the last checkpoint); official and clean: the last",
    ),
    Difference(
        "D31",
        "a record whose text has </s> or <s>, or whose question alone exceeds the limit, is trained on as masked",
        ("train.unreadable",),
        "LLaVA's masking meets another number of tokens than it expects, and ignores the whole record",
        paper="says nothing of such records",
        default="all recipes: build and dry run name them; training stops, or skips them if the setting says so",
    ),
)
