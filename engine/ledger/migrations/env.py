"""Alembic's entry: migrates on the connection that ``engine.ledger.schema.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from engine.ledger import shop_tables

context.configure(connection=context.config.attributes["connection"], target_metadata=shop_tables.orders.metadata)
context.run_migrations()
