"""The paper's experiments on one model: which rows there are, what each needs, and how all are run."""
