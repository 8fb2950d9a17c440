"""Models that can be evaluated: local VLMs, CLIPs, models behind an API."""
