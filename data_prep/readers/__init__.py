"""One module a source: raw files in, samples out, in a fixed order."""
