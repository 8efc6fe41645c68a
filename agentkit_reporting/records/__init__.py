"""Records of what agents do: views of the one stream of events, each also usable directly in a hand-written loop."""
