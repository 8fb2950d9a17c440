"""Sizes of the random models by name: those of the configs of transformers, for vision tower and language model."""

from typing import Any

SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {
        "vision": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2,
                   "image_size": 32, "patch_size": 8, "projection_dim": 32},
        "text": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
                 "num_key_value_heads": 4, "vocab_size": 256, "max_position_embeddings": 512},
    },
    "small": {
        "vision": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 4,
                   "image_size": 224, "patch_size": 14, "projection_dim": 256},
        "text": {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 12, "num_attention_heads": 8,
                 "num_key_value_heads": 8, "vocab_size": 32064, "max_position_embeddings": 2048},
    },
    "7b-proportions": {  # 16 narrow layers; head, vision tower and prompt have the shares that they have at 7B
        "vision": {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 24, "num_attention_heads": 3,
                   "image_size": 336, "patch_size": 14, "projection_dim": 96},
        "text": {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 16, "num_attention_heads": 8,
                 "num_key_value_heads": 8, "vocab_size": 2048, "max_position_embeddings": 2048},
    },
    "llava-1.5-7b": {
        "vision": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
                   "image_size": 336, "patch_size": 14, "projection_dim": 768},
        "text": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
                 "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 4096},
    },
}  # fmt: skip
