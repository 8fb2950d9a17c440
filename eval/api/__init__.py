"""Models behind an API that speaks the OpenAI wire format."""
