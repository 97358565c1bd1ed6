"""What clients are told, as status, code and message, in more than one test."""

from __future__ import annotations

BUSY = (503, "BUSY", "잠시 후 다시 시도해주세요")
TEMPORARY_ERROR = (503, "TEMPORARY_ERROR", "일시적인 오류가 발생했습니다")
INVALID_REQUEST = (400, "INVALID_REQUEST", "유효하지 않은 요청")
