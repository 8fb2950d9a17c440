"""Reports as pages: blocks, figures, the report of an evaluation."""
