-- An outbox as the programs before version 4 left it: a session that ended, one that a crash cut, a
-- record with only what v 1 always had, one of a later v, and one whose session was erased meanwhile.
PRAGMA journal_mode = WAL;
CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, v INTEGER NOT NULL, key TEXT NOT NULL,
  epoch INTEGER NOT NULL, added_ms INTEGER NOT NULL, value BLOB NOT NULL);
CREATE TABLE open_sessions (key TEXT NOT NULL, epoch INTEGER NOT NULL, value BLOB NOT NULL,
  PRIMARY KEY (key, epoch)) WITHOUT ROWID;
CREATE INDEX outbox_by_key ON outbox (key);
CREATE TABLE numbering (id INTEGER PRIMARY KEY CHECK (id = 1), highest_epoch INTEGER NOT NULL);
INSERT INTO numbering VALUES (1, 1790000005000);
INSERT INTO outbox (v, key, epoch, added_ms, value) VALUES
  (1, 'room', 1790000001000, 1790000001000, CAST('{"v":1,"type":"session_started","session":"room","epoch":1790000001000,"startedAt":1790000001.000,"node":"a1"}' AS BLOB)),
  (1, 'room', 1790000001000, 1790000002000, CAST('{"v":1,"type":"transcript","session":"room","epoch":1790000001000,"seq":2,"utteranceId":"1-0-1","isFinal":true,"text":"Left in the outbox.","language":"en","speaker":"Ann","confidence":0.5,"start":0.000,"end":1.000,"words":[{"word":"Left","start":0.000,"end":0.200,"confidence":0.9}],"startedAt":1790000001.000,"receivedAt":1790000002.000,"node":"a1"}' AS BLOB)),
  (1, 'room', 1790000001000, 1790000003000, CAST('{"v":1,"type":"transcript","session":"room","epoch":1790000001000,"seq":4,"utteranceId":"1-0-2","text":"And said bare.","start":1,"end":2,"unheardOf":{"a":[1]}}' AS BLOB)),
  (1, 'room', 1790000001000, 1790000003000, CAST('{"v":1,"type":"session_ended","session":"room","epoch":1790000001000,"startedAt":1790000001.000,"endedAt":1790000003.500,"reason":"publisher_left","node":"a1"}' AS BLOB)),
  (1, 'cut', 1790000004000, 1790000004500, CAST('{"v":1,"type":"session_started","session":"cut","epoch":1790000004000,"startedAt":1790000004.000,"node":"a1"}' AS BLOB)),
  (1, 'cut', 1790000004000, 1790000004600, CAST('{"v":1,"type":"transcript","session":"cut","epoch":1790000004000,"seq":1,"utteranceId":"1-0-1","isFinal":true,"text":"Cut short.","language":"en","speaker":null,"confidence":null,"start":0.000,"end":1.000,"words":null,"startedAt":1790000004.000,"receivedAt":1790000004.600,"node":"a1"}' AS BLOB)),
  (1, 'later', 1790000005000, 1790000005000, CAST('{"v":2,"type":"transcript","session":"later","epoch":1790000005000,"seq":1,"utteranceId":"1-0-1","text":"Of a later form.","start":0,"end":1}' AS BLOB)),
  (1, 'erased', 1790000000500, 1790000000600, CAST('{"v":1,"type":"transcript","session":"erased","epoch":1790000000500,"seq":1,"utteranceId":"1-0-1","text":"Not to come back.","start":0,"end":1}' AS BLOB));
INSERT INTO open_sessions VALUES
  ('cut', 1790000004000, CAST('{"v":1,"type":"session_started","session":"cut","epoch":1790000004000,"startedAt":1790000004.000,"node":"a1"}' AS BLOB));
PRAGMA user_version = 3;
