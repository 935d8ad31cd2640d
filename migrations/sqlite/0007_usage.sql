-- Who called which API through which gateway: one row for each call, of
-- identifiers and sizes.

-- +goose Up

-- There are no references: a row outlives what it is about. An empty text is
-- what is not known. Rows go when they are older than the retention.
CREATE TABLE usage_record (
    source          INTEGER NOT NULL, -- the key manager that wrote it, anew with each start
    number          INTEGER NOT NULL, -- of the row, there
    at              INTEGER NOT NULL, -- when the call began
    request_id      TEXT NOT NULL,
    gateway         TEXT NOT NULL,   -- the Envoy
    gateway_group   TEXT NOT NULL,
    organization    TEXT NOT NULL,
    api_id          TEXT NOT NULL,
    api_version     TEXT NOT NULL,
    application_id  TEXT NOT NULL,
    subscription_id TEXT NOT NULL,
    consumer_key    TEXT NOT NULL,
    key_type        TEXT NOT NULL,
    tier            TEXT NOT NULL,
    user_name       TEXT NOT NULL,
    method          TEXT NOT NULL,
    route           TEXT NOT NULL,
    status          INTEGER NOT NULL, -- HTTP; 0 = the caller went before there was one
    reason          TEXT NOT NULL,    -- why authz refused
    fault           TEXT NOT NULL,    -- AUTH, THROTTLED, TARGET_CONNECTIVITY, OTHER
    flags           TEXT NOT NULL,    -- Envoy's response flags, separated by commas
    request_bytes   INTEGER NOT NULL,  -- of bodies
    response_bytes  INTEGER NOT NULL,
    duration_us     INTEGER NOT NULL,
    upstream_us     INTEGER NOT NULL,  -- the part of it at the back end
    PRIMARY KEY (source, number)
) STRICT;
CREATE INDEX usage_record_organization ON usage_record (organization, at);
CREATE INDEX usage_record_at ON usage_record (at);
