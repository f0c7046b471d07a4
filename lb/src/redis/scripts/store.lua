-- Stores a session by its name, whatever was there, and as its stream's; returns what is that then.
-- KEYS: by stream, by name. ARGV: the session, its life, 1 if another one of the stream stays.
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
if ARGV[3] == '1' then return put(KEYS[1], ARGV[1], tonumber(ARGV[2])) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
