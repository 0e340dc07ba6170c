CREATE TABLE rule_version (
    version integer PRIMARY KEY CHECK (version > 0),
    rule_set text NOT NULL,
    from_at timestamptz NOT NULL,
    rules jsonb NOT NULL,
    rewriting boolean NOT NULL DEFAULT false,
    set_by text COLLATE "C",
    set_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE rule_version IS 'primary: the rules and their versions; at an instant the highest version that had begun holds';
COMMENT ON COLUMN rule_version.rewriting IS 'history is being written again by it: it does not hold yet';
INSERT INTO rule_version (version, rule_set, from_at, rules) VALUES (1, 'classic', '-infinity', '{
    "reply": {"points": 1, "most": 3}, "first-response": {"points": 3, "kinds": ["question"]},
    "solution": {"points": 10}, "kudos": {"points": 2}}');

CREATE TABLE epoch (
    alone boolean PRIMARY KEY DEFAULT true CHECK (alone),
    current smallint NOT NULL,
    shadow smallint,
    walked text COLLATE "C",
    oldest smallint NOT NULL
);
COMMENT ON TABLE epoch IS
    'derived: which writing of the ledger is read, which one is made in its shadow, and up to which topic that has come';
COMMENT ON COLUMN epoch.oldest IS 'what is older was cleared away';
INSERT INTO epoch (current, oldest) VALUES (1, 1);

CREATE TABLE topic_lock (topic_id text COLLATE "C" PRIMARY KEY);
COMMENT ON TABLE topic_lock IS 'derived: one row for each topic that was ever named; who holds it writes the topic''s entries';

CREATE TABLE ledger (
    epoch smallint NOT NULL,
    points integer NOT NULL,
    entry_id text COLLATE "C" NOT NULL,
    rule text NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    status text NOT NULL,
    reason text,
    topic_id text COLLATE "C" NOT NULL,
    reply_id text COLLATE "C" NOT NULL,
    kudos_id text COLLATE "C",
    at timestamptz NOT NULL,
    space text COLLATE "C",
    language text COLLATE "C",
    star boolean NOT NULL,
    backfill boolean NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (entry_id, epoch)
);
COMMENT ON TABLE ledger IS 'derived: one row for each rule and cause, whether it counts or not';
COMMENT ON COLUMN ledger.points IS 'what the rule gives, whatever the status';
COMMENT ON COLUMN ledger.star IS 'the member was a Star at that time';
COMMENT ON COLUMN ledger.backfill IS 'what it is about came as history; no part of equality, as is changed_at';
CREATE INDEX ledger_member ON ledger (member_id, epoch, at DESC, entry_id DESC);
CREATE INDEX ledger_topic ON ledger (topic_id, epoch);

CREATE TABLE changed (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    epoch smallint NOT NULL,
    sign smallint NOT NULL CHECK (sign IN (-1, 1)),
    points integer NOT NULL,
    entry_id text COLLATE "C" NOT NULL,
    rule text NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    topic_id text COLLATE "C" NOT NULL,
    reply_id text COLLATE "C" NOT NULL,
    kudos_id text COLLATE "C",
    at timestamptz NOT NULL,
    space text COLLATE "C",
    language text COLLATE "C",
    star boolean NOT NULL,
    backfill boolean NOT NULL,
    traceparent text
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE changed IS 'derived: what the ledger gained (1) and lost (-1) that the boards do not hold yet';

CREATE TABLE time_zone (
    board text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    set_by text COLLATE "C",
    set_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE time_zone IS 'primary: the time zone of each board that is not on UTC';

CREATE TABLE board (
    board_no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    epoch smallint NOT NULL,
    board text COLLATE "C" NOT NULL,
    time_zone text NOT NULL,
    UNIQUE (epoch, board)
);
COMMENT ON TABLE board IS 'derived: the boards that anything was ever counted on, by number';

CREATE TABLE season (
    season_no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    season_id text COLLATE "C" NOT NULL UNIQUE,
    name text,
    board text COLLATE "C" NOT NULL,
    start_on date NOT NULL,
    end_on date NOT NULL CHECK (end_on > start_on),
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
);
COMMENT ON TABLE season IS 'primary: seasons, in local dates of each board, the end excluded';

CREATE TABLE season_standing (
    season_no integer NOT NULL REFERENCES season,
    board text COLLATE "C" NOT NULL,
    place integer NOT NULL,
    rank integer NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    points integer NOT NULL,
    solutions integer NOT NULL,
    reached_at timestamptz NOT NULL,
    PRIMARY KEY (season_no, board, place)
);
COMMENT ON TABLE season_standing IS 'primary: the standings of closed seasons, for ever; reached_at decided between equals';
CREATE INDEX season_standing_member ON season_standing (member_id, season_no, board);

-- A period is a window and its beginning in one number: 4,000,000 for each kind of window (all, day, week, month,
-- quarter, year, season) and the days since 1970 of its first day; of a season its number.
CREATE TABLE standing (
    board_no integer NOT NULL,
    period integer NOT NULL,
    points bigint NOT NULL,
    reached_at timestamptz NOT NULL,
    solutions integer NOT NULL,
    entries integer NOT NULL,
    listed boolean NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (member_id, board_no, period)
) WITH (fillfactor = 85);
COMMENT ON TABLE standing IS 'derived: what each member has on each board in each period that they have an effective entry in';
COMMENT ON COLUMN standing.reached_at IS 'the time of the latest counted entry: when the total was reached';
COMMENT ON COLUMN standing.listed IS 'false: the member opted out or was erased';
CREATE FUNCTION board_period(board_no integer, period integer) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (board_no::bigint << 32) + period;
COMMENT ON FUNCTION board_period IS
    'a board in a period as one number. The order of a board is found by it alone: with the plain columns in that index, the planner would take it to find one member in, too, and walk through the whole board';
CREATE INDEX standing_order ON standing (board_period(board_no, period), listed, (-points), (-solutions), reached_at);

CREATE TABLE score (
    board_no integer NOT NULL,
    period integer NOT NULL,
    points bigint NOT NULL,
    members integer NOT NULL,
    PRIMARY KEY (board_no, period, points)
) WITH (fillfactor = 70);
COMMENT ON TABLE score IS 'derived: how many listed members have exactly so many points';

CREATE TABLE score_block (
    board_no integer NOT NULL,
    period integer NOT NULL,
    block integer NOT NULL,
    members integer NOT NULL,
    PRIMARY KEY (board_no, period, block)
) WITH (fillfactor = 70);
COMMENT ON TABLE score_block IS 'derived: the same for every 256 scores, so that a rank reads two short ranges';

CREATE FUNCTION period_of(kind integer, day date) RETURNS integer LANGUAGE sql IMMUTABLE RETURN
    CASE kind WHEN 0 THEN 0 ELSE 4000000 * kind + (
        date_trunc((ARRAY['day', 'week', 'month', 'quarter', 'year'])[kind], day::timestamp)::date - '1970-01-01'::date
    ) END;
COMMENT ON FUNCTION period_of IS 'the number of the window of this kind (0 all, 1 day, ... 5 year) that a local date lies in';

CREATE FUNCTION members_above(of_board integer, of_period integer, of_points bigint) RETURNS bigint LANGUAGE sql STABLE
RETURN (
    SELECT coalesce(sum(members), 0) FROM score_block
    WHERE board_no = of_board AND period = of_period AND block > (of_points >> 8)
) + (
    SELECT coalesce(sum(members), 0) FROM score
    WHERE board_no = of_board AND period = of_period AND points > of_points AND points < ((of_points >> 8) + 1) << 8
);
COMMENT ON FUNCTION members_above IS 'how many listed members have more points; their rank is one more';

CREATE TABLE hidden (
    member_id text COLLATE "C" PRIMARY KEY,
    hidden_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE hidden IS 'primary: members who do not want to be seen on boards';

CREATE TABLE unlisted (member_id text COLLATE "C" PRIMARY KEY);
COMMENT ON TABLE unlisted IS 'derived: who appears on no open board: those who are hidden, by whom they stand for, and the erased';

CREATE TABLE milestone (
    member_id text COLLATE "C" NOT NULL,
    board text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    reached_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (member_id, board, kind)
);
COMMENT ON TABLE milestone IS 'primary: which milestones were told, once for ever';

CREATE TABLE board_change (
    fold bigint NOT NULL,
    board text COLLATE "C" NOT NULL,
    member_ids jsonb,
    folded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (board, fold)
);
COMMENT ON TABLE board_change IS
    'derived: who moved on which board lately, for those who watch it; member_ids null: look at all of it again';
CREATE SEQUENCE fold;
