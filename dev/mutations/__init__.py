"""Named ways of breaking a promise, each with the tests that must notice; `run.py` applies them."""
