"""What a question is and what an answer is worth, by the protocol."""
