-- A registration, and how long it lives on.
-- KEYS: the registration.
local text = redis.call('GET', KEYS[1])
return text and { text, redis.call('PTTL', KEYS[1]) }
