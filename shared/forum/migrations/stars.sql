CREATE TABLE star_change (
    member_id text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    appointed boolean NOT NULL,
    PRIMARY KEY (member_id, at, appointed)
);
COMMENT ON TABLE star_change IS 'fact: when members were appointed Star and retired; of two at one instant, retired holds';
