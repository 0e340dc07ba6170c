-- A stamp is 16 digits of microseconds, the source, \x01 and the event's id; '' stands for never. The greater stands.
CREATE TABLE topic (
    topic_id text COLLATE "C" PRIMARY KEY,
    created_stamp text COLLATE "C" NOT NULL,
    created_at timestamptz,
    author_id text COLLATE "C",
    author_kind text,
    url text,
    appended_at timestamptz,
    backfill boolean,
    title_stamp text COLLATE "C" NOT NULL,
    title text,
    tags_stamp text COLLATE "C" NOT NULL,
    tags jsonb,
    language_stamp text COLLATE "C" NOT NULL,
    language text,
    kind_stamp text COLLATE "C" NOT NULL,
    kind text,
    space_stamp text COLLATE "C" NOT NULL,
    space text,
    merged_stamp text COLLATE "C" NOT NULL,
    into_topic_id text COLLATE "C",
    closed_at timestamptz,
    reopened_at timestamptz,
    deleted_at timestamptz,
    restored_at timestamptz
);
COMMENT ON TABLE topic IS 'fact: what forum.events says of each topic, register by register';
COMMENT ON COLUMN topic.appended_at IS 'the smallest Kafka timestamp of a topic-created';
COMMENT ON COLUMN topic.backfill IS 'every topic-created came as history';
CREATE INDEX topic_author ON topic (author_id);
CREATE INDEX topic_into ON topic (into_topic_id) WHERE into_topic_id IS NOT NULL;

CREATE TABLE reply (
    reply_id text COLLATE "C" PRIMARY KEY,
    topic_stamp text COLLATE "C" NOT NULL,
    topic_id text COLLATE "C",
    posted_stamp text COLLATE "C" NOT NULL,
    posted_at timestamptz,
    author_id text COLLATE "C",
    author_kind text,
    visibility text,
    backfill boolean,
    deleted_at timestamptz,
    restored_at timestamptz,
    stands boolean NOT NULL GENERATED ALWAYS AS (
        posted_at IS NOT NULL AND visibility = 'public'
        AND (deleted_at IS NULL OR coalesce(restored_at > deleted_at, false))
    ) STORED
);
COMMENT ON TABLE reply IS 'fact: what forum.events says of each reply';
COMMENT ON COLUMN reply.stands IS 'it can be seen: posted, public, not deleted';
CREATE INDEX reply_topic ON reply (topic_id, stands, posted_at, reply_id);
CREATE INDEX reply_author ON reply (author_id, topic_id, posted_at, reply_id);

CREATE TABLE acceptance (
    topic_id text COLLATE "C" NOT NULL,
    reply_id text COLLATE "C" NOT NULL,
    accepted_stamp text COLLATE "C" NOT NULL,
    accepted_at timestamptz,
    backfill boolean,
    revoked_at timestamptz,
    PRIMARY KEY (topic_id, reply_id)
);
COMMENT ON TABLE acceptance IS 'fact: which replies were accepted as solution, and when that was last taken back';
CREATE INDEX acceptance_reply ON acceptance (reply_id);
