CREATE TABLE policy (
    scope text COLLATE "C" NOT NULL CHECK (scope = 'all' OR scope LIKE 'space:_%' OR scope LIKE 'language:_%'),
    from_at timestamptz NOT NULL,
    target_seconds bigint NOT NULL CHECK (target_seconds > 0),
    objective double precision NOT NULL CHECK (objective > 0 AND objective <= 1),
    set_by text COLLATE "C",
    set_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, from_at)
);
COMMENT ON TABLE policy IS 'primary: the promise and its versions; the first has no beginning';
INSERT INTO policy (scope, from_at, target_seconds, objective) VALUES ('all', '-infinity', 172800, 0.9);

CREATE TABLE topic_state (
    topic_id text COLLATE "C" PRIMARY KEY,
    known boolean NOT NULL DEFAULT false,
    visible boolean NOT NULL DEFAULT false,
    closed boolean NOT NULL DEFAULT false,
    kind text,
    space text COLLATE "C",
    language text COLLATE "C",
    title text,
    tags jsonb NOT NULL DEFAULT '[]',
    url text,
    author_id text COLLATE "C",
    created_at timestamptz,
    created_us bigint,
    target_us bigint,
    due_at timestamptz,
    response_reply_id text COLLATE "C",
    responder_id text COLLATE "C",
    responder_kind text,
    response_at timestamptz,
    response_us bigint,
    appended_at timestamptz,
    backfill boolean,
    next_at timestamptz,
    waiting boolean NOT NULL GENERATED ALWAYS AS (
        known AND visible AND NOT closed AND coalesce(kind = 'question', false) AND response_reply_id IS NULL
    ) STORED,
    changed xid8 NOT NULL DEFAULT pg_current_xact_id()
) WITH (fillfactor = 85);
COMMENT ON TABLE topic_state IS
    'derived: one row for each topic that was ever named; its lock is the aggregate''s, and it holds the standing first response';
COMMENT ON COLUMN topic_state.known IS 'false: not created yet, or merged away';
COMMENT ON COLUMN topic_state.created_us IS 'microseconds since 1970, of the earliest topic merged into this one';
COMMENT ON COLUMN topic_state.response_us IS 'microseconds from creation to the first response';
COMMENT ON COLUMN topic_state.next_at IS 'when the ladder should look at this topic next';
COMMENT ON COLUMN topic_state.changed IS 'the transaction that wrote this version: the report reads what changed since';
CREATE INDEX topic_state_waiting ON topic_state (due_at, topic_id) WHERE waiting;
CREATE INDEX topic_state_answered ON topic_state (due_at, topic_id)
    WHERE response_reply_id IS NOT NULL AND known AND visible AND NOT closed AND kind = 'question';
CREATE INDEX topic_state_next ON topic_state (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX topic_state_changed ON topic_state (changed);
CREATE INDEX topic_state_created ON topic_state (created_at) WHERE known;

CREATE TABLE told (
    topic_id text COLLATE "C" NOT NULL,
    stage smallint NOT NULL CHECK (stage BETWEEN 1 AND 4),
    told_at timestamptz NOT NULL,
    PRIMARY KEY (topic_id, stage)
);
COMMENT ON TABLE told IS 'primary: which stages of the ladder were told (1 new, 2 stalled, 3 warning, 4 breached), once for ever';

CREATE TABLE claim (
    claim_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic_id text COLLATE "C" NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    claimed_at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    ended_at timestamptz,
    why text
);
COMMENT ON TABLE claim IS 'primary: who took on which topic, until when, and how it ended';
CREATE UNIQUE INDEX claim_open ON claim (topic_id) WHERE ended_at IS NULL;
CREATE INDEX claim_member ON claim (member_id) WHERE ended_at IS NULL;
CREATE INDEX claim_until ON claim (until) WHERE ended_at IS NULL;
CREATE INDEX claim_topic ON claim (topic_id, claimed_at);

CREATE TABLE discourse_poll (
    instance text COLLATE "C" PRIMARY KEY,
    state jsonb NOT NULL,
    polled_at timestamptz NOT NULL
);
COMMENT ON TABLE discourse_poll IS 'primary: how far each Discourse was polled';
