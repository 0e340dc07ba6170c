-- Here a member's replies are only looked for when the member's own standing changes: the wide index, which other services
-- count by, would cost every reply for nothing.
DROP INDEX reply_author;
CREATE INDEX reply_author ON reply (author_id);
