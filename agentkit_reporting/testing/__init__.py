"""What tests of agents look at: recorded events, expected sequences, golden logs."""
