CREATE TABLE consumer_offset (
    cluster text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL DEFAULT 0,
    caught_up_at timestamptz,
    PRIMARY KEY (cluster, stream, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE consumer_offset IS 'primary: what of each Kafka partition is applied; the fence of exactly-once effect';
COMMENT ON COLUMN consumer_offset.cluster IS 'Kafka''s cluster id: a new cluster starts its offsets again';
COMMENT ON COLUMN consumer_offset.next_offset IS 'the first offset that is not applied';
COMMENT ON COLUMN consumer_offset.caught_up_at IS 'everything that was in the partition at this instant is applied';

CREATE TABLE sequence (
    stream text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    last bigint NOT NULL,
    PRIMARY KEY (stream, key)
);
COMMENT ON TABLE sequence IS 'primary: the counter of each key of outgoing events; never reset, not even by a rebuild';

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE outbox IS 'primary: events that are decided but not yet in Kafka';

CREATE TABLE dead_letter (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    key bytea,
    value bytea,
    headers jsonb NOT NULL,
    appended_at timestamptz NOT NULL,
    error text NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (cluster, stream, partition, "offset")
);
COMMENT ON TABLE dead_letter IS 'primary: records that could not be applied, as they came, with the reason';
