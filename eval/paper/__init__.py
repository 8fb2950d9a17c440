"""The paper's experiments as rows: its numbers, the plan, its execution, the scoreboard."""
