"""Model families: what differs between LLaVA-1.5, LLaVA-NeXT, BLIP-2 and InstructBLIP."""
