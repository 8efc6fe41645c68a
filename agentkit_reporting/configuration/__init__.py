"""What is written down about reporting: one file and a few environment variables, checked as a whole, then built."""
