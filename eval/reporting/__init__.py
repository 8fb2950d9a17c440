"""What reports are made of: statistics, the paper's numbers, drawings, pages."""
