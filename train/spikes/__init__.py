"""Detection and classification of loss spikes, and what training does about them."""
