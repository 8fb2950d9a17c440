"""Model families: what differs between them, loading, pixels, and which parameters train."""
