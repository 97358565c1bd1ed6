"""A migrated database made empty between two tests, or two simulated histories."""

from __future__ import annotations

EMPTYING = """
    DO $emptying$
    DECLARE
        filled regclass[];
        each record;
    BEGIN
        -- Neither references nor triggers are looked at: everything goes.
        SET LOCAL session_replication_role = replica;
        FOR each IN SELECT oid::regclass AS name FROM pg_class
                    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
        LOOP
            EXECUTE format('DELETE FROM %s', each.name);
            IF pg_relation_size(each.name) > 1000000 THEN
                filled := filled || each.name;
            END IF;
        END LOOP;
        FOR each IN SELECT schemaname, sequencename, start_value FROM pg_sequences WHERE last_value IS NOT NULL
        LOOP
            PERFORM setval(format('%I.%I', each.schemaname, each.sequencename), each.start_value, false);
        END LOOP;
        IF filled IS NOT NULL THEN
            EXECUTE (SELECT 'TRUNCATE ' || string_agg(name::text, ', ') || ' CASCADE' FROM unnest(filled) AS name);
        END IF;
    END
    $emptying$
"""
"""Deleting a few rows is ten times faster than TRUNCATE, which makes new files for every table and index; only where
rows by the thousand have been, what they leave behind would slow the next tests down."""
