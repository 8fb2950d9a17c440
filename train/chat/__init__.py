"""Conversations to token ids and targets: chat templates, the renderer, tokenizers."""
