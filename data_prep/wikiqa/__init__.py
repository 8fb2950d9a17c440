"""Builds ImageWikiQA from encyclopedia articles: questions by a model behind an API, filtered, with images."""
