"""The stages in which the demo world's base model is made."""
