-- What is managed: organizations, users, tiers, APIs, applications and their
-- keys, subscriptions, and who changed them.

-- +goose Up

CREATE TABLE organization (
    id           TEXT COLLATE "C" PRIMARY KEY CHECK (id <> ''),
    display_name TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    revision     BIGINT NOT NULL
);

CREATE TABLE users (
    id           TEXT COLLATE "C" PRIMARY KEY CHECK (id <> ''),
    organization TEXT COLLATE "C" NOT NULL REFERENCES organization (id),
    user_store   TEXT COLLATE "C" NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    email        TEXT NOT NULL,
    status       TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    revision     BIGINT NOT NULL,
    UNIQUE (organization, user_store, name)
);

CREATE TABLE tier (
    organization  TEXT COLLATE "C" NOT NULL REFERENCES organization (id),
    name          TEXT COLLATE "C" NOT NULL CHECK (name <> ''),
    display_name  TEXT NOT NULL,
    requests      BIGINT NOT NULL,
    unit_ms       BIGINT NOT NULL,
    stop_on_quota BOOLEAN NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    revision      BIGINT NOT NULL,
    PRIMARY KEY (organization, name)
);

-- position is the number of the log event that published the content.
CREATE TABLE api (
    id           TEXT COLLATE "C" PRIMARY KEY CHECK (id <> ''),
    organization TEXT COLLATE "C" NOT NULL REFERENCES organization (id),
    name         TEXT COLLATE "C" NOT NULL,
    version      TEXT COLLATE "C" NOT NULL,
    context      TEXT COLLATE "C" NOT NULL,
    state        TEXT NOT NULL,
    spec         JSONB NOT NULL,
    position     BIGINT NOT NULL DEFAULT 0,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    revision     BIGINT NOT NULL,
    UNIQUE (organization, name, version)
);

CREATE INDEX api_by_context ON api (context);

-- The one spelling of a context. Writers of APIs below one context lock its
-- row, so that the checks on api_route see what others have committed.
CREATE TABLE api_context (
    folded  TEXT COLLATE "C" PRIMARY KEY,
    context TEXT COLLATE "C" NOT NULL
);

-- Where an API answers: host '' is every host. base_path is context/version,
-- and for gRPC the context alone.
CREATE TABLE api_route (
    host      TEXT COLLATE "C" NOT NULL,
    base_path TEXT COLLATE "C" NOT NULL,
    api_id    TEXT COLLATE "C" NOT NULL REFERENCES api (id) ON DELETE CASCADE,
    PRIMARY KEY (host, base_path)
);
CREATE INDEX api_route_base_path ON api_route (base_path);
CREATE INDEX api_route_api ON api_route (api_id);

-- The scopes that resources of an API name.
CREATE TABLE api_scope (
    api_id TEXT COLLATE "C" NOT NULL REFERENCES api (id) ON DELETE CASCADE,
    scope  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (api_id, scope)
);

-- The tiers that an API or one of its resources names.
CREATE TABLE api_tier (
    api_id       TEXT COLLATE "C" NOT NULL REFERENCES api (id) ON DELETE CASCADE,
    organization TEXT COLLATE "C" NOT NULL,
    tier         TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (api_id, tier),
    FOREIGN KEY (organization, tier) REFERENCES tier (organization, name)
);
CREATE INDEX api_tier_tier ON api_tier (organization, tier);

CREATE TABLE application (
    id           TEXT COLLATE "C" PRIMARY KEY CHECK (id <> ''),
    organization TEXT COLLATE "C" NOT NULL REFERENCES organization (id),
    name         TEXT COLLATE "C" NOT NULL,
    owner        TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    tier         TEXT COLLATE "C", -- null = none
    token_type   TEXT NOT NULL,
    attributes   JSONB NOT NULL,
    status       TEXT NOT NULL,
    scopes       TEXT NOT NULL,
    built_in     BOOLEAN NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    revision     BIGINT NOT NULL,
    UNIQUE (organization, name),
    FOREIGN KEY (organization, tier) REFERENCES tier (organization, name)
);
CREATE INDEX application_owner ON application (owner);
CREATE INDEX application_tier ON application (organization, tier);

CREATE TABLE client (
    consumer_key      TEXT COLLATE "C" PRIMARY KEY CHECK (consumer_key <> ''),
    application_id    TEXT COLLATE "C" NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    key_type          TEXT NOT NULL,
    grant_types       TEXT NOT NULL, -- separated by spaces
    auth_method       TEXT NOT NULL,
    token_lifetime_ms BIGINT NOT NULL,
    created_at        BIGINT NOT NULL,
    UNIQUE (application_id, key_type)
);

-- A digest is the id of its pepper (one byte) and the HMAC-SHA256.
CREATE TABLE client_secret (
    consumer_key TEXT COLLATE "C" NOT NULL REFERENCES client (consumer_key) ON DELETE CASCADE,
    id           TEXT COLLATE "C" NOT NULL,
    digest       BYTEA NOT NULL,
    last4        TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT, -- null = never
    PRIMARY KEY (consumer_key, id)
);

CREATE TABLE api_key (
    id             BYTEA PRIMARY KEY,
    application_id TEXT COLLATE "C" NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    name           TEXT COLLATE "C" NOT NULL,
    key_type       TEXT NOT NULL,
    digest         BYTEA NOT NULL UNIQUE,
    last4          TEXT NOT NULL,
    networks       JSONB NOT NULL, -- JSON list of CIDR prefixes
    referers       JSONB NOT NULL, -- JSON list of patterns
    created_at     BIGINT NOT NULL,
    expires_at     BIGINT, -- null = never
    revoked_at     BIGINT, -- null = live
    UNIQUE (application_id, name)
);

CREATE TABLE subscription (
    id             TEXT COLLATE "C" PRIMARY KEY CHECK (id <> ''),
    organization   TEXT COLLATE "C" NOT NULL REFERENCES organization (id),
    name           TEXT COLLATE "C" NOT NULL,
    application_id TEXT COLLATE "C" NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    api_id         TEXT COLLATE "C" NOT NULL REFERENCES api (id),
    tier           TEXT COLLATE "C" NOT NULL,
    pending_tier   TEXT COLLATE "C", -- null = none
    state          TEXT NOT NULL,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    revision       BIGINT NOT NULL,
    UNIQUE (application_id, api_id),
    UNIQUE (organization, name),
    FOREIGN KEY (organization, tier) REFERENCES tier (organization, name),
    FOREIGN KEY (organization, pending_tier) REFERENCES tier (organization, name)
);
CREATE INDEX subscription_api ON subscription (api_id);
CREATE INDEX subscription_tier ON subscription (organization, tier);
CREATE INDEX subscription_pending_tier ON subscription (organization, pending_tier);

-- Append-only; it outlives what it tells of.
CREATE TABLE audit (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           BIGINT NOT NULL,
    actor        TEXT NOT NULL,
    organization TEXT COLLATE "C" NOT NULL,
    action       TEXT NOT NULL,
    kind         TEXT NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    before_doc   TEXT, -- JSON; null = it did not exist
    after_doc    TEXT
);
CREATE INDEX audit_organization ON audit (organization, id);
