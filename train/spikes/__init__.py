"""Loss spikes: seen, named, acted on; and what the monitor is measured with."""
