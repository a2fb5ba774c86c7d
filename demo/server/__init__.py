"""Sessions of live commentary over HTTP and WebSocket (demo/serve.py)."""
