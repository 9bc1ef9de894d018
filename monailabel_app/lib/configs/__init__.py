"""What a client can set, and which tasks there are."""
