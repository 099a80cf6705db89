"""Images: a kind of data, in a room of its own."""
