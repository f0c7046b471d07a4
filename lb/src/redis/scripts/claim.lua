-- Puts a value where nothing is; returns what is there then.
-- KEYS: the key. ARGV: the value, its life.
return put(KEYS[1], ARGV[1], tonumber(ARGV[2]))
