-- What gateways report, as each key manager tells the others.

-- +goose Up

-- One row for each authz and xds, written by the key manager that it reports
-- to. It is news, not record: unlogged, so that writing it costs no disk, and
-- empty after a crash of the server until the next reports, a second later.
-- reached is how far the part and all Envoys connected to it are.
CREATE UNLOGGED TABLE gateway_report (
    kind        TEXT COLLATE "C" NOT NULL, -- authz, xds
    id          TEXT COLLATE "C" NOT NULL,
    reporter    TEXT COLLATE "C" NOT NULL, -- the key manager
    epoch       BYTEA NOT NULL CHECK (length(epoch) = 16),
    confirmed   BIGINT NOT NULL,
    reached     BIGINT NOT NULL,
    document    JSONB,                     -- JSON: the rest; null = not told yet
    changed_at  BIGINT NOT NULL,           -- document, by the clock of the database
    reported_at BIGINT NOT NULL,           -- by the clock of the database
    PRIMARY KEY (kind, id)
) WITH (fillfactor = 50);
