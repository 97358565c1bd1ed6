"""What may keep the local stack from starting or running, each said in a sentence that helps."""

from __future__ import annotations

from engine.errors import EngineError


class StackProblem(EngineError):
    """Shown to the person who started the stack as it is, without a traceback."""


class StartInterrupted(EngineError):
    """Somebody asked to stop while something was still starting."""
