"""Questions to models behind an API: messages, requests and retries, replies, and files of replies."""
