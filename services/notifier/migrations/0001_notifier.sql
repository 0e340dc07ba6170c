CREATE TABLE signing_key (
    key_id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    purpose text NOT NULL CHECK (purpose IN ('token', 'vapid')),
    secret bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE signing_key IS 'primary: keys made on first start: of the links in mails (older ones stay valid), and VAPID''s';

CREATE TABLE contact (
    member_id text COLLATE "C" PRIMARY KEY,
    stamp text COLLATE "C" NOT NULL,
    email text
);
COMMENT ON TABLE contact IS 'fact: the address that the forum knows of each member; null: none any more';

CREATE TABLE own_contact (
    member_id text COLLATE "C" PRIMARY KEY,
    email text,
    verified_at timestamptz,
    pending_email text,
    asked_at timestamptz,
    asked integer NOT NULL DEFAULT 0
);
COMMENT ON TABLE own_contact IS 'primary: the address that a member gave us; once verified it outranks the forum''s';
COMMENT ON COLUMN own_contact.asked IS 'verification mails within the hour that began at asked_at: strangers are not flooded';

CREATE TABLE preference (
    member_id text COLLATE "C" PRIMARY KEY,
    locale text,
    time_zone text,
    channels jsonb NOT NULL DEFAULT '{}',
    quiet_start time,
    quiet_end time,
    daily_budget integer DEFAULT 5 CHECK (daily_budget BETWEEN 0 AND 1000),
    digest text NOT NULL DEFAULT 'off' CHECK (digest IN ('off', 'daily', 'weekly')),
    digest_at time NOT NULL DEFAULT '09:00',
    digest_day smallint NOT NULL DEFAULT 1 CHECK (digest_day BETWEEN 1 AND 7),
    paused_until timestamptz,
    staff boolean NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE preference IS 'primary: what each member wants to be told, where and when; its lock is the member''s';
COMMENT ON COLUMN preference.channels IS 'category -> channel -> whether; only what the member chose, the rest is default';
COMMENT ON COLUMN preference.daily_budget IS 'null: no limit';
COMMENT ON COLUMN preference.staff IS 'whether the member was staff when they last chose: staff alone hear of breaches';
CREATE INDEX preference_staff ON preference (member_id) WHERE staff;

CREATE TABLE interest (
    member_id text COLLATE "C" NOT NULL,
    what text NOT NULL CHECK (what IN ('space', 'tag', 'language', 'topic')),
    value text COLLATE "C" NOT NULL,
    muted boolean NOT NULL,
    PRIMARY KEY (member_id, what, value)
);
COMMENT ON TABLE interest IS 'primary: what each member follows and mutes';
CREATE INDEX interest_followers ON interest (what, value, member_id) WHERE NOT muted;

CREATE TABLE push_subscription (
    subscription_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    member_id text COLLATE "C" NOT NULL,
    endpoint text COLLATE "C" NOT NULL UNIQUE,
    p256dh bytea NOT NULL,
    auth bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    strikes smallint NOT NULL DEFAULT 0,
    struck_at timestamptz
);
COMMENT ON TABLE push_subscription IS 'primary: browsers that asked for push';
COMMENT ON COLUMN push_subscription.strikes IS 'refusals that look like our own fault, within 24 hours of struck_at';
CREATE INDEX push_subscription_member ON push_subscription (member_id);

CREATE TABLE topic_now (
    topic_id text COLLATE "C" PRIMARY KEY,
    response_sequence bigint,
    answered_at timestamptz,
    within_target boolean,
    kind text,
    claim_sequence bigint,
    claimed_by text COLLATE "C",
    claimed_until timestamptz,
    breached_at timestamptz
);
COMMENT ON TABLE topic_now IS
    'fact: of each topic what topics.events said last: the standing first response, the open claim, the breach';
COMMENT ON COLUMN topic_now.breached_at IS 'the due_at of its target-breached';
CREATE INDEX topic_now_claimed_by ON topic_now (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX topic_now_answered ON topic_now (answered_at) WHERE answered_at IS NOT NULL;
CREATE INDEX topic_now_breached ON topic_now (breached_at) WHERE breached_at IS NOT NULL;

CREATE TABLE notification (
    notification_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dedupe_key uuid NOT NULL UNIQUE,
    member_id text COLLATE "C" NOT NULL,
    category text NOT NULL,
    what text NOT NULL,
    topic_id text COLLATE "C",
    actor_id text COLLATE "C",
    data jsonb NOT NULL,
    at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    in_inbox boolean NOT NULL,
    read_at timestamptz,
    traceparent text,
    made_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE notification IS 'primary: what each member is told, once for ever';
COMMENT ON COLUMN notification.dedupe_key IS 'a hash of the category, what it is about, and the member';
COMMENT ON COLUMN notification.actor_id IS 'another member whom it names';
CREATE INDEX notification_inbox ON notification (member_id, at, notification_id) WHERE in_inbox;
CREATE INDEX notification_unread ON notification (member_id) WHERE in_inbox AND read_at IS NULL;
CREATE INDEX notification_topic ON notification (topic_id, category, member_id) WHERE topic_id IS NOT NULL;
CREATE INDEX notification_actor ON notification (actor_id) WHERE actor_id IS NOT NULL;

CREATE TABLE delivery (
    delivery_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    notification_id bigint NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    channel text NOT NULL,
    target bigint NOT NULL DEFAULT 0,
    priority smallint NOT NULL,
    state text NOT NULL CHECK (state IN (
        'pending', 'leased', 'sending', 'accepted', 'retry', 'unknown', 'bounced', 'suppressed', 'skipped', 'dead'
    )),
    reason text,
    due_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    lease_until timestamptz,
    fence bigint,
    address text,
    provider text,
    history jsonb NOT NULL DEFAULT '[]',
    made_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (notification_id, channel, target)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE delivery IS 'primary: the way of each notification over each channel; never sent again by a rebuild';
COMMENT ON COLUMN delivery.target IS 'which of the member''s addresses of the channel: a push subscription; 0: the only one';
COMMENT ON COLUMN delivery.due_at IS 'when to look at it next, while pending or retry';
COMMENT ON COLUMN delivery.fence IS 'the transaction that leased it: whoever holds an older lease can do nothing more';
COMMENT ON COLUMN delivery.history IS 'what happened to it: [{at, state, reason}, …]';
CREATE INDEX delivery_due ON delivery (channel, priority, due_at) WHERE state IN ('pending', 'retry');
CREATE INDEX delivery_lease ON delivery (lease_until) WHERE state IN ('leased', 'sending');
CREATE INDEX delivery_member ON delivery (member_id, delivery_id);
CREATE INDEX delivery_trouble ON delivery (state, delivery_id)
    WHERE state IN ('retry', 'unknown', 'bounced', 'suppressed', 'dead');

CREATE TABLE job (
    job_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text COLLATE "C" NOT NULL UNIQUE,
    kind text NOT NULL CHECK (kind IN ('fan-out', 'look-again')),
    data jsonb NOT NULL,
    actor_id text COLLATE "C",
    after text COLLATE "C" NOT NULL DEFAULT '',
    not_before timestamptz NOT NULL DEFAULT now(),
    told bigint NOT NULL DEFAULT 0,
    done_at timestamptz
);
COMMENT ON TABLE job IS 'primary: what concerns very many members, worked off in pages; `after` is how far it is';
CREATE INDEX job_done ON job (done_at) WHERE done_at IS NOT NULL;
CREATE INDEX job_open ON job (not_before, job_id) WHERE done_at IS NULL;
CREATE INDEX job_actor ON job (actor_id) WHERE actor_id IS NOT NULL;

CREATE TABLE digest (
    digest_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    member_id text COLLATE "C" NOT NULL,
    first_at timestamptz NOT NULL,
    closes_at timestamptz NOT NULL,
    closed_at timestamptz
);
COMMENT ON TABLE digest IS 'primary: what is told together; its first item fixes when';
CREATE UNIQUE INDEX digest_open ON digest (member_id) WHERE closed_at IS NULL;
CREATE INDEX digest_closes ON digest (closes_at) WHERE closed_at IS NULL;
CREATE INDEX digest_member ON digest (member_id);

CREATE TABLE digest_item (
    digest_id bigint NOT NULL,
    notification_id bigint NOT NULL,
    PRIMARY KEY (digest_id, notification_id)
);
COMMENT ON TABLE digest_item IS 'primary: the notifications of a digest';

CREATE TABLE spent (
    member_id text COLLATE "C" NOT NULL,
    day date NOT NULL,
    told bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (member_id, day)
);
COMMENT ON TABLE spent IS 'primary: which notifications took from a member''s budget on a day of theirs';
CREATE INDEX spent_day ON spent (day);

CREATE TABLE suppression (
    suppression_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text NOT NULL,
    address text COLLATE "C" NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (channel, address)
);
COMMENT ON TABLE suppression IS 'primary: addresses that nothing is sent to any more, because nobody is there';
CREATE INDEX suppression_member ON suppression (member_id);

CREATE TABLE provider (
    name text COLLATE "C" PRIMARY KEY,
    channel text NOT NULL,
    failures integer NOT NULL DEFAULT 0,
    open_until timestamptz,
    reason text,
    accepted_at timestamptz,
    at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE provider IS 'primary: how each provider does; open_until: nothing is sent over it before that instant';

CREATE TABLE mail (
    mail_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id bigint NOT NULL UNIQUE,
    member_id text COLLATE "C" NOT NULL,
    address text NOT NULL,
    subject text NOT NULL,
    category text NOT NULL,
    named text[] COLLATE "C" NOT NULL,
    raw bytea NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mail IS 'primary: the local mailbox: what would have gone out where no mail server is named';
COMMENT ON COLUMN mail.named IS 'the members whom it names: an erasure takes it away with any of them';
CREATE INDEX mail_member ON mail (member_id, mail_id);
CREATE INDEX mail_named ON mail USING gin (named);
