CREATE TABLE member (
    member_id text COLLATE "C" PRIMARY KEY,
    stamp text COLLATE "C" NOT NULL,
    status text NOT NULL,
    into_member_id text COLLATE "C",
    name text,
    locale text,
    time_zone text,
    languages jsonb NOT NULL,
    joined_at timestamptz
);
COMMENT ON TABLE member IS 'fact: the latest record of each member that is not erased';
CREATE INDEX member_into ON member (into_member_id) WHERE into_member_id IS NOT NULL;

CREATE TABLE alias (
    what text NOT NULL CHECK (what IN ('topic', 'member')),
    id text COLLATE "C" NOT NULL,
    root text COLLATE "C" NOT NULL,
    PRIMARY KEY (what, id),
    CHECK (id <> root)
);
COMMENT ON TABLE alias IS 'derived: which id stands for a merged one, chains followed to the end';
CREATE INDEX alias_root ON alias (what, root);

CREATE TABLE erased (
    stand_in text COLLATE "C" PRIMARY KEY,
    erased_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE erased IS
    'primary: keyed hashes of erased members'' ids, the audit of erasure; survives rebuilds, so that nobody comes back';
