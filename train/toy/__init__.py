"""Small models made on a CPU: the demo's base model, a tiny CLIP, random models of known shapes."""
