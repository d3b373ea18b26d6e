-- A database as the programs of migration 3 made it, before positions were kept in it.
PRAGMA journal_mode = WAL;
CREATE TABLE sessions (id INTEGER PRIMARY KEY, slug TEXT NOT NULL, epoch INTEGER NOT NULL, node TEXT,
  started_at REAL, ended_at REAL, UNIQUE (slug, epoch));
CREATE TABLE participants (id INTEGER PRIMARY KEY, session_id INTEGER NOT NULL REFERENCES sessions (id),
  label TEXT NOT NULL, UNIQUE (session_id, label));
CREATE TABLE transcripts (id INTEGER PRIMARY KEY, session_id INTEGER NOT NULL REFERENCES sessions (id),
  participant_id INTEGER REFERENCES participants (id), utterance_id TEXT NOT NULL, seq INTEGER NOT NULL,
  text TEXT NOT NULL, language TEXT, confidence REAL, start_s REAL NOT NULL, end_s REAL NOT NULL, words TEXT,
  received_at REAL, UNIQUE (session_id, utterance_id), UNIQUE (session_id, seq));
CREATE TABLE erasures (slug TEXT PRIMARY KEY, epoch INTEGER NOT NULL, erased_at REAL NOT NULL);
CREATE TABLE dead (id INTEGER PRIMARY KEY, reason TEXT NOT NULL, topic TEXT NOT NULL, key TEXT NOT NULL,
  epoch INTEGER NOT NULL, value BLOB NOT NULL, at REAL NOT NULL);
CREATE INDEX dead_by_key ON dead (key, epoch);
ALTER TABLE transcripts ADD COLUMN approximate INTEGER NOT NULL DEFAULT 0;
INSERT INTO sessions VALUES
  (1, 'room', 1780000000000, 'a1', 1780000000, 1780000009),
  (2, 'room', 1790000001000, 'a1', 1790000001, NULL);
INSERT INTO participants VALUES (1, 1, 'Bob');
INSERT INTO transcripts (session_id, participant_id, utterance_id, seq, text, start_s, end_s, approximate) VALUES
  (1, 1, '1-0-1', 1, 'Said long ago.', 0, 1, 1),
  (2, NULL, '1-0-0', 1, 'Stored before.', 0, 0.5, 0);
INSERT INTO erasures VALUES ('erased', 1790000000500, 1790000000);
INSERT INTO dead (reason, topic, key, epoch, value, at) VALUES ('a reason', 'journal', 'room', 1780000000000, CAST('x' AS BLOB), 1);
PRAGMA user_version = 3;
