"""What prompt lookup gains where answers repeat something, and what it costs where they do not."""
