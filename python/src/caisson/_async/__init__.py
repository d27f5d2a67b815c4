"""The asynchronous half, and the source that the synchronous half is generated from."""
