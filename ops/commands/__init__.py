"""The commands of ``python -m ops``: each reads its words, calls one function of the engine, tells what came of it."""
