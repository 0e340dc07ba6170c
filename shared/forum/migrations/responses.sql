CREATE TABLE first_response (
    topic_id text COLLATE "C" PRIMARY KEY,
    sequence bigint NOT NULL,
    reply_id text COLLATE "C",
    within_target boolean,
    backfill boolean NOT NULL
);
COMMENT ON TABLE first_response IS
    'fact: of what topics.events says about each topic''s first response, the highest sequence; reply_id null: none stands';
CREATE INDEX first_response_reply ON first_response (reply_id);
