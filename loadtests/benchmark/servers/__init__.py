"""What is measured beside the real web: each a WSGI application of its own, started by the same server command."""
