-- What is managed: organizations, users, tiers, APIs, applications and their
-- keys, subscriptions, and who changed them.

-- +goose Up

CREATE TABLE organization (
    id           TEXT PRIMARY KEY CHECK (id <> ''),
    display_name TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    revision     INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    id           TEXT PRIMARY KEY CHECK (id <> ''),
    organization TEXT NOT NULL REFERENCES organization (id),
    user_store   TEXT NOT NULL,
    name         TEXT NOT NULL,
    email        TEXT NOT NULL,
    status       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    revision     INTEGER NOT NULL,
    UNIQUE (organization, user_store, name)
) STRICT;

CREATE TABLE tier (
    organization  TEXT NOT NULL REFERENCES organization (id),
    name          TEXT NOT NULL CHECK (name <> ''),
    display_name  TEXT NOT NULL,
    requests      INTEGER NOT NULL,
    unit_ms       INTEGER NOT NULL,
    stop_on_quota INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    revision      INTEGER NOT NULL,
    PRIMARY KEY (organization, name)
) STRICT;

-- position is the number of the log event that published the content.
CREATE TABLE api (
    id           TEXT PRIMARY KEY CHECK (id <> ''),
    organization TEXT NOT NULL REFERENCES organization (id),
    name         TEXT NOT NULL,
    version      TEXT NOT NULL,
    context      TEXT NOT NULL,
    state        TEXT NOT NULL,
    spec         TEXT NOT NULL,
    position     INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    revision     INTEGER NOT NULL,
    UNIQUE (organization, name, version)
) STRICT;

CREATE INDEX api_by_context ON api (context);

-- The one spelling of a context. Writers of APIs below one context lock its
-- row, so that the checks on api_route see what others have committed.
CREATE TABLE api_context (
    folded  TEXT PRIMARY KEY,
    context TEXT NOT NULL
) STRICT;

-- Where an API answers: host '' is every host. base_path is context/version,
-- and for gRPC the context alone.
CREATE TABLE api_route (
    host      TEXT NOT NULL,
    base_path TEXT NOT NULL,
    api_id    TEXT NOT NULL REFERENCES api (id) ON DELETE CASCADE,
    PRIMARY KEY (host, base_path)
) STRICT;
CREATE INDEX api_route_base_path ON api_route (base_path);
CREATE INDEX api_route_api ON api_route (api_id);

-- The scopes that resources of an API name.
CREATE TABLE api_scope (
    api_id TEXT NOT NULL REFERENCES api (id) ON DELETE CASCADE,
    scope  TEXT NOT NULL,
    PRIMARY KEY (api_id, scope)
) STRICT;

-- The tiers that an API or one of its resources names.
CREATE TABLE api_tier (
    api_id       TEXT NOT NULL REFERENCES api (id) ON DELETE CASCADE,
    organization TEXT NOT NULL,
    tier         TEXT NOT NULL,
    PRIMARY KEY (api_id, tier),
    FOREIGN KEY (organization, tier) REFERENCES tier (organization, name)
) STRICT;
CREATE INDEX api_tier_tier ON api_tier (organization, tier);

CREATE TABLE application (
    id           TEXT PRIMARY KEY CHECK (id <> ''),
    organization TEXT NOT NULL REFERENCES organization (id),
    name         TEXT NOT NULL,
    owner        TEXT NOT NULL REFERENCES users (id),
    tier         TEXT, -- null = none
    token_type   TEXT NOT NULL,
    attributes   TEXT NOT NULL,
    status       TEXT NOT NULL,
    scopes       TEXT NOT NULL,
    built_in     INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    revision     INTEGER NOT NULL,
    UNIQUE (organization, name),
    FOREIGN KEY (organization, tier) REFERENCES tier (organization, name)
) STRICT;
CREATE INDEX application_owner ON application (owner);
CREATE INDEX application_tier ON application (organization, tier);

CREATE TABLE client (
    consumer_key      TEXT PRIMARY KEY CHECK (consumer_key <> ''),
    application_id    TEXT NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    key_type          TEXT NOT NULL,
    grant_types       TEXT NOT NULL, -- separated by spaces
    auth_method       TEXT NOT NULL,
    token_lifetime_ms INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    UNIQUE (application_id, key_type)
) STRICT;

-- A digest is the id of its pepper (one byte) and the HMAC-SHA256.
CREATE TABLE client_secret (
    consumer_key TEXT NOT NULL REFERENCES client (consumer_key) ON DELETE CASCADE,
    id           TEXT NOT NULL,
    digest       BLOB NOT NULL,
    last4        TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER, -- null = never
    PRIMARY KEY (consumer_key, id)
) STRICT;

CREATE TABLE api_key (
    id             BLOB PRIMARY KEY,
    application_id TEXT NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    name           TEXT NOT NULL,
    key_type       TEXT NOT NULL,
    digest         BLOB NOT NULL UNIQUE,
    last4          TEXT NOT NULL,
    networks       TEXT NOT NULL, -- JSON list of CIDR prefixes
    referers       TEXT NOT NULL, -- JSON list of patterns
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER, -- null = never
    revoked_at     INTEGER, -- null = live
    UNIQUE (application_id, name)
) STRICT;

CREATE TABLE subscription (
    id             TEXT PRIMARY KEY CHECK (id <> ''),
    organization   TEXT NOT NULL REFERENCES organization (id),
    name           TEXT NOT NULL,
    application_id TEXT NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    api_id         TEXT NOT NULL REFERENCES api (id),
    tier           TEXT NOT NULL,
    pending_tier   TEXT, -- null = none
    state          TEXT NOT NULL,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    revision       INTEGER NOT NULL,
    UNIQUE (application_id, api_id),
    UNIQUE (organization, name),
    FOREIGN KEY (organization, tier) REFERENCES tier (organization, name),
    FOREIGN KEY (organization, pending_tier) REFERENCES tier (organization, name)
) STRICT;
CREATE INDEX subscription_api ON subscription (api_id);
CREATE INDEX subscription_tier ON subscription (organization, tier);
CREATE INDEX subscription_pending_tier ON subscription (organization, pending_tier);

-- Append-only; it outlives what it tells of.
CREATE TABLE audit (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    at           INTEGER NOT NULL,
    actor        TEXT NOT NULL,
    organization TEXT NOT NULL,
    action       TEXT NOT NULL,
    kind         TEXT NOT NULL,
    name         TEXT NOT NULL,
    before_doc   TEXT, -- JSON; null = it did not exist
    after_doc    TEXT
) STRICT;
CREATE INDEX audit_organization ON audit (organization, id);
