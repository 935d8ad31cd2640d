-- What gateways report, as each key manager tells the others: here there is
-- none but the one that has the file, and the table stays empty.

-- +goose Up

CREATE TABLE gateway_report (
    kind        TEXT NOT NULL, -- authz, xds
    id          TEXT NOT NULL,
    reporter    TEXT NOT NULL, -- the key manager
    epoch       BLOB NOT NULL CHECK (length(epoch) = 16),
    confirmed   INTEGER NOT NULL,
    reached     INTEGER NOT NULL,
    document    TEXT,             -- JSON: the rest; null = not told yet
    changed_at  INTEGER NOT NULL, -- document, by the clock of the database
    reported_at INTEGER NOT NULL, -- by the clock of the database
    PRIMARY KEY (kind, id)
) STRICT;
