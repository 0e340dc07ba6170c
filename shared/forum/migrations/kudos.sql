CREATE TABLE kudos (
    kudos_id text COLLATE "C" PRIMARY KEY,
    given_stamp text COLLATE "C" NOT NULL,
    given_at timestamptz,
    topic_id text COLLATE "C",
    reply_id text COLLATE "C",
    giver_id text COLLATE "C",
    backfill boolean,
    revoked_at timestamptz
);
COMMENT ON TABLE kudos IS 'fact: kudos on replies (reply_id null: on the topic itself; giver_id null: an anonymous vote)';
CREATE INDEX kudos_reply ON kudos (reply_id, giver_id, given_at, kudos_id);
CREATE INDEX kudos_giver ON kudos (giver_id, reply_id);
