-- Removes a value, if it is what is there.
-- KEYS: the key. ARGV: the value.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return redis.status_reply('OK')
