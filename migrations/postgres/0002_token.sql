-- Access tokens, by keyed digest, divided by the mapping key of the user store.
-- Statements name the partition's own table: a look-up through the parent locks
-- every partition. The digest comes first in the primary key, so that a look-up
-- without the partition is still an index scan; there is no DEFAULT partition,
-- which would stand in the way of attaching and detaching others.

-- +goose Up

CREATE TABLE access_token (
    digest         BYTEA NOT NULL,
    partition      TEXT COLLATE "C" NOT NULL,
    id             BYTEA NOT NULL,
    consumer_key   TEXT COLLATE "C" NOT NULL,
    application_id TEXT COLLATE "C" NOT NULL,
    key_type       TEXT NOT NULL,
    user_id        TEXT COLLATE "C" NOT NULL,
    user_type      TEXT NOT NULL,
    scopes         TEXT NOT NULL,
    issued_at      BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL,
    revoked_at     BIGINT, -- null = live
    PRIMARY KEY (digest, partition)
) PARTITION BY LIST (partition);
CREATE TABLE access_token_primary PARTITION OF access_token FOR VALUES IN ('primary');
CREATE UNIQUE INDEX access_token_id ON access_token (id, partition);
CREATE INDEX access_token_consumer_key ON access_token (consumer_key, expires_at);
CREATE INDEX access_token_expires_at ON access_token (expires_at);
