"""Programs that look at a run or its data and do not train."""
