"""What is asked, by whom and where it is kept: items, workers, the line of every answer."""
