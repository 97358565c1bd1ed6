"""Every sentence that people read, in each language there is. Knows nothing of Flask.

Programs branch on codes, which never change; what stands here is for people only.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

Language = Literal["ko", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
DEFAULT_LANGUAGE: Language = "ko"
LONGEST_HEADER = 500
"""A longer wish is not read: no browser sends one, and a stranger's must not cost us."""


class Sentence(NamedTuple):
    """The same in each language."""

    ko: str
    en: str

    def said_in(self, language: Language) -> str:
        return self.en if language == "en" else self.ko


SENTENCES: Mapping[str, Sentence] = {
    "INVALID_REQUEST": Sentence("유효하지 않은 요청", "The request is not valid"),
    "INVALID_USER_ID": Sentence("유효하지 않은 사용자 ID", "The user id is not valid"),
    "USER_NOT_FOUND": Sentence("사용자를 찾을 수 없습니다", "The user was not found"),
    "COUPON_NOT_FOUND": Sentence("존재하지 않는 쿠폰입니다", "There is no such coupon"),
    "COUPON_ALREADY_ISSUED": Sentence("이미 발급받은 쿠폰입니다", "You already have this coupon"),
    "COUPON_CLOSED": Sentence("쿠폰 발급이 마감되었습니다", "This coupon is closed"),
    "PRODUCT_NOT_FOUND": Sentence("존재하지 않는 상품입니다", "There is no such product"),
    "OUT_OF_STOCK": Sentence("재고가 부족합니다", "There is not enough in stock"),
    "INSUFFICIENT_BALANCE": Sentence("잔액이 부족합니다", "The balance is not sufficient"),
    "COUPON_NOT_USABLE": Sentence("사용할 수 없는 쿠폰입니다", "This coupon cannot be used"),
    "ORDER_NOT_FOUND": Sentence("존재하지 않는 주문입니다", "There is no such order"),
    "ORDER_NOT_CANCELLABLE": Sentence("취소할 수 없는 주문입니다", "This order cannot be cancelled"),
    "REQUEST_NOT_FOUND": Sentence("존재하지 않는 요청입니다", "There is no such request"),
    "IDEMPOTENCY_KEY_REUSED": Sentence(
        "같은 멱등키로 다른 요청을 보낼 수 없습니다", "The same idempotency key cannot be sent with another request"
    ),
    "UNAUTHENTICATED": Sentence("인증이 필요합니다", "Authentication is required"),
    "FORBIDDEN": Sentence("권한이 없습니다", "You do not have permission"),
    "USER_EXISTS": Sentence("이미 존재하는 사용자입니다", "This user already exists"),
    "TOO_MANY_REQUESTS": Sentence("요청이 너무 많습니다", "Too many requests"),
    "BUSY": Sentence("잠시 후 다시 시도해주세요", "Please try again in a moment"),
    "TEMPORARY_ERROR": Sentence("일시적인 오류가 발생했습니다", "A temporary error occurred"),
    "NO_PRODUCTS": Sentence("등록된 상품이 없습니다", "There are no products"),
    "NO_STATISTICS": Sentence("통계 데이터가 없습니다", "There are no statistics"),
    "NO_COUPONS": Sentence("보유한 쿠폰이 없습니다", "You have no coupons"),
}
"""By the code of an error, or the name of what is told besides."""


def language_for(accept_language: str | None) -> Language:
    """The language that an ``Accept-Language`` header (RFC 9110, with its quality values) asks for, else Korean."""
    if accept_language is None or len(accept_language) > LONGEST_HEADER:
        return DEFAULT_LANGUAGE
    return _best_match(accept_language)


@lru_cache(maxsize=512)
def _best_match(accept_language: str) -> Language:
    best = parse_accept_header(accept_language, LanguageAccept).best_match(LANGUAGES, DEFAULT_LANGUAGE)
    return "en" if best == "en" else "ko"
