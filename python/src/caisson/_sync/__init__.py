"""The synchronous half: generated from the asynchronous one, except for `concurrency.py` and `websocket.py`."""
