CREATE TABLE star_rank (
    member_id text COLLATE "C" PRIMARY KEY,
    stamp text COLLATE "C" NOT NULL,
    rank text COLLATE "C"
);
COMMENT ON TABLE star_rank IS 'fact: the rank that each member was last appointed with';
CREATE INDEX star_rank_rank ON star_rank (rank, member_id) WHERE rank IS NOT NULL;
