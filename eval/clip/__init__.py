"""CLIP and other encoders: zero-shot classification and features for linear heads."""
