-- The dense, numbered log of what gateways must know.

-- +goose Up

-- One row. Whoever appends raises seq as one of the last statements of the
-- transaction: its row lock puts events into commit order, without gaps.
-- Events up to pruned are gone, except those that still say what is dead. epoch
-- names this line of history: a restored database gets a new one.
CREATE TABLE log_head (
    id     BIGINT PRIMARY KEY CHECK (id = 1),
    epoch  BYTEA NOT NULL CHECK (length(epoch) = 16),
    seq    BIGINT NOT NULL,
    pruned BIGINT NOT NULL
);
INSERT INTO log_head (id, epoch, seq, pruned) VALUES (1, uuid_send(gen_random_uuid()), 0, 0);

CREATE TABLE log_event (
    seq        BIGINT PRIMARY KEY,
    kind       TEXT NOT NULL, -- api, tier, dead, stale
    body       JSONB NOT NULL, -- JSON
    expires_at BIGINT        -- of kind dead: when it may be forgotten; null = never
);
CREATE INDEX log_event_dead ON log_event (seq) WHERE kind = 'dead';
