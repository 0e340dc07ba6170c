-- Titles are searched by the beginnings of their words. On the facts, not on topic_state, whose rows change more often.
CREATE INDEX topic_title ON topic USING gin (to_tsvector('simple', coalesce(title, '')));
