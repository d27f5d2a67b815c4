-- The authorities that sign the certificates of the installation's nodes and servers: certificate and key, both PEM. There is one, and a second one while it is being renewed.
CREATE TABLE authorities (
  number INTEGER PRIMARY KEY,
  certificate TEXT NOT NULL,
  -- Null: it was retired. It signs nothing, and is not believed.
  private_key TEXT
) STRICT;
INSERT INTO authorities (number, certificate, private_key) SELECT 1, certificate, private_key FROM authority;
DROP TABLE authority;

-- The number of the authority that signed the certificate of the node, as the server that leads saw it last, and of the oldest one that the node believes, as it was told last. NULL: not known.
ALTER TABLE nodes ADD COLUMN certificate_authority INTEGER;
ALTER TABLE nodes ADD COLUMN oldest_authority INTEGER;
