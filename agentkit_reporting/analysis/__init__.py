"""What logs say of runs: replay step by step, difference, where the time went, cache breaks."""
