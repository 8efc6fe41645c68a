"""What went over the wire: requests and responses captured, read back, shown, compared and asked again."""
