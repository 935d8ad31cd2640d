-- The dense, numbered log of what gateways must know.

-- +goose Up

-- One row. Whoever appends raises seq as one of the last statements of the
-- transaction: its row lock puts events into commit order, without gaps.
-- Events up to pruned are gone, except those that still say what is dead. epoch
-- names this line of history: a restored database gets a new one.
CREATE TABLE log_head (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    epoch  BLOB NOT NULL CHECK (length(epoch) = 16),
    seq    INTEGER NOT NULL,
    pruned INTEGER NOT NULL
) STRICT;
INSERT INTO log_head (id, epoch, seq, pruned) VALUES (1, randomblob(16), 0, 0);

CREATE TABLE log_event (
    seq        INTEGER PRIMARY KEY,
    kind       TEXT NOT NULL, -- api, tier, dead, stale
    body       TEXT NOT NULL, -- JSON
    expires_at INTEGER        -- of kind dead: when it may be forgotten; null = never
) STRICT;
CREATE INDEX log_event_dead ON log_event (seq) WHERE kind = 'dead';
