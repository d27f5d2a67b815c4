-- Until when the certificate of a node on another machine is good, as the server that leads saw it last. NULL: none has been seen.
ALTER TABLE nodes ADD COLUMN certificate_until_ms INTEGER;
