"""Which image comes next. No strategy offers an image that somebody has reserved."""
