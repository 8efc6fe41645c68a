"""Records: what is folded from the events of a run and kept, one JSON object a line."""
