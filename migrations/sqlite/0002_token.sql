-- Access tokens, by keyed digest. Postgres divides them by user store; SQLite
-- has the one table of the primary user store, with the same columns.

-- +goose Up

CREATE TABLE access_token_primary (
    digest         BLOB NOT NULL,
    partition      TEXT NOT NULL CHECK (partition = 'primary'),
    id             BLOB NOT NULL,
    consumer_key   TEXT NOT NULL,
    application_id TEXT NOT NULL,
    key_type       TEXT NOT NULL,
    user_id        TEXT NOT NULL,
    user_type      TEXT NOT NULL,
    scopes         TEXT NOT NULL,
    issued_at      INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    revoked_at     INTEGER, -- null = live
    PRIMARY KEY (digest, partition)
) STRICT;
CREATE UNIQUE INDEX access_token_id ON access_token_primary (id, partition);
CREATE INDEX access_token_consumer_key ON access_token_primary (consumer_key, expires_at);
CREATE INDEX access_token_expires_at ON access_token_primary (expires_at);
