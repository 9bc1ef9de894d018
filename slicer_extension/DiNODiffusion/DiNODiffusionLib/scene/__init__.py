"""What touches the MRML scene; main thread only."""
