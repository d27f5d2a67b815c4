-- Every part of a slug of one to three characters, with the owner before it: what terms are found by. The trigrams that went before leave out what is not a letter or a
-- digit, so that they found every `build-cache` for `cache-build`, and had the owner apart, as a list of all its disks that each search read.
CREATE FUNCTION disk_words(owner text, slug text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
  RETURN ARRAY(SELECT DISTINCT owner || ' ' || substr(slug, start, size)
    FROM generate_series(1, length(slug)) AS start, generate_series(1, 3) AS size WHERE start + size <= length(slug) + 1);

CREATE INDEX disk_search_words ON disk_search USING gin (disk_words(owner, slug)) WITH (fastupdate = off);
DROP INDEX disk_search_terms, disk_search_short_terms;
DROP FUNCTION disk_short_words;
