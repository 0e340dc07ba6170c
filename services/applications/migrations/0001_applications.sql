-- --- what members did -------------------------------------------------------------------------------------------

CREATE INDEX reply_author_posted ON reply (author_id, posted_at);

CREATE TABLE suspension (
    member_id text COLLATE "C" PRIMARY KEY,
    suspended_at timestamptz NOT NULL
);
COMMENT ON TABLE suspension IS 'fact: when each member was last suspended; members.events remembers only the present';

CREATE TABLE contribution (
    member_id text COLLATE "C" NOT NULL,
    month date NOT NULL,
    space text COLLATE "C" NOT NULL,
    language text COLLATE "C" NOT NULL,
    replies int NOT NULL,
    solutions int NOT NULL,
    first_responses int NOT NULL,
    kudos int NOT NULL,
    PRIMARY KEY (member_id, month, space, language)
);
COMMENT ON TABLE contribution IS
    'derived: what became of the replies that a member gave others in a UTC month; '' for no space or language';

CREATE TABLE changed (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    member_id text COLLATE "C" NOT NULL,
    month date,
    backfill boolean NOT NULL
);
COMMENT ON TABLE changed IS
    'derived: whose month waits for the projector; month null: only whether the member is eligible';

CREATE TABLE eligible (
    member_id text COLLATE "C" PRIMARY KEY,
    edition int NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE eligible IS 'derived: who meets every criterion of the present edition';
CREATE INDEX eligible_since ON eligible (since DESC, member_id);

-- --- the programme ------------------------------------------------------------------------------------------------

CREATE TABLE question_bank (
    digest text PRIMARY KEY,
    document jsonb NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE question_bank IS 'primary: banks of quiz questions, each version for ever, by the digest of its content';

CREATE TABLE edition (
    edition int PRIMARY KEY,
    document jsonb NOT NULL,
    bank text NOT NULL REFERENCES question_bank,
    published_at timestamptz NOT NULL DEFAULT now(),
    published_by text COLLATE "C"
);
COMMENT ON TABLE edition IS
    'primary: the programme''s editions: criteria, form, quiz, review, ranks; never changed, the highest is the present one';

CREATE TABLE programme (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    inviting boolean NOT NULL DEFAULT false,
    looked_on date
);
COMMENT ON TABLE programme IS 'primary: whether eligible members are invited by themselves, and when all were last looked at';
INSERT INTO programme DEFAULT VALUES;

CREATE TABLE invitation (
    member_id text COLLATE "C" PRIMARY KEY,
    edition int NOT NULL REFERENCES edition,
    invited_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE invitation IS 'primary: who was told that they may apply, once for ever';

-- --- applications -------------------------------------------------------------------------------------------------

CREATE TABLE application (
    application_id text COLLATE "C" PRIMARY KEY,
    member_id text COLLATE "C" NOT NULL,
    edition int NOT NULL REFERENCES edition,
    state text NOT NULL,
    answers jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    submitted_at timestamptz,
    review_since timestamptz,
    review_due timestamptz,
    closed_at timestamptz,
    outcome text,
    reason text,
    decided_by text COLLATE "C"
);
COMMENT ON TABLE application IS 'primary: applications; what may follow on a state is the table in rules.py';
CREATE UNIQUE INDEX application_open ON application (member_id) WHERE closed_at IS NULL;
CREATE UNIQUE INDEX application_once ON application (member_id, edition) WHERE submitted_at IS NOT NULL;
CREATE INDEX application_member ON application (member_id, created_at);
CREATE INDEX application_review ON application (review_since, application_id) WHERE state = 'in-review';

CREATE TABLE application_change (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application_id text COLLATE "C" NOT NULL REFERENCES application ON DELETE CASCADE,
    at timestamptz NOT NULL,
    action text NOT NULL,
    state text NOT NULL,
    by_id text COLLATE "C",
    detail text
);
COMMENT ON TABLE application_change IS 'primary: what happened to each application, for ever';
CREATE INDEX application_change_of ON application_change (application_id, change_id);

-- The quiz asks this for the time and nothing else: PostgreSQL's clock, also inside a transaction that waited.
CREATE FUNCTION quiz_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

CREATE TABLE quiz_attempt (
    attempt_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application_id text COLLATE "C" NOT NULL REFERENCES application ON DELETE CASCADE,
    number int NOT NULL,
    language text NOT NULL,
    started_at timestamptz NOT NULL,
    deadline timestamptz NOT NULL,
    finished_at timestamptz,
    ended_by text CHECK (ended_by IN ('member', 'time', 'withdrawal')),
    score int,
    passed boolean,
    UNIQUE (application_id, number)
);
COMMENT ON TABLE quiz_attempt IS 'primary: attempts at the quiz; one open at a time';
CREATE UNIQUE INDEX quiz_attempt_open ON quiz_attempt (application_id) WHERE finished_at IS NULL;
CREATE INDEX quiz_attempt_deadline ON quiz_attempt (deadline) WHERE finished_at IS NULL;

CREATE TABLE quiz_question (
    attempt_id bigint NOT NULL REFERENCES quiz_attempt ON DELETE CASCADE,
    n int NOT NULL,
    question_id text NOT NULL,
    options int[] NOT NULL,
    answer int,
    saved_at timestamptz,
    PRIMARY KEY (attempt_id, n)
);
COMMENT ON TABLE quiz_question IS
    'primary: the questions of an attempt, their options as shuffled (the first of the bank is right), and the last answer';
CREATE INDEX quiz_question_id ON quiz_question (question_id);

-- --- review -------------------------------------------------------------------------------------------------------

CREATE TABLE review (
    application_id text COLLATE "C" NOT NULL REFERENCES application ON DELETE CASCADE,
    reviewer_id text COLLATE "C" NOT NULL,
    scores jsonb,
    note text,
    conflict boolean NOT NULL DEFAULT false,
    given_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application_id, reviewer_id),
    CHECK (conflict = (scores IS NULL))
);
COMMENT ON TABLE review IS 'primary: what each reviewer made of an application, or that they stand too near to it';
CREATE INDEX review_reviewer ON review (reviewer_id);

CREATE TABLE discussion (
    note_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application_id text COLLATE "C" NOT NULL REFERENCES application ON DELETE CASCADE,
    author_id text COLLATE "C" NOT NULL,
    text text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE discussion IS 'primary: what reviewers said to each other about an application';
CREATE INDEX discussion_of ON discussion (application_id, note_id);

-- --- membership ---------------------------------------------------------------------------------------------------

CREATE TABLE membership (
    member_id text COLLATE "C" PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('active', 'grace', 'leave', 'retired')),
    rank text COLLATE "C" NOT NULL,
    since timestamptz NOT NULL,
    term_ends timestamptz,
    grace_ends timestamptz,
    leave_since timestamptz,
    leave_until timestamptz,
    retired_at timestamptz,
    listed boolean NOT NULL DEFAULT false,
    about text,
    spaces jsonb NOT NULL DEFAULT '[]',
    languages jsonb NOT NULL DEFAULT '[]'
);
COMMENT ON TABLE membership IS 'primary: who is a Star or was one, their rank and term, and what they say of themselves';
CREATE INDEX membership_due ON membership ((CASE state
    WHEN 'active' THEN term_ends WHEN 'grace' THEN grace_ends WHEN 'leave' THEN leave_until END));
CREATE INDEX membership_listed ON membership (since, member_id) WHERE state <> 'retired';

CREATE TABLE membership_change (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    member_id text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    what text NOT NULL,
    rank text COLLATE "C" NOT NULL,
    by_id text COLLATE "C",
    detail text
);
COMMENT ON TABLE membership_change IS 'primary: the history of each membership, for ever';
CREATE INDEX membership_change_of ON membership_change (member_id, change_id);

-- --- perks --------------------------------------------------------------------------------------------------------

CREATE TABLE perk (
    perk_id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    about text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('access', 'swag')),
    ranks jsonb NOT NULL,
    left_in_stock int CHECK (left_in_stock >= 0),
    claimable boolean NOT NULL,
    offered boolean NOT NULL DEFAULT true,
    made_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE perk IS 'primary: what Stars can get; left_in_stock null: as many as there are Stars; ranks empty: any';

CREATE TABLE perk_grant (
    grant_id text COLLATE "C" PRIMARY KEY,
    perk_id text COLLATE "C" NOT NULL REFERENCES perk,
    member_id text COLLATE "C" NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT now(),
    granted_by text COLLATE "C",
    address text,
    fulfilled_at timestamptz,
    UNIQUE (perk_id, member_id)
);
COMMENT ON TABLE perk_grant IS 'primary: who got which perk; an address stands here only from when it is given until it was used';
CREATE INDEX perk_grant_member ON perk_grant (member_id);

-- --- Star Jam -----------------------------------------------------------------------------------------------------

CREATE TABLE season (
    season_id text COLLATE "C" PRIMARY KEY,
    name text,
    board text,
    opens_at timestamptz,
    closes_at timestamptz,
    opened_stamp text COLLATE "C" NOT NULL DEFAULT '',
    closed_stamp text COLLATE "C" NOT NULL DEFAULT '',
    closed_at timestamptz
);
COMMENT ON TABLE season IS 'fact: the seasons of leaderboard.seasons';

CREATE TABLE season_standing (
    season_id text COLLATE "C" NOT NULL,
    place int NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    rank int NOT NULL,
    points bigint NOT NULL,
    solutions int NOT NULL,
    PRIMARY KEY (season_id, place)
);
COMMENT ON TABLE season_standing IS 'fact: the standings of each closed season as it was told, in the order of its tie rule';
CREATE INDEX season_standing_member ON season_standing (member_id);

CREATE TABLE jam (
    jam_id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    place text NOT NULL,
    starts_on date NOT NULL,
    ends_on date NOT NULL,
    season_id text COLLATE "C" NOT NULL,
    seats int NOT NULL CHECK (seats > 0),
    answer_days int NOT NULL CHECK (answer_days > 0),
    rest_editions int NOT NULL CHECK (rest_editions >= 0),
    most_per_space int CHECK (most_per_space > 0),
    consent text NOT NULL,
    state text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'inviting', 'over')),
    made_at timestamptz NOT NULL DEFAULT now(),
    notes_erased boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE jam IS 'primary: editions of Star Jam and their quota rules';
CREATE INDEX jam_starts ON jam (starts_on, jam_id);

CREATE TABLE jam_guest (
    jam_id text COLLATE "C" NOT NULL REFERENCES jam,
    member_id text COLLATE "C" NOT NULL,
    place int NOT NULL,
    rank int NOT NULL,
    points bigint NOT NULL,
    space text COLLATE "C",
    state text NOT NULL CHECK (state IN ('passed-over', 'waiting', 'invited', 'accepted', 'declined', 'lapsed')),
    why text NOT NULL,
    invited_at timestamptz,
    answer_by timestamptz,
    answered_at timestamptz,
    consented boolean,
    travel_notes text,
    attended boolean,
    PRIMARY KEY (jam_id, member_id)
);
COMMENT ON TABLE jam_guest IS 'primary: the shortlist of a Star Jam, name by name, and what became of each invitation';
CREATE INDEX jam_guest_order ON jam_guest (jam_id, place);
CREATE INDEX jam_guest_due ON jam_guest (answer_by) WHERE state = 'invited';
CREATE INDEX jam_guest_member ON jam_guest (member_id);

-- --- words to Stars, and what others are told ---------------------------------------------------------------------

CREATE TABLE announcement (
    announcement_id text COLLATE "C" PRIMARY KEY,
    title text NOT NULL,
    text text NOT NULL,
    audience text NOT NULL,
    embargo_until timestamptz,
    published_at timestamptz NOT NULL DEFAULT now(),
    published_by text COLLATE "C"
);
COMMENT ON TABLE announcement IS 'primary: what Stars were told; others see it once its embargo is over, if it is meant for everyone';
CREATE INDEX announcement_published ON announcement (published_at DESC, announcement_id);

CREATE TABLE group_member (
    member_id text COLLATE "C" PRIMARY KEY,
    wanted boolean NOT NULL,
    is_in boolean,
    tries int NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL DEFAULT now(),
    problem text
);
COMMENT ON TABLE group_member IS 'primary: who should be in the forum''s group of Stars, and who is known to be; null: not known';
CREATE INDEX group_member_due ON group_member (next_at) WHERE is_in IS DISTINCT FROM wanted;

CREATE TABLE webhook (
    webhook_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    url text NOT NULL,
    body text NOT NULL,
    tries int NOT NULL DEFAULT 0,
    made_at timestamptz NOT NULL DEFAULT now(),
    next_at timestamptz NOT NULL DEFAULT now(),
    problem text,
    UNIQUE (key, url)
);
COMMENT ON TABLE webhook IS 'primary: what other systems are yet to be told; delivered rows are gone';
CREATE INDEX webhook_due ON webhook (next_at);
CREATE INDEX webhook_member ON webhook (member_id);
