"""The audit of the ledger's own books, and of what in it waits for a person."""

from __future__ import annotations

from sqlalchemy import Column, TextClause

from engine.ledger import audit_books, audit_queries
from engine.ledger.shop_tables import accounts, orders, products
from engine.ledger.tables import user_coupons
from engine.upkeep.auditing.findings import EXAMPLES_SHOWN, CheckName
from engine.upkeep.auditing.looking import Looking

COUPONS_PER_PAGE = 50
ACCOUNTS_PER_PAGE = 1000
ORDERS_PER_PAGE = 1000
USER_COUPONS_PER_PAGE = 10_000

OF_ORDERS = (
    (CheckName.AMOUNTS, audit_books.ORDER_AMOUNTS),
    (CheckName.PAYMENTS, audit_books.PAYMENTS),
    (CheckName.REDEMPTIONS, audit_books.REDEMPTIONS),
    (CheckName.FOLLOWUPS, audit_books.FOLLOWUPS),
    (CheckName.HISTORY, audit_books.HISTORY),
)
OF_ACCOUNTS = (
    (CheckName.BALANCES, audit_books.BALANCES),
    (CheckName.PENDING, audit_books.PENDING_TRANSACTIONS),
)
OF_USER_COUPONS = ((CheckName.REDEMPTIONS, audit_books.USED_COUPONS),)
SUMS = ((CheckName.UNITS, audit_books.UNITS), (CheckName.STATISTICS, audit_books.STATISTICS))


def audit_what_waits_for_a_person(looking: Looking) -> None:
    """Quarantine and parked follow-ups. Raises LedgerUnavailable."""
    findings = looking.findings
    with looking.engine.ledger.snapshot() as connection:
        quarantined = audit_queries.quarantined(connection, EXAMPLES_SHOWN)
        parked = audit_queries.parked_followups(connection, EXAMPLES_SHOWN)
    for check, named in ((CheckName.QUARANTINE, quarantined), (CheckName.PARKED, parked)):
        for what in named.some:
            findings.off(check, what)
        if named.count > len(named.some):
            findings.off(check, "", named.count - len(named.some))


def audit_books_of_the_ledger(looking: Looking) -> None:
    """All that has to add up within the ledger. Raises LedgerUnavailable."""
    _audit_sums(looking)
    _audit_numbering(looking)
    _walk(looking, accounts.c.user_id, "user", ACCOUNTS_PER_PAGE, OF_ACCOUNTS)
    _walk(looking, orders.c.id, "order", ORDERS_PER_PAGE, OF_ORDERS)
    _walk(looking, user_coupons.c.id, "user coupon", USER_COUPONS_PER_PAGE, OF_USER_COUPONS)


def _audit_sums(looking: Looking) -> None:
    with looking.engine.ledger.read() as connection:
        page = audit_books.next_page(connection, products.c.id, 0, 1_000_000)
    for check, query in SUMS:
        if not looking.keep_going():
            return
        with looking.engine.ledger.snapshot() as connection:
            wrong = audit_books.wrong_sums(connection, query)
        looking.findings.looked_at(check, 0 if page is None else page.rows)
        for each in wrong:
            looking.findings.off(check, f"product {each.id}: {each.what}")


def _audit_numbering(looking: Looking) -> None:
    after = 0
    while looking.keep_going():
        with looking.engine.ledger.snapshot() as connection:
            ids = audit_queries.coupon_ids_after(connection, after, COUPONS_PER_PAGE)
            wrong = audit_books.wrong_coupons(connection, ids)
        if not ids:
            return
        looking.findings.looked_at(CheckName.NUMBERED, len(ids))
        for each in wrong:
            looking.findings.off(CheckName.NUMBERED, f"coupon {each.id}: {each.what}")
        after = ids[-1]


def _walk(
    looking: Looking, key: Column[int], name: str, limit: int, queries: tuple[tuple[CheckName, TextClause], ...]
) -> None:
    """Ask all of these questions of one page after the other."""
    after = 0
    while looking.keep_going():
        with looking.engine.ledger.snapshot() as connection:
            page = audit_books.next_page(connection, key, after, limit)
            if page is None:
                return
            wrong = [(check, audit_books.wrong_in_page(connection, query, page)) for check, query in queries]
        for check, rows in wrong:
            looking.findings.looked_at(check, page.rows if queries is not OF_USER_COUPONS else 0)
            for each in rows:
                looking.findings.off(check, f"{name} {each.id}: {each.what}")
        after = page.upto
