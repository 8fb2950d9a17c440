"""Signals, launchers, hangs, lost and lagging ranks: what watches over a run."""
